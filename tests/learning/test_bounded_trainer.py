"""Training in turn that takes no more time than the driver does."""

import time

from ase.build import molecule

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.learning.background_trainer import WITHOUT_NEWS
from ase_srdft.learning.bounded_trainer import BoundedTrainer
from tests.tools.small_training import small_trainer

POSITIONS = nuclei_of(molecule("H2O")).positions


class Clock:
    """Time that passes by training alone: a second a step."""

    def __init__(self, monkeypatch, trainer):
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(trainer, "train", self.step)
        self.trainer = trainer

    def step(self, progress):
        assert progress == 0.0
        self.now += 1.0
        self.trainer.updater.step += 1


def bounded(monkeypatch, train_steps=2):
    trainer = small_trainer()
    Clock(monkeypatch, trainer)
    found = BoundedTrainer(trainer, train_steps)
    found.start()
    return found


def test_it_takes_as_long_as_the_driver_and_owes_what_it_overdraws(monkeypatch):
    trainer = bounded(monkeypatch)
    trainer.learn_from(POSITIONS)
    done = []
    for _ in range(10):
        trainer.work(0.25)
        done.append(trainer.nsteps)
    # a step as soon as all the steps before are paid for
    assert done == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]


def test_without_a_new_geometry_it_comes_to_rest(monkeypatch):
    trainer = bounded(monkeypatch)
    trainer.learn_from(POSITIONS)
    trainer.work(1e3)
    assert trainer.nsteps == 2 * WITHOUT_NEWS
    trainer.work(1e3)
    assert trainer.nsteps == 2 * WITHOUT_NEWS
    trainer.learn_from(POSITIONS)
    trainer.work(1.0)  # and time that was not used is not saved up
    assert trainer.nsteps == 2 * WITHOUT_NEWS + 1


def test_weights_and_geometries_come_after_enough_steps(monkeypatch):
    trainer = bounded(monkeypatch)
    assert trainer.has_room
    trainer.learn_from(POSITIONS)
    assert not trainer.has_room
    assert trainer.newest() is None
    trainer.work(1.0)
    assert trainer.newest() is None
    trainer.work(1.0)
    assert trainer.has_room
    assert trainer.newest() is not None
    assert trainer.newest() is None
