"""Which atoms are bonded, and which are too close, from distances alone (Angstrom)."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Bool, Float, Integer

__all__ = ["bond_matrix", "same_connectivity", "too_close"]

#: Atoms are bonded up to this multiple of the sum of their covalent radii.
_BOND_FACTOR = 1.3


def bond_matrix(
    numbers: Integer[np.ndarray, " natoms"],
    positions_angstrom: Float[np.ndarray, "*batch natoms 3"],
) -> Bool[np.ndarray, "*batch natoms natoms"]:
    """Which atoms are closer than 1.3 times the sum of their covalent radii.

    Symmetric, and false on the diagonal.

    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> np.argwhere(np.triu(bond_matrix(water.numbers, water.positions))).tolist()
    [[0, 1], [0, 2]]
    """
    radii = covalent_radii[numbers]
    reach = _BOND_FACTOR * (radii[:, None] + radii)
    np.fill_diagonal(reach, 0.0)
    vectors = positions_angstrom[..., :, None, :] - positions_angstrom[..., None, :, :]
    bonded: np.ndarray = (vectors**2).sum(axis=-1) < reach**2
    return bonded


def same_connectivity(
    numbers: Integer[np.ndarray, " natoms"],
    reference_angstrom: Float[np.ndarray, "natoms 3"],
    positions_angstrom: Float[np.ndarray, "nwalkers natoms 3"],
) -> Bool[np.ndarray, " nwalkers"]:
    """Which walkers have exactly the bonds of the reference.

    A walker with a position that is not finite has not.
    """
    finite = np.isfinite(positions_angstrom).all(axis=(1, 2))
    expected = bond_matrix(numbers, reference_angstrom)
    found = bond_matrix(numbers, np.where(finite[:, None, None], positions_angstrom, 0.0))
    same: np.ndarray = finite & (found == expected).all(axis=(1, 2))
    return same


def too_close(
    numbers: Integer[np.ndarray, " natoms"],
    positions_angstrom: Float[np.ndarray, "nwalkers natoms 3"],
) -> Bool[np.ndarray, " nwalkers"]:
    """Which walkers are not finite or have two atoms within half their covalent distance."""
    finite = np.isfinite(positions_angstrom).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], positions_angstrom, 0.0)
    radii = covalent_radii[numbers]
    first, second = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(safe[:, first] - safe[:, second], axis=-1)
    clash: np.ndarray = (distances < 0.5 * (radii[first] + radii[second])).any(axis=1)
    hopeless: np.ndarray = ~finite | clash
    return hopeless
