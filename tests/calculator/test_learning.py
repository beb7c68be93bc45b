"""A calculator that learns from the geometries that any driver asks for."""

import copy
import gc
import os
import pickle
import time
import warnings
from typing import ClassVar

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.calculator import InputError
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from ase_srdft import SRDFTCalculator, model_card
from ase_srdft.calculator import learning as module
from ase_srdft.calculator.parameters import LEARN
from ase_srdft.common.errors import NothingLearned
from ase_srdft.learning import bounded_trainer
from ase_srdft.learning.bounded_trainer import BoundedTrainer
from ase_srdft.learning.learner import Learner
from ase_srdft.learning.learning_record import LearningRecord
from ase_srdft.learning.offers import Offers
from ase_srdft.version import __version__
from tests.tools.small_models import potential_model

SMALL = {"features": 8, "layers": 1, "nradial": 8, "scale": 0.0}
LEVEL = {"xc": "LDA", "basis": "sto-3g", "grid_level": 0}


def small_model(seed=0, **changes):
    return potential_model(level=LEVEL, seed=seed, **(SMALL | changes))


class FakeLearner(Learner):
    """New weights for every geometry, and a record of what it was offered."""

    made: ClassVar = []

    def __init__(self, runs, good_enough, coarse):
        self.runs, self.good_enough, self.coarse = runs, good_enough, coarse
        self.lessons, self.nasked, self.ended = [], 0, False
        self.made.append(self)

    record = LearningRecord(molecules=("H2O",), ngeometries=3, nsteps=40)

    def learn_from(self, lessons, model):
        self.lessons += lessons

    def newest(self):
        self.nasked += 1
        return small_model(seed=3, scale=0.005 * self.nasked)  # lower than the guess

    def close(self):
        self.ended = True


@pytest.fixture
def learners(monkeypatch):
    monkeypatch.setattr(module, "Learner", FakeLearner)
    monkeypatch.setattr(FakeLearner, "made", [])
    return FakeLearner.made


def water(learn=True, **options):
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    atoms.calc = SRDFTCalculator(small_model(), learn=learn, **({"grid_level": 0} | options))
    return atoms


def moved(atoms):
    atoms.positions[1] += 0.05
    return atoms


def test_new_weights_are_taken_between_two_geometries_alone(learners):
    atoms = water()
    atoms.get_forces()
    assert atoms.calc.model_version == 0  # there was no learner yet
    energy = moved(atoms).get_potential_energy()
    version = atoms.calc.certificate.model_version
    assert version == atoms.calc.model_version == learners[0].nasked == 1
    forces = atoms.get_forces()  # of the same geometry: of the same weights
    assert np.abs(forces).max() > 0.1
    assert atoms.calc.certificate.model_version == version
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    moved(atoms).get_forces()
    assert atoms.calc.certificate.model_version == version + 1


def test_a_geometry_that_is_remembered_keeps_its_version_and_its_answer(learners):
    atoms, other = water(), moved(water())
    calc = atoms.calc
    forces = calc.get_forces(atoms)
    calc.get_forces(other)
    assert (calc.model_version, calc.certificate.model_version) == (1, 1)
    np.testing.assert_array_equal(calc.get_forces(atoms), forces)
    assert (calc.model_version, calc.certificate.model_version) == (1, 0)
    assert len(learners[0].lessons) == 2  # and teaches nothing a second time


@pytest.mark.parametrize("max_error", [1e-3, None])
def test_only_what_is_promised_does_not_hang_on_the_weights(learners, max_error):
    atoms = moved(water(max_error=max_error))
    still = moved(water(learn=False, max_error=max_error))
    for _ in range(2):
        difference = atoms.get_potential_energy() - still.get_potential_energy()
        moved(atoms), moved(still)
    assert atoms.calc.model_version == 1
    assert (abs(difference) < 1e-3) == (max_error is not None)
    assert learners[0].coarse == (max_error is not None)


def test_what_it_is_told(learners):
    atoms = water(max_error=5e-3)
    atoms.get_forces()
    (learner,) = learners
    (lesson,) = learner.lessons
    assert learner.runs == "beside"
    assert learner.good_enough == pytest.approx(5e-3)
    assert lesson.error == atoms.calc.certificate.start_error > 0.1
    assert lesson.seconds > 0
    np.testing.assert_allclose(lesson.nuclei.positions * units.Bohr, atoms.positions)
    atoms.calc.evaluate_batch([moved(atoms), moved(atoms.copy())])
    assert len(learner.lessons) == 3
    assert atoms.calc.model_version == 1


def test_a_pause_takes_nothing_and_feeds_nothing(learners):
    atoms = water()
    atoms.get_forces()
    results = atoms.calc.results
    atoms.calc.set(learn="pause")
    assert atoms.calc.results is results
    moved(atoms).get_forces()
    (learner,) = learners
    assert (learner.nasked, len(learner.lessons), learner.ended) == (0, 1, False)
    atoms.calc.set(learn=True)
    moved(atoms).get_forces()
    assert (learner.nasked, len(learner.lessons)) == (1, 2)


