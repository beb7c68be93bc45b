"""The door from ASE: each fault has one message, and what passes is in atomic units."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr

from ase_srdft.common.errors import BadGeometry, BadInput
from ase_srdft.common.nuclei import Nuclei, check_structure, nuclei_of
from tests.common.test_structures import message


def hydroxide(**info):
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    atoms.info.update(info)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms(), "the start has no atoms"),
        (Atoms("XH", [[0, 0, 0], [0, 0, 1]]), "atom 0 has the atomic number 0"),
        (Atoms(numbers=[1, 119], positions=[[0, 0, 0], [0, 0, 1]]), "atomic number 119"),
        (Atoms("H", pbc=(True, False, False)), "periodic (pbc = [True, False, False])"),
        (Atoms("OH", [[0, 0, 0], [0, np.nan, 1]]), "atom 1 (H) is at [0.0, nan, 1.0]"),
        (Atoms("OH", [[np.inf, 0, 0], [0, 0, 1]]), "atom 0 (O) is at [inf, 0.0, 0.0]"),
        (Atoms("OHH", [[0, 0, 0], [0, 0, 1], [0, 0, 0.71]]), "1 (H) and 2 (H) are 0.290"),
    ],
)
def test_structures_that_are_no_molecule_in_vacuum(atoms, words):
    assert words in message(nuclei_of, atoms, None, None, "the start")
    assert words in message(check_structure, atoms, "the start")


def test_numbers_charge_and_positions_in_bohr():
    water = molecule("H2O")
    nuclei = nuclei_of(water)
    assert (nuclei.numbers, nuclei.charge) == ((8, 1, 1), 0)
    assert {type(number) for number in nuclei.numbers} == {int}
    assert nuclei.positions.dtype == np.float64
    np.testing.assert_array_equal(nuclei.positions, water.positions / Bohr)
    nuclei.positions[:] = 0.0  # its own
    np.testing.assert_array_equal(water.positions, molecule("H2O").positions)


def test_the_charge_is_that_of_argument_and_atoms():
    ion = hydroxide(charge=-1)
    assert nuclei_of(ion).charge == nuclei_of(ion, -1).charge == -1
    assert nuclei_of(molecule("H2O"), 2).charge == 2
    with pytest.raises(BadInput, match=r"^frame 3: charge=0.* is -1"):
        nuclei_of(ion, 0, what="frame 3")


@pytest.mark.parametrize("atoms", [molecule("O2"), hydroxide(charge=-1, spin=3)])
def test_open_shells_are_refused(atoms):
    with pytest.raises(BadInput, match=r"^the structure: .*multiplicity=1.*open shells"):
        nuclei_of(atoms, multiplicity=1)


def test_only_positions_are_a_bad_geometry():
    for positions in ([[0, 0, 0], [0, 0, 0.29]], [[0, 0, 0], [0, 0, np.nan]]):
        with pytest.raises(BadGeometry):
            nuclei_of(Atoms("HF", positions))
        with pytest.raises(BadInput) as caught:  # what the input says comes first
            nuclei_of(Atoms("HF", positions, charges=[1, 0]), charge=0)
        assert type(caught.value) is BadInput


def test_nuclei_pass_unless_another_charge_is_asked_for():
    nuclei = nuclei_of(hydroxide(charge=-1))
    assert nuclei_of(nuclei) is nuclei_of(nuclei, -1) is nuclei
    with pytest.raises(BadInput, match="charge -1"):
        nuclei_of(nuclei, 0)


def test_positions_are_of_as_many_atoms_as_numbers():
    with pytest.raises(BadInput, match=r"\(2, 3\).*1 atoms.*\(1, 3\)"):
        Nuclei(numbers=(1,), positions=np.zeros((2, 3)), charge=0)


def test_good_structures_pass():
    check_structure(molecule("CH3CH2OH"), "ethanol")
    check_structure(Atoms("H"), "one atom")
    check_structure(molecule("H2O", vacuum=5.0), "water in a box that is not periodic")
