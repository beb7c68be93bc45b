"""A sampler as an actor: what `RayPool` starts.  Ray itself is not needed here."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load, save

from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_message import checkpoint_from_message, to_message

__all__ = ["RaySampler"]


class RaySampler:
    """Makes a chunk at a time; meanwhile another thread takes weights and gives signs of life.

    Args:
        blueprint: of the molecules and the model.
        state: where to go on, as `checkpoint_to_message` gives it, its tensors as safetensors.
        device: where to compute.
    """

    def __init__(
        self, blueprint: SamplerBlueprint, state: tuple[bytes, dict[str, Any]], device: str
    ) -> None:
        torch.set_num_threads(1)
        self._nsigns = 0
        self._version = -1
        self._newest: tuple[int, bytes] | None = None
        tensors, record = state
        start = checkpoint_from_message(load(tensors), record)
        self._model, self._producer = blueprint.build(start, device, self._alive)

    def _alive(self) -> None:
        self._nsigns += 1

    def take(self, version: int, weights: bytes) -> int:
        """Weights for the chunks to come; returns what `nsigns` does."""
        self._newest = version, weights
        return self._nsigns

    def nsigns(self) -> int:
        """How many signs of life there were; they rise while a chunk is being made."""
        return self._nsigns

    def advance(self) -> tuple[bytes, dict[str, Any]]:
        """The next chunk, with the newest weights there are, as `to_message` gives it."""
        assert self._newest is not None
        version, weights = self._newest
        if version != self._version:
            self._model.load_state_dict(load(weights))
            self._version = version
        tensors, record = to_message(self._producer.advance(version))
        return save(tensors), record
