"""The trainer beside a simulation, as a process: what `LocalCompanion` starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NoReturn

import torch
from torch import Tensor

from ase_srdft.common.errors import SamplingFailed
from ase_srdft.dynamics.background_trainer import pretrain
from ase_srdft.parallel.child_process import work_as_told
from ase_srdft.parallel.launch import parent_is_gone
from ase_srdft.parallel.mailbox import Exchange
from ase_srdft.sampling.workers.chunk import under
from ase_srdft.sampling.workers.resumable_sampler import Recipe
from ase_srdft.training.config import TrainingConfig, from_plain
from ase_srdft.training.dataset import Dataset
from ase_srdft.training.optimiser_step import StepRecord
from ase_srdft.training.trainer import Trainer

__all__ = ["main"]

#: Times ``train_steps`` that are trained without a new geometry: a simulation that pauses is not
#: learnt by heart.
_WITHOUT_NEWS = 10
_PAUSE_SECONDS = 0.02


def main() -> int:
    """Train and publish until there is no more simulation, or a signal ends it."""
    exchange, name, parent = work_as_told()
    torch.set_num_threads(1)
    orders = exchange.read("orders")
    start, _ = exchange.take(exchange.waiting("start")[0])
    trainer = _new_trainer(orders, start)

    def alive() -> None:
        if parent_is_gone(parent):
            exchange.remove()
            raise SystemExit(0)
        exchange.touch(name)

    try:
        record = pretrain(trainer, alive)
    except SamplingFailed as err:
        exchange.write("failure", str(err))
        return 1
    _publish(exchange, trainer, record)
    _go_on(exchange, trainer, orders["train_steps"], alive)


def _go_on(
    exchange: Exchange, trainer: Trainer, train_steps: int, alive: Callable[[], None]
) -> NoReturn:
    """Train as geometries arrive."""
    since_news = 0
    while True:
        alive()
        for path in exchange.waiting("geometry"):
            tensors, _ = exchange.take(path)
            trainer.source.add_sample(0, tensors["positions"].numpy(), None)
            trainer.counters.nsamples += 1
            since_news = 0
        if since_news >= _WITHOUT_NEWS * train_steps:
            time.sleep(_PAUSE_SECONDS)
            continue
        for _ in range(train_steps):
            alive()
            record = trainer.train(progress=0.0)
        since_news += train_steps
        _publish(exchange, trainer, record)


def _new_trainer(orders: dict[str, Any], start: dict[str, Tensor]) -> Trainer:
    recipe = Recipe(**orders["recipe"])
    model = recipe.model()
    model.load_state_dict(under("weights.", start))
    dataset = Dataset(
        compositions=tuple(tuple(numbers) for numbers in recipe.compositions),
        references=(start["reference"].numpy(),),
        frames=(),
    )
    trainer = Trainer(from_plain(TrainingConfig, orders["config"]), dataset, model)
    trainer.learner.step = orders["step"]  # versions rise, whoever publishes them
    return trainer


def _publish(exchange: Exchange, trainer: Trainer, record: StepRecord | None) -> None:
    training = None if record is None else asdict(record)
    exchange.write("status", {"step": trainer.learner.step, "training": training})
    exchange.publish(max(1, trainer.learner.step), trainer.learner.averaged.state_dict())
