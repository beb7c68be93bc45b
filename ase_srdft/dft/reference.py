"""The converged SCF of PySCF at the same level: same grid, same fitting; oracle and yardstick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ase_srdft.dft.molecule import Molecule
from ase_srdft.elements import chemical_symbols
from ase_srdft.errors import ReferenceNotConverged

__all__ = ["Reference", "mean_field", "reference_scf"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A converged Kohn-Sham state.

    Attributes:
        energy: (Hartree).
        density_matrix: P, spin-summed.
        fock: F[P] (Hartree).
        mo_energy: (Hartree).
        forces: -dE/dR (Hartree/Bohr), grid response included; None if not asked for.
    """

    energy: float
    density_matrix: Float[np.ndarray, "nao nao"]
    fock: Float[np.ndarray, "nao nao"]
    mo_energy: Float[np.ndarray, " nao"]
    forces: Float[np.ndarray, "natoms 3"] | None


def mean_field(molecule: Molecule, positions: Float[np.ndarray, "natoms 3"]) -> Any:
    """PySCF's RKS object of a molecule at a geometry (Bohr), not yet run."""
    from pyscf import dft, gto

    level = molecule.level
    mol = gto.M(
        atom=[
            (chemical_symbols[n], tuple(position))
            for n, position in zip(molecule.numbers, positions, strict=True)
        ],
        unit="Bohr",
        basis=level.basis,
        charge=level.charge,
        verbose=0,
    )
    scf = dft.RKS(mol, xc=level.functional.pyscf_name)
    if level.auxiliary_basis is not None:
        scf = scf.density_fit(auxbasis=level.auxiliary_basis)
    scf.grids.level = level.grid_level
    # PySCF would write each cycle to a temporary file and leave it open.
    checkpoint = vars(scf).pop("_chkfile", None)
    if checkpoint is not None:
        checkpoint.close()
    scf.chkfile = None
    return scf


def reference_scf(
    molecule: Molecule,
    positions: Float[np.ndarray, "natoms 3"],
    forces: bool = False,
    density_matrix: Float[np.ndarray, "nao nao"] | None = None,
) -> Reference:
    """Converge the SCF to 1e-10 Hartree.

    Args:
        molecule: the molecule.
        positions: nuclei (Bohr).
        forces: whether to differentiate it (with grid response).
        density_matrix: start, instead of PySCF's minao guess.

    Raises:
        ReferenceNotConverged: not even with the second-order solver.
    """
    scf = mean_field(molecule, positions)
    scf.conv_tol = 1e-10
    scf.kernel(dm0=density_matrix)
    if not scf.converged:
        scf = scf.newton()
        scf.kernel(scf.mo_coeff, scf.mo_occ)
    if not scf.converged:
        raise ReferenceNotConverged(
            f"the reference SCF of {molecule.formula} at {molecule.level} did not converge "
            f"(last energy {scf.e_tot:.6f} Hartree): check the geometry"
        )
    gradient = None
    if forces:
        method = scf.nuc_grad_method()
        method.grid_response = True
        gradient = -np.asarray(method.kernel())
    matrix = scf.make_rdm1()
    return Reference(
        energy=float(scf.e_tot),
        density_matrix=np.asarray(matrix),
        fock=np.asarray(scf.get_fock(dm=matrix)),
        mo_energy=np.asarray(scf.mo_energy),
        forces=gradient,
    )