@pytest.mark.parametrize(
    "end",
    [
        lambda atoms: atoms.calc.close(),
        lambda atoms: atoms.calc.set(learn=False),
        lambda atoms: atoms.calc.set(learn="in_turn"),
        lambda atoms: atoms.calc.set(max_error=1e-4),
        lambda atoms: atoms.calc.update_model(small_model(seed=9)),
        lambda atoms: setattr(atoms, "calc", None),
    ],
    ids=["close", "off", "otherwise", "promise", "model", "gone"],
)
def test_how_a_trainer_ends(learners, end):
    atoms = water()
    atoms.get_forces()
    assert not learners[0].ended
    end(atoms)
    gc.collect()
    assert learners[0].ended


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_a_copy_does_not_learn(learners, copied):
    atoms = water()
    atoms.get_forces()
    moved(atoms).get_forces()
    other = copied(atoms.calc)
    assert other.parameters["learn"] is False
    assert atoms.calc.parameters["learn"] is True
    other.get_forces(moved(atoms.copy()))
    assert len(learners) == 1
    assert len(learners[0].lessons) == 2
    assert other.model_version == atoms.calc.model_version == 1
    del other
    gc.collect()
    assert not learners[0].ended


@pytest.mark.parametrize("learn", [None, 1.5, "always", []])
def test_another_way_to_learn_is_refused(learn):
    with pytest.raises(InputError, match=r"learn .*: use one of False, True, 'beside'"):
        SRDFTCalculator(**LEVEL).set(learn=learn)
    assert SRDFTCalculator(**LEVEL, learn=LEARN[-1]).parameters["learn"] == "pause"


@pytest.mark.parametrize("learn", [False, True])
def test_an_untrained_model_is_level_free(learners, learn):
    calc = SRDFTCalculator("untrained", **LEVEL, learn=learn)
    assert calc.model_for(molecule("H2")).family == "potential"


def test_a_file_has_what_was_learned_and_goes_on(learners, tmp_path):
    atoms, path = water(), tmp_path / "mine.srdft"
    with pytest.raises(InputError, match="no model yet"):
        SRDFTCalculator("untrained", **LEVEL).save(path)
    for _ in range(2):
        moved(atoms).get_forces()
    atoms.calc.save(path)
    card = model_card(path)
    assert card.levels == (atoms.calc.model_for(atoms).level,)
    assert (card.elements, card.molecules) == (("H", "O"), ("H2O",))
    assert (card.nsamples, card.nsteps, card.nframes, card.version) == (3, 40, 0, __version__)
    assert card.start_from == "<potential LDA/sto-3g model in memory>"
    again = SRDFTCalculator(path, grid_level=0, learn=True)
    other = atoms.copy()
    again.get_forces(other)
    expected = atoms.calc.certificate.start_error
    assert again.certificate.start_error == pytest.approx(expected, rel=1e-4)
    assert len(learners) == 2
    again.get_forces(moved(other))
    again.save(tmp_path / "more.srdft")
    assert model_card(tmp_path / "more.srdft").start_from == str(path)
    with pytest.raises(InputError, match="no directory"):
        again.save(tmp_path / "nowhere" / "more.srdft")


def widths(calc, images):
    found = []
    for atoms in images:
        calc.get_potential_energy(atoms)
        found.append(calc.certificate.start_error)
    return np.array(found)


def test_it_learns_in_turn_as_a_driver_runs(monkeypatch):
    # whatever the clock says, eight steps for each geometry
    monkeypatch.setattr(bounded_trainer, "TIME_SHARE", 1e9)
    monkeypatch.setattr(bounded_trainer, "WITHOUT_NEWS", 1)
    atoms = water("in_turn")
    before = widths(SRDFTCalculator(small_model(), grid_level=0), [atoms.copy()])
    with BFGS(atoms, logfile=None) as optimiser:
        optimiser.run(fmax=0.02, steps=3)
    trainer = atoms.calc._learning._learner.trainer
    assert isinstance(trainer, BoundedTrainer)
    assert trainer.nsteps == 8 * atoms.calc._learning.record.ngeometries >= 16
    after = widths(atoms.calc, [atoms])
    assert after < 0.5 * before
    still = SRDFTCalculator(small_model(), grid_level=0)
    assert still.get_potential_energy(atoms) == pytest.approx(
        atoms.get_potential_energy(), abs=1e-3
    )


def test_vibrations_offer_their_centre_alone(learners, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    atoms = water()
    Vibrations(atoms, indices=[1], name="vib").run()
    lessons = learners[0].lessons
    assert len(lessons) == 7
    offers = Offers(1e-3)
    assert sum(offers.consider(each.nuclei, each.error) for each in lessons) == 1


@pytest.mark.slow
def test_a_process_beside_molecular_dynamics(tmp_path):
    atoms = water(True)
    with VelocityVerlet(atoms, 0.5 * units.fs) as dynamics:
        dynamics.run(2)
        before = atoms.calc.certificate.start_error
        pid = atoms.calc._learning._learner.trainer.process.pid
        end = time.monotonic() + 240.0
        while atoms.calc.certificate.start_error > 0.2 * before:
            assert time.monotonic() < end
            dynamics.run(1)
            time.sleep(0.1)
    assert atoms.calc.model_version > 0
    assert atoms.calc._learning.record.nsteps > 0
    atoms.calc.save(tmp_path / "mine.srdft")
    atoms.calc.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_model_that_has_learned_nothing_says_so(learners, tmp_path):
    atoms = water()
    with pytest.warns(NothingLearned, match="has the weights of <potential LDA/sto-3g"):
        atoms.calc.save(tmp_path / "mine.srdft")
    for _ in range(2):
        moved(atoms).get_forces()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        atoms.calc.save(tmp_path / "mine.srdft")
