"""Where sampling runs: one protocol, and engines that mean the same by it.

The trainer publishes weights under their version (its step) and collects chunks of samples made
with them.  ``sync`` samples when new weights are published, in the same process: the oracle.
``local`` and ``ray`` sample all the time, elsewhere, with the newest weights there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ase_srdft.sampling.workers.resumable_sampler import ResumableSampler
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage

__all__ = ["InlinePool", "SamplerPool", "WorkerReport"]


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """A worker that died or fell silent, and was started again.

    Attributes:
        worker: which one.
        reason: in words.
        nrestarts: of all workers so far.
    """

    worker: str
    reason: str
    nrestarts: int


@runtime_checkable
class SamplerPool(Protocol):
    """Where sampling runs."""

    def start(self, states: Sequence[SamplerCheckpoint]) -> None:
        """Get the samplers ready to go on from these states."""
        ...

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """Give the samplers new weights; they take them before their next chunk."""
        ...

    def collect(self) -> list[SamplerMessage]:
        """The chunks there are; never waits for one.

        Raises:
            WorkerFailed: too many workers died.
        """
        ...

    def reports(self) -> list[WorkerReport]:
        """What has befallen the workers since the last time."""
        ...

    def stop(self) -> None:
        """End everything, within seconds, in whatever state; `start` may follow."""
        ...


class InlinePool:
    """One chunk of one sampler for each version of the weights, made when it is collected.

    Args:
        new_producer: from the sampler's state; the trainer's weights are the surface it moves on.
    """

    def __init__(self, new_producer: Callable[[SamplerCheckpoint], ResumableSampler]) -> None:
        self._new_producer = new_producer
        self._producer: ResumableSampler | None = None
        self._version: int | None = None

    def start(self, states: Sequence[SamplerCheckpoint]) -> None:
        """See `SamplerPool`."""
        (state,) = states
        self._producer, self._version = self._new_producer(state), None

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """See `SamplerPool`; the weights are here already."""
        self._version = version

    def collect(self) -> list[SamplerMessage]:
        """See `SamplerPool`; this is where the sampling is done."""
        producer, version = self._producer, self._version
        if producer is None or version is None or producer.state.version == version:
            return []
        return [producer.advance(version)]

    def reports(self) -> list[WorkerReport]:
        """See `SamplerPool`; there are no workers."""
        return []

    def stop(self) -> None:
        """See `SamplerPool`."""
        self._producer = self._version = None
