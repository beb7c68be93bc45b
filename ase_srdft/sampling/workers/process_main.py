"""A sampler as a process: what `ProcessPool` starts."""

from __future__ import annotations

import time

import torch

from ase_srdft.parallel.allocator import keep_freed_memory
from ase_srdft.parallel.launch import parent_is_gone
from ase_srdft.parallel.worker_process import worker_setup
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_message import checkpoint_from_message, to_message
from ase_srdft.sampling.workers.sampler_orders import SamplerOrders

__all__ = ["main"]

_PAUSE_SECONDS = 0.01


def main() -> None:
    """Sample with the newest weights until the parent has ended, or a signal ends this process."""
    mailbox, name, parent = worker_setup()
    torch.set_num_threads(1)
    keep_freed_memory()
    orders = SamplerOrders.from_plain(mailbox.read(f"{name}.orders"))
    start = checkpoint_from_message(*mailbox.take(mailbox.path / orders.start))
    blueprint = SamplerBlueprint.from_plain(mailbox.read("blueprint"))

    def alive() -> None:
        mailbox.touch(name)

    model, sampler = blueprint.build(start, orders.device, alive)
    version = -1
    while not parent_is_gone(parent):
        alive()
        newest = mailbox.newest(version)
        if newest is not None:
            version, weights = newest
            model.load_state_dict(weights)
        if version < 0 or len(mailbox.waiting(name)) >= orders.queue_size:
            time.sleep(_PAUSE_SECONDS)
            continue
        tensors, plain = to_message(sampler.advance(version))
        mailbox.put(name, sampler.checkpoint.nmessages, tensors, plain)
    mailbox.remove()
