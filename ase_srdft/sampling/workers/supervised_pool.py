"""What all engines have in common whose samplers are workers elsewhere: order, restarts, reports.

How a worker is started, heard and ended is for `LocalEngine` and `RayEngine` to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Generic, TypeVar

import torch

from ase_srdft.common.errors import WorkerFailed
from ase_srdft.dft.molecule import Molecule
from ase_srdft.sampling.config import EngineConfig
from ase_srdft.sampling.workers.chunk import Chunk, SamplerState
from ase_srdft.sampling.workers.resumable_sampler import Recipe
from ase_srdft.sampling.workers.sampler_pool import WorkerReport

__all__ = ["UnreadableChunk", "WorkerEngine", "WorkerSampler"]

#: Of a worker's last words in a report.
_WORDS_LENGTH = 200

WorkerT = TypeVar("WorkerT")


class UnreadableChunk(Exception):
    """A worker sent something else than a chunk; the message says what is wrong with it."""


@dataclass(kw_only=True, eq=False)
class WorkerSampler(Generic[WorkerT]):
    """A sampler and where it was after the last chunk that was collected.

    Attributes:
        name: for reports.
        device: where it computes.
        state: where its worker would be started again.
        worker: that samples for it.
    """

    name: str
    device: str
    state: SamplerState
    worker: WorkerT | None = None


class WorkerEngine(ABC, Generic[WorkerT]):
    """Samplers that are workers.

    A worker that dies, or falls silent, is started again from the last chunk that was collected,
    so nothing is lost or counted twice but what it was at.

    Args:
        config: how many samplers, where, and what is done about trouble.
        recipe: of the molecules and the model.
        molecules: those of the recipe, for the chunks.
        device: of the trainer: where chunks go, and where samplers run if nothing else is said.
    """

    def __init__(
        self,
        config: EngineConfig,
        recipe: Recipe,
        molecules: Sequence[Molecule],
        device: torch.device,
    ) -> None:
        self.config = config
        self.recipe = recipe
        self.molecules = tuple(molecules)
        self.device = device
        self.nrestarts = 0
        self._samplers: list[WorkerSampler[WorkerT]] = []
        self._reports: list[WorkerReport] = []

    @property
    def sampler_devices(self) -> tuple[str, ...]:
        """Where samplers compute, in turn."""
        return self.config.sampler_devices or (str(self.device),)

    def start(self, states: Sequence[SamplerState]) -> None:
        """See `Engine`."""
        devices = self.sampler_devices
        for state in states:
            device = devices[state.sampler % len(devices)]
            name = f"sampler-{state.sampler}"
            self._samplers.append(WorkerSampler(name=name, device=device, state=state))
        for sampler in self._samplers:
            sampler.worker = self._launch(sampler)

    def collect(self) -> list[Chunk]:
        """See `Engine`."""
        chunks: list[Chunk] = []
        for sampler in self._samplers:
            trouble = self._take(sampler, chunks)
            if trouble is None and sampler.worker is not None:
                trouble = self._tend(sampler.worker)
            if trouble is not None:
                self._restart(sampler, trouble)
        return chunks

    def reports(self) -> list[WorkerReport]:
        """See `Engine`."""
        reports, self._reports = self._reports, []
        return reports

    def _take(self, sampler: WorkerSampler[WorkerT], chunks: list[Chunk]) -> str | None:
        """Take in what a sampler has sent; returns what was wrong with it."""
        try:
            for chunk in self._sent(sampler):
                if chunk.state.nchunks != sampler.state.nchunks + 1:
                    return f"sent chunk {chunk.state.nchunks} after {sampler.state.nchunks}"
                sampler.state = chunk.state
                chunks.append(chunk)
        except UnreadableChunk as err:
            return f"sent what cannot be read ({err})"
        return None

    def _restart(self, sampler: WorkerSampler[WorkerT], trouble: str) -> None:
        assert sampler.worker is not None
        self._end(sampler.worker)
        words = self._last_words(sampler.worker)
        if self.nrestarts >= self.config.max_restarts:
            raise WorkerFailed(
                f"{sampler.name} {trouble}, after {self.nrestarts} restarts of samplers; its last "
                f"words:\n{words or '(none)'}"
            )
        self.nrestarts += 1
        if words:
            trouble += f" ({shorten(words.splitlines()[-1], _WORDS_LENGTH, placeholder=' ...')})"
        report = WorkerReport(worker=sampler.name, reason=trouble, nrestarts=self.nrestarts)
        self._reports.append(report)
        sampler.worker = self._launch(sampler)

    @abstractmethod
    def _launch(self, sampler: WorkerSampler[WorkerT]) -> WorkerT:
        """A worker that goes on from the sampler's state; what the last one sent is void."""

    @abstractmethod
    def _sent(self, sampler: WorkerSampler[WorkerT]) -> Iterator[Chunk]:
        """The chunks that have come from a sampler, in order; raises `UnreadableChunk`."""

    @abstractmethod
    def _tend(self, worker: WorkerT) -> str | None:
        """Keep a worker going; what is wrong with it, in words, or None while it works."""

    @abstractmethod
    def _end(self, worker: WorkerT) -> None:
        """End a worker, in whatever state."""

    @abstractmethod
    def _last_words(self, worker: WorkerT) -> str:
        """What an ended worker had to say: its traceback, if it had time for one."""
