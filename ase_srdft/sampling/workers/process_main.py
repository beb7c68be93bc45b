"""A sampler as a process: what `ProcessPool` starts."""

from __future__ import annotations

import time

import torch

from ase_srdft.parallel.launch import parent_is_gone
from ase_srdft.parallel.worker_process import worker_setup
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_message import checkpoint_from_message, to_message

__all__ = ["main"]

_PAUSE_SECONDS = 0.01


def main() -> None:
    """Sample with the newest weights until there is no more parent, or a signal ends it."""
    mailbox, name, parent = worker_setup()
    torch.set_num_threads(1)
    orders = mailbox.read(f"{name}.orders")
    state = checkpoint_from_message(*mailbox.take(mailbox.path / orders["state"]))
    blueprint = SamplerBlueprint(**mailbox.read("blueprint"))

    def alive() -> None:
        mailbox.touch(name)

    model, producer = blueprint.build(state, orders["device"], alive)
    version = -1
    while not parent_is_gone(parent):
        alive()
        newest = mailbox.newest(version)
        if newest is not None:
            version, weights = newest
            model.load_state_dict(weights)
        if version < 0 or len(mailbox.waiting(name)) >= orders["queue_size"]:
            time.sleep(_PAUSE_SECONDS)
            continue
        tensors, record = to_message(producer.advance(version))
        mailbox.put(name, producer.state.nchunks, tensors, record)
    mailbox.remove()
