"""Sampling for several ranks: the lead's engine, whose chunks all ranks get."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ase_srdft.parallel.ranks import Ranks
from ase_srdft.sampling.workers.chunk import Chunk, SamplerState
from ase_srdft.sampling.workers.sampler_pool import Engine, WorkerReport

__all__ = ["LedEngine"]

_Collected = tuple[list[Chunk], list[WorkerReport]]


class LedEngine:
    """An `Engine` on every rank, with something behind it on the lead alone.

    All ranks must collect at the same step.  Integrals stay with the lead: the others get the
    positions, and prepare those that fall to them.

    Args:
        ranks: of the run.
        new_engine: called on the lead.
    """

    def __init__(self, ranks: Ranks, new_engine: Callable[[], Engine]) -> None:
        self.ranks = ranks
        self.engine = new_engine() if ranks.leads else None
        self._reports: list[WorkerReport] = []

    def start(self, states: Sequence[SamplerState]) -> None:
        """See `Engine`."""
        if self.engine is not None:
            self.engine.start(states)

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """See `Engine`."""
        if self.engine is not None:
            self.engine.publish(version, weights)

    def collect(self) -> list[Chunk]:
        """See `Engine`; waits for the lead."""
        chunks, reports = self.ranks.from_lead(self._collected, _without_integrals)
        self._reports += reports
        return chunks

    def reports(self) -> list[WorkerReport]:
        """See `Engine`."""
        reports, self._reports = self._reports, []
        return reports

    def stop(self) -> None:
        """See `Engine`; waits for no other rank."""
        if self.engine is not None:
            self.engine.stop()

    def _collected(self) -> _Collected:
        assert self.engine is not None
        return self.engine.collect(), self.engine.reports()


def _without_integrals(collected: _Collected) -> _Collected:
    chunks, reports = collected
    return [_light(chunk) for chunk in chunks], reports


def _light(chunk: Chunk) -> Chunk:
    samples = [replace(sample, geometry=None) for sample in chunk.round.samples]
    return replace(chunk, round=replace(chunk.round, samples=samples))
