"""The dipole moment of a density matrix."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.dft.molecule import Molecule

__all__ = ["dipole_integrals", "dipole_moment"]


@lru_cache(maxsize=16)
def _template(numbers: tuple[int, ...], basis: str) -> Any:
    """PySCF's molecule, to be put at the positions wanted."""
    from pyscf import gto

    atoms = [(chemical_symbols[n], (0.0, 0.0, float(i))) for i, n in enumerate(numbers)]
    # the integrals do not know of electrons, but PySCF wants their number and spin to fit
    return gto.M(atom=atoms, basis=basis, spin=sum(numbers) % 2, unit="Bohr", verbose=0)


def dipole_integrals(
    molecule: Molecule, positions: Float[np.ndarray, "natoms 3"]
) -> Float[np.ndarray, "3 nao nao"]:
    """<mu| r |nu> (Bohr), r counted from the origin of the positions (Bohr)."""
    mol = _template(molecule.numbers, molecule.level.basis)
    integrals: np.ndarray = mol.set_geom_(positions, unit="Bohr", inplace=False).intor("int1e_r")
    return integrals


def dipole_moment(
    molecule: Molecule,
    positions: Float[np.ndarray, "natoms 3"],
    density_matrix: Float[np.ndarray, "nao nao"],
) -> Float[np.ndarray, "3"]:
    """sum_A Z_A R_A - Tr P r (e Bohr), from the negative to the positive charge.

    For a charged molecule it depends on where the origin of the positions (Bohr) is.
    """
    nuclei = np.array(molecule.numbers, dtype=float) @ positions
    integrals = dipole_integrals(molecule, positions)
    moment: np.ndarray = nuclei - np.einsum("cmn,mn->c", integrals, density_matrix)
    return moment
