"""Samplers as processes of this machine, each on its own device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from safetensors import SafetensorError
from torch import Tensor

from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.parallel.worker_process import WorkerProcess
from ase_srdft.sampling.workers.sampler_message import (
    SamplerCheckpoint,
    SamplerMessage,
    checkpoint_to_message,
    from_message,
)
from ase_srdft.sampling.workers.sampler_orders import SamplerOrders
from ase_srdft.sampling.workers.supervised_pool import (
    SupervisedPool,
    UnreadableMessage,
    WorkerSampler,
)

__all__ = ["ProcessPool"]

_MODULE = "ase_srdft.sampling.workers.process_main"


class ProcessPool(SupervisedPool[WorkerProcess]):
    """Samplers that are processes and talk through a directory of temporary files.

    Arguments and restarts: see `SupervisedPool`.
    """

    _mailbox: Mailbox | None = None

    @property
    def processes(self) -> list[WorkerProcess]:
        """The sampler processes there are."""
        return [s.worker for s in self._samplers if s.worker is not None]

    def start(self, checkpoints: Sequence[SamplerCheckpoint]) -> None:
        """See `SamplerPool`."""
        self._mailbox = Mailbox.create()
        self._mailbox.write("blueprint", self.blueprint.to_plain())
        super().start(checkpoints)

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """See `SamplerPool`."""
        if self._mailbox is not None:
            self._mailbox.publish(version, weights)

    def stop(self) -> None:
        """See `SamplerPool`; what was not collected is made again after the next start."""
        for process in self.processes:
            process.request_end()
        for process in self.processes:
            process.end()
        self._samplers = []
        if self._mailbox is not None:
            self._mailbox.remove()
            self._mailbox = None

    def _sent(self, sampler: WorkerSampler[WorkerProcess]) -> Iterator[SamplerMessage]:
        assert self._mailbox is not None
        for path in self._mailbox.waiting(sampler.name):
            try:
                tensors, plain = self._mailbox.take(path)
                message = from_message(tensors, plain, self.molecules, self.device)
            except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as err:
                raise UnreadableMessage(f"{type(err).__name__}: {err}") from err
            yield message

    def _launch(self, sampler: WorkerSampler[WorkerProcess]) -> WorkerProcess:
        assert self._mailbox is not None
        starting = f"{sampler.name}-start"
        for name in (sampler.name, starting):
            for path in self._mailbox.waiting(name):
                path.unlink()
        tensors, plain = checkpoint_to_message(sampler.checkpoint)
        self._mailbox.put(starting, sampler.checkpoint.nmessages, tensors, plain)
        (start,) = self._mailbox.waiting(starting)
        orders = SamplerOrders(
            start=start.name, device=sampler.device, queue_size=self.config.queue_size
        )
        self._mailbox.write(f"{sampler.name}.orders", orders.to_plain())
        return WorkerProcess(sampler.name, _MODULE, self._mailbox)

    def _tend(self, worker: WorkerProcess) -> str | None:
        return worker.trouble(self.config.silence_seconds)

    def _end(self, worker: WorkerProcess) -> None:
        worker.end()

    def _last_words(self, worker: WorkerProcess) -> str:
        return worker.last_words()
