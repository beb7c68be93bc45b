"""A state as PySCF's own objects, for PySCF's methods and files to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.canonical_orbitals import CanonicalOrbitals
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field, pyscf_molecule

__all__ = ["solved_mean_field", "write_molden"]

#: What PySCF says where nobody has asked for less.
_USUAL_WORDS = 3
#: Of the shells that a Molden file can hold: g.
_HIGHEST_IN_MOLDEN = 4


def solved_mean_field(
    molecule: Molecule,
    positions: Float[np.ndarray, "natoms 3"],
    orbitals: CanonicalOrbitals,
    energy: float,
) -> Any:
    """PySCF's RKS object at the level of theory, as if its SCF had ended at these orbitals.

    Its ``make_rdm1()`` is their density matrix, ``e_tot`` the energy, and ``converged`` true, so
    that PySCF's methods go on from it; how far the state is from the SCF they do not know.

    Args:
        molecule: the molecule.
        positions: nuclei (Bohr).
        orbitals: of the state.
        energy: of the state (Hartree).
    """
    scf = mean_field(molecule, positions)
    scf.mol.verbose = scf.verbose = _USUAL_WORDS
    scf.grids.verbose = _USUAL_WORDS
    scf.mo_coeff, scf.mo_energy, scf.mo_occ = (
        orbitals.mo_coeff,
        orbitals.mo_energy,
        orbitals.mo_occ,
    )
    scf.e_tot, scf.converged = energy, True
    return scf


def write_molden(
    path: Path,
    molecule: Molecule,
    positions: Float[np.ndarray, "natoms 3"],
    orbitals: CanonicalOrbitals,
) -> None:
    """Write geometry, basis and orbitals as Molden's format has them, by PySCF's own writer.

    Args:
        path: of the file.
        molecule: the molecule.
        positions: nuclei (Bohr).
        orbitals: of the state.

    Raises:
        BadInput: a basis with h functions, which the format does not know.
    """
    from pyscf.tools import molden

    mol = pyscf_molecule(molecule, positions)
    if max(mol.bas_angular(shell) for shell in range(mol.nbas)) > _HIGHEST_IN_MOLDEN:
        raise BadInput(
            f"{molecule.level.basis} has h functions, and Molden's format ends with g: use "
            "another basis"
        )
    molden.from_mo(mol, str(path), orbitals.mo_coeff, ene=orbitals.mo_energy, occ=orbitals.mo_occ)
