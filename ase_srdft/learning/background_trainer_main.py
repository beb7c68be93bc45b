"""The trainer beside a simulation, as a process: what `TrainerProcess` starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import NoReturn

import torch
from torch import Tensor

from ase_srdft.common.errors import SamplingFailed
from ase_srdft.common.named_arrays import under
from ase_srdft.learning.background_trainer import WITHOUT_NEWS, pretrain
from ase_srdft.learning.trainer_orders import TrainerOrders
from ase_srdft.parallel.allocator import keep_freed_memory
from ase_srdft.parallel.launch import parent_is_gone
from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.parallel.worker_process import worker_setup
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import StepRecord
from ase_srdft.training.trainer import Trainer

__all__ = ["main"]

#: Added to the niceness of a process that nobody waits for.
_NICENESS = 5
_PAUSE_SECONDS = 0.02


def main() -> int:
    """Train and publish until the simulation has ended, or a signal ends this process."""
    mailbox, name, parent = worker_setup()
    torch.set_num_threads(1)
    keep_freed_memory()
    orders = TrainerOrders.from_plain(mailbox.read("orders"))
    start, _ = mailbox.take(mailbox.waiting("start")[0])
    trainer = _new_trainer(orders, start)

    def alive() -> None:
        if parent_is_gone(parent):
            mailbox.remove()
            raise SystemExit(0)
        mailbox.touch(name)

    if orders.pretrains:
        try:
            record = pretrain(trainer, alive)
        except SamplingFailed as err:
            mailbox.write("failure", str(err))
            return 1
        _publish(mailbox, trainer, record)
    else:
        os.nice(_NICENESS)
        trainer.begin()
    _go_on(mailbox, trainer, orders.train_steps, alive)


def _go_on(
    mailbox: Mailbox, trainer: Trainer, train_steps: int, alive: Callable[[], None]
) -> NoReturn:
    """Train as geometries arrive."""
    since_news = 0
    while True:
        alive()
        for path in mailbox.waiting("geometry"):
            tensors, plain = mailbox.take(path)
            trainer.sampling.add_given(plain["molecule"], tensors["positions"].numpy())
            since_news = 0
        if since_news >= WITHOUT_NEWS * train_steps:
            time.sleep(_PAUSE_SECONDS)
            continue
        for _ in range(train_steps):
            alive()
            record = trainer.train(progress=0.0)
        since_news += train_steps
        _publish(mailbox, trainer, record)


def _new_trainer(orders: TrainerOrders, start: dict[str, Tensor]) -> Trainer:
    model = orders.blueprint.model()
    model.load_state_dict(under("weights.", start))
    dataset = Dataset(
        compositions=tuple(numbers for numbers, _ in orders.blueprint.molecules),
        charges=tuple(level["charge"] for _, level in orders.blueprint.molecules),
        references=tuple(
            start[f"reference.{index}"].numpy() for index in range(len(orders.blueprint.molecules))
        ),
        frames=(),
    )
    trainer = Trainer(orders.config, dataset, model)
    trainer.updater.step = orders.step  # versions rise, whoever publishes them
    # the optimiser knows nothing of the steps before: its first ones must be small
    trainer.updater.guard.since = orders.step
    return trainer


def _publish(mailbox: Mailbox, trainer: Trainer, record: StepRecord | None) -> None:
    training = None if record is None else asdict(record)
    mailbox.write("status", {"step": trainer.updater.step, "training": training})
    mailbox.publish(max(1, trainer.updater.step), trainer.updater.averaged.state_dict())
