"""What a calculator learns with: when a trainer begins, what it is told, and how it ends."""

import os
from typing import ClassVar

import pytest
from ase.build import molecule

from ase_srdft.common.errors import LearningStopped, WorkerFailed
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.learning import learner as module
from ase_srdft.learning.bounded_trainer import BoundedTrainer
from ase_srdft.learning.learner import Learner, Lesson
from tests.tools.small_models import potential_model


class FakeProcess:
    """What a `TrainerProcess` is to a learner, without a process."""

    made: ClassVar = []

    def __init__(self, config, dataset, model, train_steps, pretrains):
        self.config, self.dataset, self.model, self.pretrains = config, dataset, model, pretrains
        self.told, self.has_room, self.nsteps, self.runs = [], True, 5, False
        self.made.append(self)

    def start(self):
        self.runs = True

    def stop(self):
        self.runs = False

    def learn_from(self, positions, molecule):
        self.told.append((molecule, positions))

    def newest(self):
        return self.model


@pytest.fixture
def processes(monkeypatch):
    monkeypatch.setattr(module, "TrainerProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "made", [])
    return FakeProcess.made


def lesson(name="H2O", seed=0, error=0.5, charge=0):
    atoms = molecule(name)
    atoms.rattle(0.1, seed=seed)
    return Lesson(nuclei=nuclei_of(atoms, charge), error=error, seconds=0.1)


MODEL = potential_model()


def new_learner():
    return Learner("beside", good_enough=1e-3, coarse=True)


def test_the_trainer_begins_with_the_first_geometry_that_is_not_good_enough(processes):
    learner = new_learner()
    learner.learn_from([lesson(error=1e-4)], MODEL)
    assert learner.trainer is None
    assert learner.newest() is None
    learner.learn_from([lesson(seed=1)], MODEL)
    (process,) = processes
    assert process.runs
    assert not process.pretrains
    assert process.dataset.compositions == ((8, 1, 1),)
    assert process.config.coarse_share == 1.0
    assert process.model is not MODEL
    assert len(process.told) == learner.record.ngeometries == 1
    assert learner.newest() is process.model


def test_while_there_is_no_room_the_widest_are_kept(processes):
    learner = new_learner()
    learner.learn_from([lesson()], MODEL)
    (process,) = processes
    process.has_room = False
    given = [lesson(seed=n + 1, error=error) for n, error in enumerate((0.1, 0.4, 0.2))]
    learner.learn_from(given, MODEL)
    assert len(process.told) == 1
    process.has_room = True
    learner.learn_from([], MODEL)
    for (_, positions), n in zip(process.told[1:], (1, 2, 0), strict=True):
        assert positions is given[n].nuclei.positions


def test_a_good_model_costs_no_time_in_turn(monkeypatch):
    paid = []
    monkeypatch.setattr(BoundedTrainer, "work", lambda trainer, seconds: paid.append(seconds))
    learner = Learner("in_turn", good_enough=1e-3, coarse=True)
    learner.learn_from([lesson()], MODEL)
    learner.learn_from([lesson(seed=1, error=1e-4), lesson(seed=2)], MODEL)
    learner.learn_from([lesson(seed=3, error=1e-4)], MODEL)
    assert paid == [0.1, 0.1, 0]
    assert learner.record.ngeometries == 1  # the other one waits until the first had its training


def test_a_further_molecule_begins_anew_with_both(processes):
    learner = new_learner()
    learner.learn_from([lesson(), lesson(seed=1)], MODEL)
    learner.learn_from([lesson("H2")], MODEL)
    first, second = processes
    assert not first.runs
    assert second.runs
    assert second.dataset.compositions == ((8, 1, 1), (1, 1))
    assert [index for index, _ in second.told] == [0, 0, 1]
    assert learner.record.molecules == ("H2O", "H2")
    assert learner.record.nsteps == 10
    assert learner.record.ngeometries == 3


def test_a_molecule_with_elements_that_the_model_does_not_know_teaches_nothing(processes):
    learner = new_learner()
    learner.learn_from([lesson("CH4"), lesson()], MODEL)
    (process,) = processes
    assert process.dataset.compositions == ((8, 1, 1),)
    assert learner.record.ngeometries == 1


def test_charges_are_the_molecules_own(processes):
    new_learner().learn_from([lesson(charge=2), lesson(charge=0)], MODEL)
    (process,) = processes
    assert process.dataset.charges == (2, 0)
    assert process.config.level.charge == 0


def test_a_trainer_that_fails_is_given_up_with_a_warning(processes, monkeypatch):
    def fails(*_):
        raise WorkerFailed("the trainer died")

    monkeypatch.setattr(FakeProcess, "newest", fails)
    learner = new_learner()
    learner.learn_from([lesson()], MODEL)
    with pytest.warns(LearningStopped, match="the trainer died"):
        assert learner.newest() is None
    assert not processes[0].runs
    assert learner.newest() is None
    learner.learn_from([lesson(seed=1)], MODEL)
    assert len(processes) == 1


def test_a_fork_leaves_the_trainer_alone(processes, monkeypatch):
    learner = new_learner()
    learner.learn_from([lesson()], MODEL)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        learner.learn_from([lesson(seed=1)], MODEL)
        assert learner.newest() is None
        learner.close()
    assert processes[0].runs
    assert len(processes[0].told) == 1
    learner.close()
    assert not processes[0].runs
