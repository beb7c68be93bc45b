"""``benchmarks/simulate.py``: errors along a walk are those of the model where the walker is."""

import numpy as np
import pytest
from ase.build import molecule

from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import build_model
from ase_srdft.reference.accuracy import frame_errors
from tests.tools.campaigns import benchmark

LEVEL = LevelOfTheory(xc="LDA", basis="sto-3g", grid_level=0)


@pytest.fixture
def model():
    return build_model("fock", LEVEL, (1, 8), {"features": 8, "layers": 1, "nradial": 8})


def test_the_error_at_the_start_is_that_of_the_evaluation(model):
    atoms = molecule("H2O")
    (expected,) = frame_errors(model, [atoms], forces=False)
    simulation = benchmark("simulate").simulate(model, atoms, 500.0, 4, 2, seed=0)
    assert simulation.steps == [0, 2, 4]
    assert simulation.failure is None
    assert simulation.errors_uEh[0] == pytest.approx(1e6 * expected.energy, rel=1e-6)
    assert simulation.widths_uEh[0] == pytest.approx(1e6 * expected.bracket_width, rel=1e-6)
    assert len(set(simulation.errors_uEh)) == 3  # the walker moved
    assert np.all(np.array(simulation.widths_uEh) > simulation.errors_uEh)


def test_the_walk_is_decided_by_the_seed(model):
    simulate = benchmark("simulate").simulate
    walks = [simulate(model, molecule("H2O"), 500.0, 2, 2, seed=seed) for seed in (0, 0, 1)]
    assert walks[0].errors_uEh == walks[1].errors_uEh != walks[2].errors_uEh


def test_a_walker_without_a_reference_keeps_what_it_has_measured(model, monkeypatch):
    simulate, energies = benchmark("simulate"), []
    reference_scf = simulate.reference_scf

    def fails_the_third_time(*arguments, **keywords):
        if len(energies) == 2:
            raise ReferenceNotConverged("no SCF here")
        energies.append(reference_scf(*arguments, **keywords).energy)
        return reference_scf(*arguments, **keywords)

    monkeypatch.setattr(simulate, "reference_scf", fails_the_third_time)
    simulation = simulate.simulate(model, molecule("H2O"), 500.0, 9, 3, seed=0)
    assert simulation.failure == "no SCF here"
    assert simulation.steps == [0, 3]
    assert len(simulation.errors_uEh) == len(simulation.widths_uEh) == 2
