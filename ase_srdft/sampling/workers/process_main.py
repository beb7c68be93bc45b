"""A sampler as a process: what `LocalEngine` starts."""

from __future__ import annotations

import time

import torch

from ase_srdft.parallel.child_process import work_as_told
from ase_srdft.parallel.launch import parent_is_gone
from ase_srdft.sampling.workers.chunk import pack, unpacked_state
from ase_srdft.sampling.workers.resumable_sampler import Recipe

__all__ = ["main"]

_PAUSE_SECONDS = 0.01


def main() -> None:
    """Sample with the newest weights until there is no more parent, or a signal ends it."""
    exchange, name, parent = work_as_told()
    torch.set_num_threads(1)
    orders = exchange.read(f"{name}.orders")
    state = unpacked_state(*exchange.take(exchange.path / orders["state"]))
    recipe = Recipe(**exchange.read("recipe"))

    def alive() -> None:
        exchange.touch(name)

    model, producer = recipe.build(state, orders["device"], alive)
    version = -1
    while not parent_is_gone(parent):
        alive()
        newest = exchange.newest(version)
        if newest is not None:
            version, weights = newest
            model.load_state_dict(weights)
        if version < 0 or len(exchange.waiting(name)) >= orders["queue_size"]:
            time.sleep(_PAUSE_SECONDS)
            continue
        tensors, record = pack(producer.chunk(version))
        exchange.put(name, producer.state.nchunks, tensors, record)
    exchange.remove()
