"""Where sampling runs: the protocol that all pools of samplers keep.

The trainer publishes weights under their version (its step) and collects messages of samples
made with them.  ``sync`` samples when new weights are published, in the same process: the oracle.
``local`` and ``ray`` sample all the time, elsewhere, with the newest weights there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage
from ase_srdft.sampling.workers.worker_report import WorkerReport

__all__ = ["SamplerPool"]


@runtime_checkable
class SamplerPool(Protocol):
    """Where sampling runs."""

    def start(self, checkpoints: Sequence[SamplerCheckpoint]) -> None:
        """Get the samplers ready to go on from these checkpoints."""
        ...

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """Give the samplers new weights; they take them before their next message."""
        ...

    def collect(self) -> list[SamplerMessage]:
        """The messages there are; never waits for one.

        Raises:
            WorkerFailed: too many workers died.
        """
        ...

    def reports(self) -> list[WorkerReport]:
        """Restarts of workers since the last call."""
        ...

    def stop(self) -> None:
        """End everything within seconds, in any state; `start` may follow."""
        ...
