"""Bond orders: how many electron pairs two atoms share in a density matrix."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from ase_srdft.dft.molecule import Molecule

__all__ = ["mayer_bond_orders", "wiberg_bond_orders"]


def mayer_bond_orders(
    molecule: Molecule,
    overlap: Float[np.ndarray, "nao nao"],
    density_matrix: Float[np.ndarray, "nao nao"],
) -> Float[np.ndarray, "natoms natoms"]:
    """sum_(mu on A, nu on B) (P S)_mu,nu (P S)_nu,mu: Mayer, Chem. Phys. Lett. 97, 270 (1983).

    Symmetric; the diagonal is zero, so that the sum of a row is the valence of an atom.  With
    diffuse functions in the basis they lose their meaning.
    """
    populations = density_matrix @ overlap
    return _between_atoms(molecule, populations * populations.T)


def wiberg_bond_orders(
    molecule: Molecule,
    overlap: Float[np.ndarray, "nao nao"],
    density_matrix: Float[np.ndarray, "nao nao"],
) -> Float[np.ndarray, "natoms natoms"]:
    """sum_(mu on A, nu on B) (S^1/2 P S^1/2)_mu,nu^2: Wiberg, Tetrahedron 24, 1083 (1968).

    In Loewdin's orthogonal orbitals; symmetric, never negative, zero on the diagonal.
    """
    eigenvalues, vectors = eigh(overlap)
    root = (vectors * np.sqrt(eigenvalues)) @ vectors.T
    return _between_atoms(molecule, (root @ density_matrix @ root) ** 2)


def _between_atoms(
    molecule: Molecule, shared: Float[np.ndarray, "nao nao"]
) -> Float[np.ndarray, "natoms natoms"]:
    """The sums over the orbitals of each pair of atoms."""
    starts = [own.start for own in molecule.basis.atom_slices]
    rows = np.add.reduceat(shared, starts, axis=0)
    orders: np.ndarray = np.add.reduceat(rows, starts, axis=1)
    np.fill_diagonal(orders, 0.0)
    return orders
