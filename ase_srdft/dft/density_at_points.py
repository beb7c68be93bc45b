"""What a density matrix is in space: the density, its orbitals and its potential at points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import pyscf_molecule

__all__ = ["density_at", "electrostatic_potential_at", "orbital_at"]

#: Bytes of the values, or the integrals, of the points that are computed together.
_BLOCK_BYTES = 64_000_000


def density_at(
    molecule: Molecule,
    positions: Float[np.ndarray, "natoms 3"],
    density_matrix: Float[np.ndarray, "nao nao"],
    points: Float[np.ndarray, "npoints 3"],
) -> Float[np.ndarray, " npoints"]:
    """rho(r) = sum_mn P_mn chi_m(r) chi_n(r), electrons per cubic Bohr.

    Args:
        molecule: the molecule.
        positions: nuclei (Bohr).
        density_matrix: P, spin-summed.
        points: where (Bohr).
    """
    mol = pyscf_molecule(molecule, positions)
    density = np.empty(len(points))
    for block in _blocks(len(points), molecule.nao):
        values = mol.eval_gto("GTOval_sph", points[block])
        density[block] = np.einsum("gm,gm->g", values @ density_matrix, values)
    return density


def orbital_at(
    molecule: Molecule,
    positions: Float[np.ndarray, "natoms 3"],
    coefficients: Float[np.ndarray, " nao"],
    points: Float[np.ndarray, "npoints 3"],
) -> Float[np.ndarray, " npoints"]:
    """phi(r) = sum_m C_m chi_m(r), in Bohr^(-3/2); the nuclei and points in Bohr."""
    mol = pyscf_molecule(molecule, positions)
    orbital = np.empty(len(points))
    for block in _blocks(len(points), molecule.nao):
        orbital[block] = mol.eval_gto("GTOval_sph", points[block]) @ coefficients
    return orbital


def electrostatic_potential_at(
    molecule: Molecule,
    positions: Float[np.ndarray, "natoms 3"],
    density_matrix: Float[np.ndarray, "nao nao"],
    points: Float[np.ndarray, "npoints 3"],
    closest: float = 0.0,
) -> Float[np.ndarray, " npoints"]:
    """V(r) = sum_A Z_A / |r - R_A| - integral rho(r') / |r - r'| dr', Hartree per e.

    Args:
        molecule: the molecule.
        positions: nuclei (Bohr).
        density_matrix: P, spin-summed.
        points: where (Bohr).
        closest: a nucleus that is closer than this (Bohr) counts as if it were as far; with zero
            the potential is infinite where a nucleus is.
    """
    mol = pyscf_molecule(molecule, positions)
    distances = np.maximum(cdist(points, positions), closest)
    with np.errstate(divide="ignore"):
        potential: np.ndarray = (1.0 / distances) @ np.array(molecule.numbers, dtype=float)
    for block in _blocks(len(points), molecule.nao**2):
        integrals = mol.intor("int1e_grids", grids=points[block])
        potential[block] -= np.einsum("gmn,mn->g", integrals, density_matrix)
    return potential


def _blocks(npoints: int, nvalues: int) -> Iterator[slice]:
    """Slices of the points, so many that their numbers, of ``nvalues`` each, fit into a block."""
    size = max(1, _BLOCK_BYTES // (8 * nvalues))
    for start in range(0, npoints, size):
        yield slice(start, start + size)
