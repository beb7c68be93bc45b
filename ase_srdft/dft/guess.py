"""Guess Fock matrices: what the model's correction starts from, differentiable in the nuclei."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.fock import fock_matrix
from ase_srdft.dft.integrals import Integrals
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.xc import Quadrature

__all__ = ["guess_fock", "minimal_density_matrix"]


def minimal_density_matrix(
    molecule: Molecule, integrals: Integrals
) -> Float[Tensor, "batch nao nao"]:
    """Superposed spherical atoms in the basis: S^-1 S12 n S12^T S^-1 (PySCF's ``minao``)."""
    assert integrals.guess_overlap is not None
    occupations = molecule.guess_occupations.to(integrals.overlap.device)
    orbitals: Tensor = torch.linalg.solve(integrals.overlap, integrals.guess_overlap)
    return (orbitals * occupations) @ orbitals.transpose(-1, -2)


def guess_fock(
    molecule: Molecule, integrals: Integrals, quadrature: Quadrature | None
) -> Float[Tensor, "batch nao nao"]:
    """F_guess(R) (Hartree).

    ``minao``: the Fock matrix F[P] of the superposed atomic densities, at the level of theory.
    ``sap``: h plus superposed atomic potentials (Lehtola 2019), no quadrature.
    ``core``: h alone.

    Args:
        molecule: names the guess.
        integrals: at the nuclei.
        quadrature: for ``minao``, otherwise not needed.
    """
    core = integrals.core_hamiltonian
    if molecule.guess == "core":
        return core
    if molecule.guess == "sap":
        assert integrals.guess_potential is not None
        return core + integrals.guess_potential
    assert quadrature is not None
    return fock_matrix(integrals, quadrature, minimal_density_matrix(molecule, integrals))
