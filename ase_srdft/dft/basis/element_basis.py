"""Gaussian basis sets, parsed by PySCF into plain arrays per element.

An atomic orbital is ``chi(d) = R(d^2) Y_lm(d)`` with ``d = r - R_atom``, the real solid harmonic
``Y_lm`` normalised on the unit sphere and ``R = sum_p c_p exp(-alpha_p d^2)``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.common.errors import BadInput

__all__ = [
    "MAX_ANGULAR_MOMENTUM",
    "SOLID_HARMONIC_FACTOR",
    "ElementBasis",
    "element_basis",
    "formatted_basis",
    "lone_atom",
]

MAX_ANGULAR_MOMENTUM = 3
#: The 1s energy of the bare nucleus in an all-electron basis, in units of the exact -Z^2/2, is
#: 0.93 or more in any of PySCF's; in one made for pseudopotentials it is 0.77 or less.
_LEAST_CORE_ENERGY = 0.85
#: Of s and p on the unit sphere; those of d and f are in the harmonics themselves.
SOLID_HARMONIC_FACTOR = {0: 0.282094791773878143, 1: 0.488602511902919921, 2: 1.0, 3: 1.0}


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementBasis:
    """The shells of one element.

    Attributes:
        angular_momenta: l of each shell, in PySCF's order.
        exponents: distinct primitive exponents (Bohr^-2).
        coefficients: contraction coefficients, zero where a shell lacks a primitive; the
            constant factors of s and p solid harmonics are folded in, those of d and f are not.
    """

    angular_momenta: tuple[int, ...]
    exponents: Float[np.ndarray, " nprimitive"]
    coefficients: Float[np.ndarray, "nshell nprimitive"]

    @property
    def nao(self) -> int:
        """Number of atomic orbitals on one atom."""
        return sum(2 * angular + 1 for angular in self.angular_momenta)

    @property
    def shell_offsets(self) -> tuple[int, ...]:
        """First orbital of each shell, counted on the atom."""
        sizes = [2 * angular + 1 for angular in self.angular_momenta]
        return tuple(int(start) for start in np.cumsum([0, *sizes[:-1]]))


def formatted_basis(name: str, number: int) -> list[list[object]]:
    """PySCF's internal form of a basis set for one element.

    Raises:
        BadInput: no such basis, or none for this element.
    """
    from pyscf import gto
    from pyscf.lib.exceptions import BasisNotFoundError

    symbol = chemical_symbols[number]
    try:
        with warnings.catch_warnings():
            # PySCF's advice to install more basis sets; the error below says what to do.
            warnings.simplefilter("ignore", UserWarning)
            shells: list[list[object]] = gto.format_basis({symbol: name})[symbol]
    except (BasisNotFoundError, KeyError, RuntimeError, ValueError, AttributeError):
        raise BadInput(
            f"no basis {name!r} for {symbol}: use a name that PySCF knows "
            "(sto-3g, 6-31g, def2-svp ...) and an element it covers"
        ) from None
    if not shells:
        raise BadInput(f"basis {name!r} is empty for {symbol}: use another basis")
    return shells


def lone_atom(name: str, number: int) -> Any:
    """PySCF's molecule of one atom in a basis set.

    Raises:
        BadInput: no such basis, or none for this element.
    """
    from pyscf import gto

    symbol = chemical_symbols[number]
    return gto.M(
        atom=[(symbol, (0.0, 0.0, 0.0))],
        basis={symbol: formatted_basis(name, number)},
        spin=number % 2,
        unit="Bohr",
        verbose=0,
    )


@lru_cache(maxsize=256)
def element_basis(name: str, number: int) -> ElementBasis:
    """The basis of one element as arrays.

    Args:
        name: basis set in PySCF's words.
        number: atomic number.

    Raises:
        BadInput: unknown basis or element, functions beyond f, or a basis that leaves the core
            electrons to a pseudopotential.
    """
    symbol = chemical_symbols[number]
    mol = lone_atom(name, number)
    highest = max(mol.bas_angular(i) for i in range(mol.nbas))
    if highest > MAX_ANGULAR_MOMENTUM:
        raise BadInput(
            f"basis {name!r} has functions with l = {highest} on {symbol}: "
            "s, p, d and f are supported (for example def2-tzvp)"
        )
    if _core_energy(mol) < _LEAST_CORE_ENERGY:
        raise BadInput(
            f"basis {name!r} is made for a pseudopotential on {symbol}: use an all-electron "
            "basis (for example 6-31g)"
        )
    exponents = np.unique(np.concatenate([mol.bas_exp(i) for i in range(mol.nbas)]))
    angular_momenta: list[int] = []
    rows: list[np.ndarray] = []
    for shell in range(mol.nbas):
        angular = int(mol.bas_angular(shell))
        columns = np.searchsorted(exponents, mol.bas_exp(shell))
        for contraction in mol._libcint_ctr_coeff(shell).T:
            row = np.zeros(len(exponents))
            np.add.at(row, columns, contraction * SOLID_HARMONIC_FACTOR[angular])
            rows.append(row)
            angular_momenta.append(angular)
    return ElementBasis(
        angular_momenta=tuple(angular_momenta), exponents=exponents, coefficients=np.array(rows)
    )


def _core_energy(atom: Any) -> float:
    """Energy of one electron around the bare nucleus in the atom's basis, over -Z^2/2."""
    core_hamiltonian = atom.intor("int1e_kin") + atom.intor("int1e_nuc")
    levels = eigh(core_hamiltonian, atom.intor("int1e_ovlp"), eigvals_only=True)
    return float(levels[0]) / (-0.5 * float(atom.atom_charge(0)) ** 2)
