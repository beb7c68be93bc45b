"""Bonds by distance: of known molecules, at the limit, and of walkers that lost theirs."""

import numpy as np
import pytest
from ase.build import molecule

from ase_srdft.common.connectivity import bond_matrix, same_connectivity, too_close


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
