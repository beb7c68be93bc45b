"""A state on the level's own grid, and the promise that it is held against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.correction import residual
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import EnergyBracket, energy_bracket
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector

__all__ = ["FORCE_ERROR_PER_RESIDUAL", "CorrectedState", "Promise"]

#: Largest error of a force component (Hartree/Bohr) for each Hartree of the residual's norm: 1.45
#: times the largest that `benchmarks/correction.py --calibrate` has found (N2 compressed,
#: LDA/STO-3G); the median is 0.2 to 0.35.
FORCE_ERROR_PER_RESIDUAL = 2.0


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What an answer keeps.

    Attributes:
        error: widest bracket (Hartree).
        force_error: largest estimate of a force component's error (Hartree/Bohr).
    """

    error: float
    force_error: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CorrectedState:
    """A state on the level's own grid, with what tells how near it is to self-consistency.

    Attributes:
        projector: Gamma, in Loewdin's basis.
        energy: (Hartree), with a graph where the geometry has one.
        fock: F[P] (Hartree), detached.
        bracket: around the SCF energy (Hartree).
        residual: norm of [F, Gamma] (Hartree).
        levels: of F[P] (Hartree).
        orbitals: and its orbitals, in columns.
    """

    projector: Float[Tensor, "nao nao"]
    energy: Float[Tensor, " 1"]
    fock: Float[Tensor, "1 nao nao"]
    bracket: EnergyBracket
    residual: float
    levels: Float[Tensor, "1 nao"]
    orbitals: Float[Tensor, "1 nao nao"]

    @classmethod
    def at(cls, geometry: Geometry, projector: Float[Tensor, "nao nao"]) -> CorrectedState:
        """That of a projector."""
        density_matrix = geometry.density_matrix(projector[None])
        energies, fock = kohn_sham(geometry, density_matrix)
        total, density_matrix = energies.total, density_matrix.detach()
        orthogonaliser = geometry.orthogonaliser.detach()
        orthogonal = orthogonaliser @ fock @ orthogonaliser
        levels, orbitals = torch.linalg.eigh(orthogonal)
        return cls(
            projector=projector,
            energy=total,
            fock=fock,
            bracket=energy_bracket(geometry, total.detach(), density_matrix, fock, levels),
            residual=float(residual(orthogonal[0], projector).norm()),
            levels=levels,
            orbitals=orthogonaliser @ orbitals,
        )

    def keeps(self, promise: Promise) -> bool:
        """Whether it is near enough; never true of what is not a number."""
        return (
            float(self.bracket.width) <= promise.error and self.force_error <= promise.force_error
        )

    @property
    def force_error(self) -> float:
        """Estimate of the largest error of a component of the forces (Hartree/Bohr)."""
        return FORCE_ERROR_PER_RESIDUAL * self.residual

    @torch.no_grad()
    def lies_above_empty_orbitals(self, geometry: Geometry, promise: Promise) -> bool:
        """Whether a self-consistent state is none of lowest orbitals, so that its bracket is wide.

        The lowest solution of a stretched bond may have an occupied orbital above an empty one.
        """
        lowest = occupied_projector(geometry.orthogonal(self.fock), geometry.molecule.nocc)[0][0]
        shared = float((lowest * self.projector).sum())
        near = self.force_error <= promise.force_error
        return near and shared < geometry.molecule.nocc - 0.5
