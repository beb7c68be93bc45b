"""Charges of atoms: two ways to share a density matrix out among them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from ase_srdft.dft.molecule import Molecule

__all__ = ["loewdin_charges", "mulliken_charges"]


def mulliken_charges(
    molecule: Molecule,
    overlap: Float[np.ndarray, "nao nao"],
    density_matrix: Float[np.ndarray, "nao nao"],
) -> Float[np.ndarray, " natoms"]:
    """Z_A - sum_(mu on A) (P S)_mu,mu (e): Mulliken, J. Chem. Phys. 23, 1833 (1955)."""
    return _charges(molecule, np.einsum("mn,nm->m", density_matrix, overlap))


def loewdin_charges(
    molecule: Molecule,
    overlap: Float[np.ndarray, "nao nao"],
    density_matrix: Float[np.ndarray, "nao nao"],
) -> Float[np.ndarray, " natoms"]:
    """Z_A - sum_(mu on A) (S^1/2 P S^1/2)_mu,mu (e): Loewdin, J. Chem. Phys. 18, 365 (1950).

    Turning the molecule does not change them, as the atomic orbitals are spherical.
    """
    eigenvalues, vectors = eigh(overlap)
    root = (vectors * np.sqrt(eigenvalues)) @ vectors.T
    return _charges(molecule, np.einsum("ij,jk,ki->i", root, density_matrix, root, optimize=True))


def _charges(
    molecule: Molecule, populations: Float[np.ndarray, " nao"]
) -> Float[np.ndarray, " natoms"]:
    electrons = np.array([populations[own].sum() for own in molecule.basis.atom_slices])
    charges: np.ndarray = np.array(molecule.numbers, dtype=float) - electrons
    return charges
