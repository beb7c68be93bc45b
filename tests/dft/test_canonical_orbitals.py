"""Orbitals of a density matrix: its density, and the SCF's own where that is solved."""

import numpy as np
import pytest

from ase_srdft.dft.canonical_orbitals import canonical_orbitals
from ase_srdft.dft.energy import kohn_sham
from tests.tools.molecules import prepared, random_state


@pytest.fixture(scope="module")
def state():
    geometry = prepared("H2O", xc="LDA", basis="sto-3g", grid_level=0)
    density_matrix = random_state(geometry)
    _, fock = kohn_sham(geometry, density_matrix)
    matrices = density_matrix, fock, geometry.integrals.overlap
    return *(matrix[0].detach().numpy() for matrix in matrices), geometry.molecule.nocc


def test_they_are_orthonormal_and_have_the_density(state):
    density_matrix, fock, overlap, nocc = state
    found = canonical_orbitals(*state)
    identity = found.mo_coeff.T @ overlap @ found.mo_coeff
    np.testing.assert_allclose(identity, np.eye(len(fock)), atol=1e-10)
    again = (found.mo_coeff * found.mo_occ) @ found.mo_coeff.T
    np.testing.assert_allclose(again, density_matrix, atol=1e-10)
    assert found.mo_occ.sum() == 2 * nocc


def test_fock_is_diagonal_among_occupied_and_among_empty_ones(state):
    _, fock, _, nocc = state
    found = canonical_orbitals(*state)
    matrix = found.mo_coeff.T @ fock @ found.mo_coeff
    for group in (slice(nocc), slice(nocc, None)):
        energies = found.mo_energy[group]
        np.testing.assert_allclose(matrix[group, group], np.diag(energies), atol=1e-9)
        assert (np.diff(energies) > 0).all()
    assert np.abs(matrix[:nocc, nocc:]).max() > 1e-2  # the state is not self-consistent


def test_without_empty_orbitals():
    geometry = prepared("He", xc="LDA", basis="sto-3g", grid_level=0)
    matrix = 2.0 * np.linalg.inv(geometry.integrals.overlap[0].numpy())
    found = canonical_orbitals(matrix, -matrix, geometry.integrals.overlap[0].numpy(), 1)
    np.testing.assert_allclose(found.mo_energy, [-2.0])
    np.testing.assert_allclose(found.mo_occ, [2.0])
