"""Tables behind the guess Fock matrices: minimal atomic densities and atomic potentials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.common.errors import BadInput

__all__ = ["MinimalBasis", "atomic_potential", "minimal_basis"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MinimalBasis:
    """The occupied orbitals of a spherical atom in the ANO basis.

    Attributes:
        shells: PySCF's internal form.
        occupations: electrons in each orbital, shell after shell.
    """

    shells: list[Any]
    occupations: Float[np.ndarray, " norbital"]


@lru_cache(maxsize=128)
def minimal_basis(number: int) -> MinimalBasis:
    """The minao guess of one element: first ANO contractions with averaged occupations.

    Raises:
        BadInput: the ANO basis does not cover the element.
    """
    from pyscf import gto
    from pyscf.scf.atom_hf import frac_occ

    symbol = chemical_symbols[number]
    try:
        ano = gto.basis.load("ano", symbol)
    except Exception as err:
        raise BadInput(f"guess 'minao' does not cover {symbol}: use guess 'sap'") from err
    shells: list[Any] = []
    occupations: list[float] = []
    for angular in range(3):
        full, fraction = frac_occ(symbol, angular)
        filled = [2.0] * int(full) + ([float(fraction)] if fraction > 0 else [])
        if not filled:
            continue
        columns = [shell[1:] for shell in ano if shell[0] == angular]
        primitives = [row for shell in columns for row in shell]
        shells.append([angular, *[row[: 1 + len(filled)] for row in primitives]])
        # libcint orders a contracted shell contraction by contraction.
        for occupation in filled:
            occupations += [occupation] * (2 * angular + 1)
    return MinimalBasis(shells=shells, occupations=np.array(occupations))


@lru_cache(maxsize=128)
def atomic_potential(number: int) -> list[Any]:
    """The superposition-of-atomic-potentials guess of one element, as one s-shell of charges.

    Lehtola, Visscher and Engel 2020 (J. Chem. Phys. 152, 144105): the screening of the nucleus
    by the electrons of the free atom, fitted by error functions.  Returns (exponent, charge)
    pairs; the charges add up to the atomic number.

    Raises:
        BadInput: the tables do not cover the element.
    """
    from pyscf import gto

    symbol = chemical_symbols[number]
    try:
        table = gto.basis.load("sapgrasplarge", symbol)
    except Exception as err:
        raise BadInput(f"guess 'sap' does not cover {symbol}: use guess 'minao'") from err
    return [tuple(row) for row in table[0][1:]]
