"""What pools with samplers in other processes share: order of messages, restarts, reports.

How a worker is started, watched and ended is for `ProcessPool` and `RayPool` to say.
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
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage
from ase_srdft.sampling.workers.worker_report import WorkerReport

__all__ = ["SupervisedPool", "UnreadableMessage", "WorkerSampler"]

#: Of a worker's last words in a report.
_WORDS_LENGTH = 200

WorkerT = TypeVar("WorkerT")


class UnreadableMessage(Exception):
    """Raised when a worker sent something that cannot be read; its text says why."""


@dataclass(kw_only=True, eq=False)
class WorkerSampler(Generic[WorkerT]):
    """A sampler and where it was after the last message that was collected.

    Attributes:
        name: for reports.
        device: where it computes.
        checkpoint: where its worker would be started again.
        worker: that samples for it.
    """

    name: str
    device: str
    checkpoint: SamplerCheckpoint
    worker: WorkerT | None = None


class SupervisedPool(ABC, Generic[WorkerT]):
    """Samplers that are workers.

    A worker that dies, or falls silent, is started again from the last message that was collected,
    so no collected sample is lost or counted twice; only its unfinished message is made again.

    Args:
        config: how many samplers, where, and what is done about trouble.
        blueprint: of the molecules and the model.
        molecules: those of the blueprint, for the messages.
        device: of the trainer: where messages go, and where samplers run if nothing else is said.
    """

    def __init__(
        self,
        config: EngineConfig,
        blueprint: SamplerBlueprint,
        molecules: Sequence[Molecule],
        device: torch.device,
    ) -> None:
        self.config = config
        self.blueprint = blueprint
        self.molecules = tuple(molecules)
        self.device = device
        self.nrestarts = 0
        self._samplers: list[WorkerSampler[WorkerT]] = []
        self._reports: list[WorkerReport] = []

    @property
    def sampler_devices(self) -> tuple[str, ...]:
        """Where samplers compute, in turn."""
        return self.config.sampler_devices or (str(self.device),)

    def start(self, checkpoints: Sequence[SamplerCheckpoint]) -> None:
        """See `SamplerPool`."""
        devices = self.sampler_devices
        for checkpoint in checkpoints:
            device = devices[checkpoint.sampler % len(devices)]
            name = f"sampler-{checkpoint.sampler}"
            self._samplers.append(WorkerSampler(name=name, device=device, checkpoint=checkpoint))
        for sampler in self._samplers:
            sampler.worker = self._launch(sampler)

    def collect(self) -> list[SamplerMessage]:
        """See `SamplerPool`."""
        messages: list[SamplerMessage] = []
        for sampler in self._samplers:
            trouble = self._take(sampler, messages)
            if trouble is None and sampler.worker is not None:
                trouble = self._tend(sampler.worker)
            if trouble is not None:
                self._restart(sampler, trouble)
        return messages

    def reports(self) -> list[WorkerReport]:
        """See `SamplerPool`."""
        reports, self._reports = self._reports, []
        return reports

    def _take(self, sampler: WorkerSampler[WorkerT], messages: list[SamplerMessage]) -> str | None:
        """Take in what a sampler has sent; returns what was wrong with it."""
        try:
            for message in self._sent(sampler):
                number, last = message.checkpoint.nmessages, sampler.checkpoint.nmessages
                if number != last + 1:
                    return f"sent message {number} after {last}"
                sampler.checkpoint = message.checkpoint
                messages.append(message)
        except UnreadableMessage as err:
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
        """A worker that goes on from the sampler's checkpoint; what the last one sent is void."""

    @abstractmethod
    def _sent(self, sampler: WorkerSampler[WorkerT]) -> Iterator[SamplerMessage]:
        """The messages that have come from a sampler, in order; raises `UnreadableMessage`."""

    @abstractmethod
    def _tend(self, worker: WorkerT) -> str | None:
        """Keep a worker going; what is wrong with it, in words, or None while it works."""

    @abstractmethod
    def _end(self, worker: WorkerT) -> None:
        """End a worker, in whatever state."""

    @abstractmethod
    def _last_words(self, worker: WorkerT) -> str:
        """What an ended worker had to say: its traceback, if it had time for one."""
