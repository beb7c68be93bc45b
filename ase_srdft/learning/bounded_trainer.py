"""Training in turn with a driver, in a share of its time."""

from __future__ import annotations

import time

import numpy as np

from ase_srdft.learning.background_trainer import WITHOUT_NEWS, InlineTrainer
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.training.trainer import Trainer

__all__ = ["BoundedTrainer"]

#: Seconds of training for each second that the driver's own work takes.
TIME_SHARE = 1.0


class BoundedTrainer(InlineTrainer):
    """Training in this process that takes as long as the driver's work at most.

    How many steps it makes hangs on the clock, so that no two runs have the same weights.

    Args:
        trainer: not yet begun.
        train_steps: between new weights.
    """

    def __init__(self, trainer: Trainer, train_steps: int) -> None:
        super().__init__(trainer, train_steps)
        self._balance = 0.0
        self._since_news = 0

    def start(self) -> None:
        """Begin with rattled copies of what is known."""
        self.trainer.begin()

    @property
    def has_room(self) -> bool:
        """Whether the last geometry has had its training."""
        return self.trainer.counters.nsamples == 0 or self._since_news >= self.train_steps

    def learn_from(self, positions: np.ndarray, molecule: int = 0) -> None:
        """Have a further geometry (natoms, 3) in Bohr to train on, when there is time."""
        self.trainer.sampling.add_given(molecule, positions)
        self._since_news = 0

    def work(self, seconds: float) -> None:
        """Train in return for so many seconds of the driver's; what it overdraws it owes."""
        self._balance += TIME_SHARE * seconds
        while self._balance > 0.0 and self._since_news < WITHOUT_NEWS * self.train_steps:
            started = time.perf_counter()
            self.last_training = self.trainer.train(progress=0.0)
            self._since_news += 1
            self._balance -= time.perf_counter() - started
        self._balance = min(self._balance, 0.0)  # what is not used is not saved up

    def newest(self) -> ElectronicStateModel | None:
        """The newest model, after ``train_steps`` at least; None before."""
        if self.nsteps < self._newest_given + self.train_steps:
            return None
        return super().newest()
