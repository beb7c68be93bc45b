"""The orbitals of a density matrix that is not quite self-consistent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

__all__ = ["CanonicalOrbitals", "canonical_orbitals"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CanonicalOrbitals:
    """Orbitals C with 2 C_occ C_occ^T = P, among which F[P] is as diagonal as that allows.

    Attributes:
        mo_coeff: in columns, C^T S C = 1, the occupied ones first, each group by energy.
        mo_energy: the diagonal of C^T F C (Hartree).
        mo_occ: 2 or 0 electrons.
    """

    mo_coeff: Float[np.ndarray, "nao nao"]
    mo_energy: Float[np.ndarray, " nao"]
    mo_occ: Float[np.ndarray, " nao"]


def canonical_orbitals(
    density_matrix: Float[np.ndarray, "nao nao"],
    fock: Float[np.ndarray, "nao nao"],
    overlap: Float[np.ndarray, "nao nao"],
    nocc: int,
) -> CanonicalOrbitals:
    """Occupied and empty orbitals of P, each group turned so that F is diagonal in it.

    At self-consistency they are the eigenvectors of F.  Elsewhere these have another density
    than P, to first order in what is missing, and these energies differ from the eigenvalues to
    second order only.  The largest coefficient of each orbital is positive.

    Args:
        density_matrix: P, spin-summed, of whole electron pairs: P S P = 2 P.
        fock: F[P] (Hartree).
        overlap: S.
        nocc: number of doubly occupied orbitals.
    """
    # S P S c = n S c: n is 2 for occupied ones, which come last, and 0 for empty ones
    _, natural = eigh(overlap @ density_matrix @ overlap, overlap)
    nempty = len(fock) - nocc
    groups = [_diagonalised(fock, natural[:, nempty:]), _diagonalised(fock, natural[:, :nempty])]
    coefficients = np.hstack([coefficients for _, coefficients in groups])
    largest = np.abs(coefficients).argmax(axis=0)
    return CanonicalOrbitals(
        mo_coeff=coefficients * np.sign(coefficients[largest, np.arange(len(fock))]),
        mo_energy=np.concatenate([energies for energies, _ in groups]),
        mo_occ=np.where(np.arange(len(fock)) < nocc, 2.0, 0.0),
    )


def _diagonalised(fock: np.ndarray, orbitals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies, ascending, and orbitals of a group in which F is diagonal."""
    if orbitals.shape[1] == 0:
        return np.empty(0), orbitals
    energies, turn = eigh(orbitals.T @ fock @ orbitals)
    return energies, orbitals @ turn
