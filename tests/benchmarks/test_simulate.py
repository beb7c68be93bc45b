"""``benchmarks/paper/simulate.py``: the errors along a walk are those where the walker is."""

import numpy as np
import pytest
import simulate as walks
from ase.build import molecule

from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import build_model
from ase_srdft.reference.accuracy import frame_errors

LEVEL = LevelOfTheory(xc="LDA", basis="sto-3g", grid_level=0)


@pytest.fixture
def model():
    return build_model("fock", LEVEL, (1, 8), {"features": 8, "layers": 1, "nradial": 8})


def test_the_error_at_the_start_is_that_of_the_evaluation(model):
    atoms = molecule("H2O")
    (expected,) = frame_errors(model, [atoms], forces=False)
    simulation = walks.simulate(model, atoms, 500.0, 4, 2, seed=0)
    steps, errors, widths = zip(*simulation.points, strict=True)
    assert steps == (0, 2, 4)
    assert simulation.failure is None
    assert errors[0] == pytest.approx(1e6 * expected.energy, rel=1e-6)
    assert widths[0] == pytest.approx(1e6 * expected.bracket_width, rel=1e-6)
    assert len(set(errors)) == 3  # the walker moved
    assert np.all(np.array(widths) > errors)


def test_the_walk_is_decided_by_the_seed(model):
    three = [walks.simulate(model, molecule("H2O"), 500.0, 2, 2, seed=seed) for seed in (0, 0, 1)]
    assert three[0].points == three[1].points != three[2].points


def test_a_walker_without_a_reference_keeps_what_it_has_measured(model, monkeypatch):
    energies, reference_scf = [], walks.reference_scf

    def fails_the_third_time(*arguments, **keywords):
        if len(energies) == 2:
            raise ReferenceNotConverged("no SCF here")
        energies.append(reference_scf(*arguments, **keywords).energy)
        return reference_scf(*arguments, **keywords)

    monkeypatch.setattr(walks, "reference_scf", fails_the_third_time)
    simulation = walks.simulate(model, molecule("H2O"), 500.0, 9, 3, seed=0)
    assert simulation.failure == "no SCF here"
    assert [step for step, _, _ in simulation.points] == [0, 3]
