"""Samplers as actors of a Ray cluster.

Ray is an optional dependency and is imported here alone, when a `RayPool` is made.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.molecule import Molecule
from ase_srdft.parallel.worker_process import STARTING_SECONDS
from ase_srdft.sampling.config import EngineConfig
from ase_srdft.sampling.workers.ray_actor import RaySampler
from ase_srdft.sampling.workers.ray_cluster import connect, device_kind, environment, resources
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_message import (
    SamplerCheckpoint,
    SamplerMessage,
    checkpoint_to_message,
    from_message,
)
from ase_srdft.sampling.workers.supervised_pool import (
    SupervisedPool,
    UnreadableMessage,
    WorkerSampler,
)

__all__ = ["RayPool"]

#: What is there already is fetched within this time, or the node that has it is gone.
_FETCH_SECONDS = 60.0
#: Seconds between questions whether an actor is alive.
_ASK_EVERY_SECONDS = 1.0
#: The thread of an actor that answers while another makes a message.
_SIDE = "side"


@dataclass(kw_only=True, eq=False)
class _Actor:
    """An actor and what was asked of it.

    Attributes:
        handle: Ray's.
        messages: promised, in order.
        answer: promised to the last question on the side.
        asked: when that was (seconds of ``time.monotonic``).
        heard: when the last sign of life came.
        nheartbeats: signs of life so far; -1 until the first answer.
        sent_version: of the weights it was sent last.
        ack_version: of the weights it has.
        failure: what became of it, once it has failed.
        last_words: its traceback, or Ray's account of its death.
    """

    handle: Any
    asked: float
    heard: float
    messages: deque[Any] = field(default_factory=deque)
    answer: Any = None
    nheartbeats: int = -1
    sent_version: int = -1
    ack_version: int = -1
    failure: str | None = None
    last_words: str = ""


class RayPool(SupervisedPool[_Actor]):
    """Samplers that are actors of a Ray cluster, one each.

    It joins the cluster of ``RAY_ADDRESS``, or that which ``ray start`` has started on this
    machine; where there is neither it starts one of this machine alone.  All that must last is
    kept here: weights, the samplers' checkpoints and the messages.  Arguments and restarts: see
    `SupervisedPool`.

    Raises:
        BadInput: Ray is not installed, or a sampler's device is neither CPU nor CUDA.
    """

    def __init__(
        self,
        config: EngineConfig,
        blueprint: SamplerBlueprint,
        molecules: Sequence[Molecule],
        device: torch.device,
    ) -> None:
        super().__init__(config, blueprint, molecules, device)
        self._ray = _imported_ray()
        for name in self.sampler_devices:
            device_kind(name)
        self._connected_here = False
        self._weights: tuple[int, Any] | None = None
        self._options: dict[str, dict[str, Any]] = {}

    @property
    def actors(self) -> list[Any]:
        """Ray's handles of the actors there are."""
        return [s.worker.handle for s in self._samplers if s.worker is not None]

    def start(self, checkpoints: Sequence[SamplerCheckpoint]) -> None:
        """See `SamplerPool`.

        Raises:
            BadInput: the cluster cannot be reached, or has no GPU where one is asked for.
        """
        if not self._ray.is_initialized():
            connect(self._ray)
            self._connected_here = True
        devices = self.sampler_devices
        kinds = [
            device_kind(devices[checkpoint.sampler % len(devices)]) for checkpoint in checkpoints
        ]
        self._options = resources(kinds, self._ray.cluster_resources())
        super().start(checkpoints)

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """See `SamplerPool`."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        self._weights = version, self._ray.put(save(tensors))
        for sampler in self._samplers:
            if sampler.worker is not None and sampler.worker.answer is None:
                self._ask(sampler.worker)

    def stop(self) -> None:
        """See `SamplerPool`; what was not collected is made again after the next start."""
        for handle in self.actors:
            self._ray.kill(handle, no_restart=True)
        self._samplers, self._weights = [], None
        if self._connected_here:
            self._connected_here = False
            self._ray.shutdown()

    def _launch(self, sampler: WorkerSampler[_Actor]) -> _Actor:
        tensors, plain = checkpoint_to_message(sampler.checkpoint)
        kind = device_kind(sampler.device)
        actor_class = self._ray.remote(
            max_restarts=0, max_task_retries=0, concurrency_groups={_SIDE: 1}
        )(RaySampler)
        handle = actor_class.options(
            runtime_env={"env_vars": environment()}, **self._options[kind]
        ).remote(self.blueprint, (save(tensors), plain), kind)
        now = time.monotonic()
        actor = _Actor(handle=handle, asked=now, heard=now)
        self._ask(actor)
        return actor

    def _sent(self, sampler: WorkerSampler[_Actor]) -> Iterator[SamplerMessage]:
        actor = sampler.worker
        while actor is not None and actor.messages and self._is_there(actor.messages[0]):
            sent = self._fetched(actor, actor.messages.popleft())
            if actor.failure is not None:
                return
            try:
                tensors, plain = sent
                message = from_message(load(tensors), plain, self.molecules, self.device)
            except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as err:
                raise UnreadableMessage(f"{type(err).__name__}: {err}") from err
            actor.heard = time.monotonic()
            yield message

    def _tend(self, worker: _Actor) -> str | None:
        silent = self._listen(worker)
        if worker.failure is not None:
            return worker.failure
        limit = self.config.silence_seconds
        if silent > (limit if worker.nheartbeats >= 0 else max(limit, STARTING_SECONDS)):
            return f"silent for {silent:.0f} s"
        while worker.ack_version >= 0 and len(worker.messages) < self.config.queue_size:
            worker.messages.append(worker.handle.advance.remote())
        return None

    def _end(self, worker: _Actor) -> None:
        self._ray.kill(worker.handle, no_restart=True)

    def _last_words(self, worker: _Actor) -> str:
        return worker.last_words

    def _listen(self, actor: _Actor) -> float:
        """Take an actor's answer and ask again; for how many seconds it has shown no life.

        Time without a look at the answers must not count: the trainer may be busy for longer than
        an actor may be silent.
        """
        now = time.monotonic()
        if actor.answer is not None:
            if not self._is_there(actor.answer):
                return now - actor.asked
            nheartbeats = self._fetched(actor, actor.answer)
            if actor.failure is not None:
                return 0.0
            if nheartbeats != actor.nheartbeats or not actor.messages:
                actor.heard = now
            actor.answer, actor.nheartbeats, actor.ack_version = (
                None,
                nheartbeats,
                actor.sent_version,
            )
        silent = actor.asked - actor.heard
        news = self._weights is not None and self._weights[0] != actor.sent_version
        if news or now - actor.asked > _ASK_EVERY_SECONDS:
            self._ask(actor)
        return silent

    def _ask(self, actor: _Actor) -> None:
        """Send the newest weights if an actor does not have them, else ask for a sign of life."""
        side = {"concurrency_group": _SIDE}
        if self._weights is not None and self._weights[0] != actor.sent_version:
            actor.answer = actor.handle.take.options(**side).remote(*self._weights)
            actor.sent_version = self._weights[0]
        else:
            actor.answer = actor.handle.nheartbeats.options(**side).remote()
        actor.asked = time.monotonic()

    def _is_there(self, promise: Any) -> bool:
        ready, _ = self._ray.wait([promise], timeout=0)
        return bool(ready)

    def _fetched(self, actor: _Actor, promise: Any) -> Any:
        """What was promised and is there; None if that is a failure, which is noted."""
        try:
            return self._ray.get(promise, timeout=_FETCH_SECONDS)
        except self._ray.exceptions.RayError as err:
            failed = isinstance(err, self._ray.exceptions.RayTaskError)
            actor.failure = "failed" if failed else "died"
            actor.last_words = re.sub(r"\x1b\[[0-9;]*m", "", str(err)).strip()
            return None


def _imported_ray() -> Any:
    # What Ray would print of a worker's death is in our report of it.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^A worker died or was killed")
    try:
        import ray
    except ImportError as err:
        raise BadInput("the engine 'ray' needs Ray: pip install 'ase_srdft[ray]'") from err
    return ray
