"""Guess Fock matrices: what the model's correction starts from, differentiable in the nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.fock_matrix import fock_matrix
from ase_srdft.dft.integrals.provider import Integrals
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.xc.quadrature import Quadrature

__all__ = ["DAMPING", "Guess", "guess_fock", "minimal_density_matrix", "roothaan_step"]

#: How far the guess ``roothaan`` goes (``benchmarks/guess_choice.py`` compares others).
DAMPING = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Guess:
    """What a model's correction starts from.

    Attributes:
        fock: F_guess(R) (Hartree).
        step: F[P0] - F0, the undamped Roothaan step (Hartree); None but for ``roothaan``.
    """

    fock: Float[Tensor, "batch nao nao"]
    step: Float[Tensor, "batch nao nao"] | None = None


def minimal_density_matrix(
    molecule: Molecule, integrals: Integrals
) -> Float[Tensor, "batch nao nao"]:
    """Superposed spherical atoms in the basis: S^-1 S12 n S12^T S^-1 (PySCF's ``minao``)."""
    assert integrals.guess_overlap is not None
    occupations = molecule.guess_occupations.to(integrals.overlap.device)
    orbitals: Tensor = torch.linalg.solve(integrals.overlap, integrals.guess_overlap)
    return (orbitals * occupations) @ orbitals.transpose(-1, -2)


def roothaan_step(
    molecule: Molecule,
    integrals: Integrals,
    quadrature: Quadrature,
    orthogonaliser: Float[Tensor, "batch nao nao"],
    fock: Float[Tensor, "batch nao nao"],
) -> Float[Tensor, "batch nao nao"]:
    """F[P0] - F0, P0 the aufbau density of F0: how the electrons answer to a Fock matrix."""
    projector, _, _ = occupied_projector(orthogonaliser @ fock @ orthogonaliser, molecule.nocc)
    density_matrix = 2.0 * orthogonaliser @ projector @ orthogonaliser
    return fock_matrix(integrals, quadrature, density_matrix) - fock


def guess_fock(
    molecule: Molecule,
    integrals: Integrals,
    quadrature: Quadrature | None,
    orthogonaliser: Float[Tensor, "batch nao nao"],
) -> Guess:
    """F_guess(R).

    ``roothaan``: one damped Roothaan step from ``minao``, F0 + 0.3 (F[P0] - F0).
    ``minao``: the Fock matrix F0 of the superposed atomic densities, at the level of theory.
    ``sap``: h plus superposed atomic potentials (Lehtola 2019), no quadrature.
    ``core``: h alone.

    Args:
        molecule: names the guess.
        integrals: at the nuclei.
        quadrature: for ``roothaan`` and ``minao``, otherwise not needed.
        orthogonaliser: X = S^(-1/2).
    """
    core = integrals.core_hamiltonian
    if molecule.guess == "core":
        return Guess(fock=core)
    if molecule.guess == "sap":
        assert integrals.guess_potential is not None
        return Guess(fock=core + integrals.guess_potential)
    assert quadrature is not None
    fock = fock_matrix(integrals, quadrature, minimal_density_matrix(molecule, integrals))
    if molecule.guess == "minao":
        return Guess(fock=fock)
    step = roothaan_step(molecule, integrals, quadrature, orthogonaliser, fock)
    return Guess(fock=fock + DAMPING * step, step=step)
