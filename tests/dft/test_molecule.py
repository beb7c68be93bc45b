"""Molecules: what they count, what they keep, and what they refuse."""

import pytest
import torch
from ase.data import atomic_numbers

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.electronic_state import family


def molecule_of(symbols, guess="minao", **level):
    numbers = tuple(atomic_numbers[symbol] for symbol in symbols.split())
    return Molecule(numbers=numbers, level=LevelOfTheory(**{"basis": "6-31g"} | level), guess=guess)


def test_counts():
    water = molecule_of("O H H")
    assert (water.natoms, water.nelectron, water.nocc, water.nao) == (3, 10, 5, 13)
    assert water.formula == "H2O"
    assert water.charges.tolist() == [8.0, 1.0, 1.0]


@pytest.mark.parametrize(("symbols", "charge"), [("O H", -1), ("N H H H H", 1), ("Li", 1)])
def test_a_charge_closes_the_shell(symbols, charge):
    with pytest.raises(BadInput, match="open shell"):
        molecule_of(symbols)
    ion = molecule_of(symbols, charge=charge)
    assert ion.nelectron == sum(ion.numbers) - charge


@pytest.mark.parametrize("symbols", ["H H", "O H H", "Na Cl", "Ti Cl Cl Cl Cl", "Br H", "Kr"])
def test_minimal_atoms_are_neutral(symbols):
    molecule = molecule_of(symbols, basis="sto-3g")
    assert float(molecule.guess_occupations.sum()) == pytest.approx(molecule.nelectron, abs=1e-12)
    assert float(molecule.guess_occupations.min()) > 0


@pytest.mark.parametrize(
    ("symbols", "options", "message"),
    [
        ("", {}, "no atoms"),
        ("H", {}, "H with charge 0 has 1 electrons, an open shell"),
        ("O H H", {"charge": 1}, "H2O with charge 1 has 9 electrons, an open shell"),
        ("H H", {"charge": 2}, "charge 2 leaves 0 electrons"),
        ("H H", {"charge": 4}, "charge 4 leaves -2 electrons"),
        ("Rb H", {}, "atomic number 37: H to Kr"),
        ("X H", {}, "atomic number 0: H to Kr"),
        ("He", {"basis": "sto-3g", "charge": -2}, "2 electron pairs do not fit into the 1 orbital"),
        (
            "H H",
            {"guess": "huckel"},
            "unknown guess 'huckel': use one of companion, roothaan, minao, sap, core",
        ),
        ("H H", {"basis": "6-31z"}, "no basis '6-31z' for H"),
        ("Br H", {"basis": "6-31g"}, "no basis '6-31g' for Br"),
    ],
)
def test_refuses(symbols, options, message):
    with pytest.raises(BadInput) as caught:
        molecule_of(symbols, **options)
    assert message in str(caught.value)


def test_an_unknown_auxiliary_basis_is_refused():
    molecule = molecule_of("H H", density_fitting="no-such-fit")
    with pytest.raises(BadInput, match="no-such-fit"):
        molecule.provider  # noqa: B018


def test_an_unknown_family_is_refused():
    with pytest.raises(BadInput, match=r"unknown model family 'orbital': use one of .*fock"):
        family("orbital")


def test_equal_molecules_are_interchangeable_keys():
    assert hash(molecule_of("O H H")) == hash(molecule_of("O H H"))
    assert molecule_of("O H H") == molecule_of("O H H")
    assert molecule_of("O H H") != molecule_of("H O H")
    assert molecule_of("O H H") != molecule_of("O H H", guess="sap")


def test_the_grid_of_a_level_is_kept():
    molecule = molecule_of("H H")
    first = molecule.grid_template(1, torch.device("cpu"))
    assert molecule.grid_template(1, torch.device("cpu")) is first
    assert len(molecule.grid_template(2, torch.device("cpu")).volumes) > len(first.volumes)
