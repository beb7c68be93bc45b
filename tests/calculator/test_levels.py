"""A model of no level of theory behind a calculator: asked at any, of any charge."""

import pickle

import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import InputError

from ase_srdft import SRDFTCalculator
from ase_srdft.models.model_file import save_model
from tests.tools.small_models import potential_model, small_model


@pytest.fixture(scope="module")
def free():
    return potential_model((1, 8), scale=0.0)


def energy_of(calc, atoms):
    atoms = atoms.copy()
    atoms.calc = calc
    return atoms.get_potential_energy()


def test_the_level_is_the_calculators(free):
    water = molecule("H2O")
    calc = SRDFTCalculator(free, xc="PBE0", basis="6-31g", grid_level=0, max_error=None)
    first = energy_of(calc, water)
    calc.set(xc="LDA")
    assert abs(energy_of(calc, water) - first) > 1.0
    calc.set(xc="pbe0")
    assert energy_of(calc, water) == pytest.approx(first, abs=1e-9)
    calc.set(xc=None, basis=None, grid_level=None)
    assert energy_of(calc, water) == energy_of(
        SRDFTCalculator(free, grid_level=None, max_error=None), water
    )
    assert calc.electronic_state.nao == 7


def test_it_is_the_same_after_pickling(free):
    water = molecule("H2O")
    calc = SRDFTCalculator(free, xc="PBE0", basis="6-31g", grid_level=0, max_error=None)
    again = pickle.loads(pickle.dumps(calc))
    assert energy_of(again, water) == pytest.approx(energy_of(calc, water), abs=1e-9)
    again.set(xc=None, basis=None, grid_level=None)
    assert energy_of(again, water) == energy_of(
        SRDFTCalculator(free, grid_level=None, max_error=None), water
    )


def test_charges_are_the_molecules(free):
    hydroxide = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], charges=[-1, 0])
    calc = SRDFTCalculator(free, grid_level=None, max_error=None)
    assert energy_of(calc, hydroxide) < -2000.0
    answers = calc.evaluate_batch([molecule("H2O"), hydroxide], forces=False)
    assert answers[1]["energy"] == pytest.approx(energy_of(calc, hydroxide), abs=1e-9)
    with pytest.raises(InputError, match="open shell"):
        energy_of(calc, Atoms("OH", hydroxide.positions))


def test_new_weights_keep_the_level(free):
    calc = SRDFTCalculator(free, xc="PBE0", basis="6-31g", grid_level=0, max_error=None)
    before, after = energy_of(calc, molecule("H2O")), []
    for sign in (1.0, -1.0):  # one of them is better than the guess, which answers otherwise
        model = potential_model((1, 8), scale=0.003, seed=1)
        model.writing.weight.data *= sign
        calc.update_model(model)
        after.append(energy_of(calc, molecule("H2O")))
    assert max(after) <= before
    assert before - 3.0 < min(after) < before - 1e-6


def test_any_grid_for_a_model_of_one_level():
    model = small_model((1, 8)).double()
    energies = [
        energy_of(SRDFTCalculator(model, grid_level=g, max_error=None), molecule("H2O"))
        for g in (1, 3)
    ]
    assert energies[0] != energies[1]
    assert energies[0] == pytest.approx(energies[1], abs=0.05)


def test_of_a_file_too(free, tmp_path):
    save_model(tmp_path / "free.srdft", free, {})
    calc = SRDFTCalculator(tmp_path / "free.srdft", xc="LDA", max_error=None)
    again = SRDFTCalculator.fromdict(calc.todict())
    assert energy_of(again, molecule("H2O")) == energy_of(calc, molecule("H2O"))
