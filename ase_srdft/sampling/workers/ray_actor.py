"""A sampler as an actor: what `RayPool` starts.  Ray itself is not needed here."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load, save

from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_message import checkpoint_from_message, to_message

__all__ = ["RaySampler"]


class RaySampler:
    """Makes one message at a time; another thread takes weights and answers signs of life.

    Args:
        blueprint: of the molecules and the model.
        checkpoint: where to go on, as `checkpoint_to_message` gives it, its tensors as safetensors.
        device: where to compute.
    """

    def __init__(
        self, blueprint: SamplerBlueprint, checkpoint: tuple[bytes, dict[str, Any]], device: str
    ) -> None:
        torch.set_num_threads(1)
        self._nheartbeats = 0
        self._version = -1
        self._newest: tuple[int, bytes] | None = None
        tensors, plain = checkpoint
        start = checkpoint_from_message(load(tensors), plain)
        self._model, self._sampler = blueprint.build(start, device, self._alive)

    def _alive(self) -> None:
        self._nheartbeats += 1

    def take(self, version: int, weights: bytes) -> int:
        """Weights for the messages to come; returns what `nheartbeats` does."""
        self._newest = version, weights
        return self._nheartbeats

    def nheartbeats(self) -> int:
        """How many signs of life there were; they rise while a message is being made."""
        return self._nheartbeats

    def advance(self) -> tuple[bytes, dict[str, Any]]:
        """The next message, with the newest weights there are, as `to_message` gives it."""
        assert self._newest is not None
        version, weights = self._newest
        if version != self._version:
            self._model.load_state_dict(load(weights))
            self._version = version
        tensors, plain = to_message(self._sampler.advance(version))
        return save(tensors), plain
