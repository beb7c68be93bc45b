"""What a calculator tells without being given atoms is of the atoms as they are."""

import copy
import pickle

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotPresent
from ase.calculators.singlepoint import SinglePointCalculator

from ase_srdft import SRDFTCalculator
from ase_srdft.common.errors import BadInput
from ase_srdft.models.model_file import save_model
from tests.tools.small_models import small_model, water


@pytest.fixture
def atoms():
    atoms = water()
    atoms.calc = SRDFTCalculator(small_model(grid_level=0))
    return atoms


TELLS = {
    "bracket": lambda calc: calc.energy_bracket,
    "frontier": lambda calc: calc.get_homo_lumo(),
    "eigenvalues": lambda calc: calc.get_eigenvalues(),
    "energy": lambda calc: calc.get_potential_energy(),
    "state": lambda calc: calc.electronic_state.fock,
}


def copies(atoms):
    return [atoms, copy.deepcopy(atoms), pickle.loads(pickle.dumps(atoms))]


@pytest.mark.parametrize("tell", TELLS.values(), ids=TELLS)
def test_atoms_that_move_are_followed(atoms, tell):
    atoms.get_potential_energy()
    moved = water(0.1)
    moved.calc = SRDFTCalculator(small_model(grid_level=0))
    moved.get_potential_energy()
    before, after = np.array(tell(atoms.calc)), np.array(tell(moved.calc))
    assert abs(after - before).max() > 1e-3
    for mine in copies(atoms):
        mine.positions[:] = moved.positions
        np.testing.assert_allclose(tell(mine.calc), after, atol=1e-8)


def test_atoms_that_are_gone_and_a_reset(atoms):
    calc = atoms.calc
    calc.get_potential_energy(water(0.1))
    assert calc.energy_bracket[1] == calc.results["energy"]
    calc.reset()
    with pytest.raises(PropertyNotPresent):
        _ = calc.energy_bracket


def test_the_state_handed_out_is_a_copy(atoms):
    atoms.get_potential_energy()
    gap = atoms.calc.get_homo_lumo()
    state = atoms.calc.electronic_state
    state.fock[:] = state.mo_energy[:] = 0.0
    assert atoms.calc.get_homo_lumo() == gap


def test_results_of_a_batch_carry_the_bracket(atoms):
    images = [water(), water(0.1)]
    for results, image in zip(atoms.calc.evaluate_batch(images), images, strict=True):
        atoms.calc.get_potential_energy(image)
        expected = pytest.approx(atoms.calc.energy_bracket, rel=1e-12)
        for again in (
            results,
            results.copy(),
            copy.deepcopy(results),
            pickle.loads(pickle.dumps(results)),
        ):
            assert again["energy_bracket"] == again.get("energy_bracket") == expected
        assert "energy_bracket" in results
        assert SinglePointCalculator(image, **results).get_potential_energy(image) < 0.0
    with pytest.raises(KeyError):
        _ = results["stress"]


def test_how_to_use_a_model_in_memory(atoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    energy = atoms.get_potential_energy()
    for path in ("m.srdft", str(tmp_path / "n.srdft"), tmp_path / "o.srdft"):
        save_model(path, atoms.calc.model_for(atoms), {})
        assert SRDFTCalculator(path).get_potential_energy(atoms) == pytest.approx(energy)
    with pytest.raises(BadInput, match="no directory"):
        save_model("nowhere/m.srdft", atoms.calc.model_for(atoms), {})
    with pytest.raises(BadInput, match="plain values"):
        save_model("p.srdft", atoms.calc.model_for(atoms), {"a": object()})
    assert len(list(tmp_path.iterdir())) == 3
