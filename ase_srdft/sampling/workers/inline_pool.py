"""Sampling in the trainer's own process, in turn with training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ase_srdft.sampling.workers.resumable_sampler import ResumableSampler
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage
from ase_srdft.sampling.workers.worker_report import WorkerReport

__all__ = ["InlinePool"]


class InlinePool:
    """One message of one sampler for each version of the weights, made when it is collected.

    Args:
        new_sampler: from the sampler's checkpoint; it moves on the energy of the trainer's weights.
    """

    def __init__(self, new_sampler: Callable[[SamplerCheckpoint], ResumableSampler]) -> None:
        self._new_sampler = new_sampler
        self._sampler: ResumableSampler | None = None
        self._version: int | None = None

    def start(self, checkpoints: Sequence[SamplerCheckpoint]) -> None:
        """See `SamplerPool`."""
        (checkpoint,) = checkpoints
        self._sampler, self._version = self._new_sampler(checkpoint), None

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """See `SamplerPool`; the weights are here already."""
        self._version = version

    def collect(self) -> list[SamplerMessage]:
        """See `SamplerPool`; this is where the sampling is done."""
        sampler, version = self._sampler, self._version
        if sampler is None or version is None or sampler.checkpoint.version == version:
            return []
        return [sampler.advance(version)]

    def reports(self) -> list[WorkerReport]:
        """See `SamplerPool`; there are no workers."""
        return []

    def stop(self) -> None:
        """See `SamplerPool`."""
        self._sampler = self._version = None
