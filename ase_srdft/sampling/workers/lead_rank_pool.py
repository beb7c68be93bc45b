"""Sampling for several ranks: the pool of the lead rank, whose messages all ranks get."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ase_srdft.parallel.ranks import Ranks
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage
from ase_srdft.sampling.workers.sampler_pool import SamplerPool
from ase_srdft.sampling.workers.worker_report import WorkerReport

__all__ = ["LeadRankPool"]

_Collected = tuple[list[SamplerMessage], list[WorkerReport]]


class LeadRankPool:
    """A `SamplerPool` on every rank; only the lead rank has samplers.

    All ranks must collect at the same step.  Integrals stay on the lead rank: the others get the
    positions, and prepare the geometries of their share.

    Args:
        ranks: of the run.
        new_pool: called on the lead rank.
    """

    def __init__(self, ranks: Ranks, new_pool: Callable[[], SamplerPool]) -> None:
        self.ranks = ranks
        self.pool = new_pool() if ranks.is_lead else None
        self._reports: list[WorkerReport] = []

    def start(self, checkpoints: Sequence[SamplerCheckpoint]) -> None:
        """See `SamplerPool`."""
        if self.pool is not None:
            self.pool.start(checkpoints)

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """See `SamplerPool`."""
        if self.pool is not None:
            self.pool.publish(version, weights)

    def collect(self) -> list[SamplerMessage]:
        """See `SamplerPool`; waits for the lead rank."""
        messages, reports = self.ranks.run_on_lead(self._collected, _without_integrals)
        self._reports += reports
        return messages

    def reports(self) -> list[WorkerReport]:
        """See `SamplerPool`."""
        reports, self._reports = self._reports, []
        return reports

    def stop(self) -> None:
        """See `SamplerPool`; waits for no other rank."""
        if self.pool is not None:
            self.pool.stop()

    def _collected(self) -> _Collected:
        assert self.pool is not None
        return self.pool.collect(), self.pool.reports()


def _without_integrals(collected: _Collected) -> _Collected:
    messages, reports = collected
    return [_light(message) for message in messages], reports


def _light(message: SamplerMessage) -> SamplerMessage:
    samples = [replace(sample, geometry=None) for sample in message.batch.samples]
    return replace(message, batch=replace(message.batch, samples=samples))
