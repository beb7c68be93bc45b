"""Bonds by distance: of known molecules, at the limit, and of walkers that lost theirs."""

import numpy as np
import pytest
from ase.build import molecule

from ase_srdft.common.connectivity import (
    bond_matrix,
    bonded_groups,
    same_connectivity,
    same_molecule,
    too_close,
)
from tests.tools.small_training import HCN, HNC, peroxide


@pytest.mark.parametrize(
    ("name", "nbonds"), [("H2O", 2), ("CH3CH2OH", 8), ("C6H6", 12), ("CO2", 2), ("H", 0)]
)
def test_the_bonds_of_a_molecule(name, nbonds):
    atoms = molecule(name)
    matrix = bond_matrix(atoms.numbers, atoms.positions)
    assert matrix.sum() == 2 * nbonds
    np.testing.assert_array_equal(matrix, matrix.T)


def test_bonds_end_at_1_3_times_the_radii():
    numbers = np.array([6, 1])  # covalent radii 0.76 and 0.31 Angstrom
    inside, outside = (np.array([[0.0, 0, 0], [0, 0, r]]) for r in (1.390, 1.392))
    assert bond_matrix(numbers, inside).tolist() == [[False, True], [True, False]]
    assert not bond_matrix(numbers, outside).any()


def test_walkers_that_broke_or_made_a_bond():
    water = molecule("H2O")
    walkers = np.repeat(water.positions[None], 5, axis=0)
    walkers[1] += 0.05 * np.random.default_rng(1).standard_normal((3, 3))
    walkers[2, 1] += [0.0, 5.0, 0.0]  # broken
    walkers[3, 1] = walkers[3, 2] + [0.0, 0.0, 0.7]  # the hydrogens meet
    walkers[4, 0, 0] = np.nan
    found = same_connectivity(water.numbers, water.positions, walkers)
    assert found.tolist() == [True, True, False, False, False]
    atom = np.array([1])
    positions = np.array([[[0.0, 0, 0]], [[np.nan, 0, 0]]])
    assert same_connectivity(atom, positions[0], positions).tolist() == [True, False]


def test_atoms_within_half_their_covalent_distance_are_too_close():
    numbers = np.array([6, 1])  # covalent radii 0.76 and 0.31 Angstrom
    walkers = np.array([[[0.0, 0, 0], [0, 0, r]] for r in (0.54, 0.53, np.nan)])
    assert too_close(numbers, walkers).tolist() == [False, True, True]


def shuffled(atoms, seed=0):
    """The same structure in another order, turned and rattled."""
    other = atoms[np.random.default_rng(seed).permutation(len(atoms))]
    other.rotate(50.0, (1.0, 2.0, 3.0))
    other.rattle(0.01, seed=seed)
    return other


@pytest.mark.parametrize("name", ["H2", "CH3CH2OH", "C6H6", "isobutane", "CH3CONH2"])
def test_a_molecule_is_the_same_in_any_order(name):
    atoms = molecule(name)
    for seed in range(3):
        other = shuffled(atoms, seed)
        assert (other.numbers != atoms.numbers).any() or len(set(atoms.numbers)) == 1
        assert same_molecule(atoms, other)
        assert bonded_groups(atoms) == bonded_groups(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (molecule("CH3CH2OH"), molecule("CH3OCH3")),
        (molecule("trans-butane"), molecule("isobutane")),
        (molecule("C3H4_C3v"), molecule("C3H4_D2d")),
        (molecule("C3H4_C3v"), molecule("C3H4_C2v")),
        (HCN, HNC),
        (molecule("H2O"), molecule("H2O2")),
        (molecule("H2O"), molecule("SH2")),
    ],
)
def test_isomers_and_other_molecules_are_not_the_same(one, other):
    assert not same_molecule(one, other)
    assert not same_molecule(other, shuffled(one))


def test_conformers_are_the_same_molecule():
    assert same_molecule(peroxide(0.0), peroxide(120.0))


def test_groups_in_words():
    assert bonded_groups(molecule("CH3CONH2")) == "CH3, C, NH2, O"
    assert bonded_groups(molecule("C6H6")) == "6 CH"
    assert bonded_groups(molecule("H2")) == ""
