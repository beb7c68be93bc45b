"""Auxiliary shells of density fitting, and solid harmonics in Cartesians, from PySCF."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from ase_srdft.dft.basis.element_basis import SOLID_HARMONIC_FACTOR, lone_atom

__all__ = ["AuxiliaryShell", "auxiliary_shells", "cartesian_harmonics"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AuxiliaryShell:
    """A contracted auxiliary shell.

    Attributes:
        atom: where it is.
        angular: l.
        exponents: of its primitives (Bohr^-2).
        coefficients: of the solid harmonics of :func:`cartesian_harmonics`.
    """

    atom: int
    angular: int
    exponents: Float[np.ndarray, " nprimitive"]
    coefficients: Float[np.ndarray, " nprimitive"]


def auxiliary_shells(
    numbers: tuple[int, ...], name: str, highest: int | None = None
) -> list[AuxiliaryShell]:
    """The shells of a molecule, atom after atom, in PySCF's order.

    Args:
        numbers: atomic numbers.
        name: of the auxiliary basis.
        highest: angular momentum; None for all.

    Raises:
        BadInput: an unknown basis, or an element that it does not cover.
    """
    return [
        AuxiliaryShell(atom=atom, angular=angular, exponents=exponents, coefficients=coefficients)
        for atom, number in enumerate(numbers)
        for angular, exponents, coefficients in _element_shells(name, number)
        if highest is None or angular <= highest
    ]


@lru_cache(maxsize=256)
def _element_shells(name: str, number: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    mol = lone_atom(name, number)
    shells = []
    for shell in range(mol.nbas):
        angular = int(mol.bas_angular(shell))
        factor = SOLID_HARMONIC_FACTOR.get(angular, 1.0)
        for column in mol._libcint_ctr_coeff(shell).T:
            shells.append((angular, mol.bas_exp(shell), factor * column))
    return shells


@lru_cache(maxsize=16)
def cartesian_harmonics(angular: int) -> Float[np.ndarray, "ncartesian nharmonic"]:
    """Real solid harmonics in Cartesians as PySCF orders both, s and p without their factor."""
    from pyscf import gto

    matrix: np.ndarray = np.ascontiguousarray(gto.mole.cart2sph(angular, normalized="sp"))
    return matrix
