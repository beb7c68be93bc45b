"""What a model says of a batch of geometries: energy, forces, bracket, state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.energy_bracket import EnergyBracket
from ase_srdft.dft.prepared_geometry import Geometry, concatenate
from ase_srdft.dft.projector import DEGENERATE_GAP
from ase_srdft.models.correction_record import CorrectionRecord
from ase_srdft.models.electronic_state import ElectronicState

__all__ = ["SinglePointResult", "concatenate_single_points"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SinglePointResult:
    """A model's answer for a batch of geometries, detached.

    Attributes:
        energy: E[R, f(R)] (Hartree).
        forces: -dE/dR, the full derivative (Hartree/Bohr); NaN where the frontier orbitals are
            degenerate and there is no derivative; None if not asked for.
        bracket: bounds of the SCF energy (Hartree).
        state: density matrix and orbitals of the model.
        fock: F[P] (Hartree).
        geometry: integrals and grid, detached.
        paths: how the state of each geometry came about
            (`ase_srdft.models.correction_record.PATHS`).
        corrections: more of it; empty where nothing was to be kept.
        frontier_gap: smallest gap (Hartree) between occupied and empty orbitals on the way from
            the nuclei to the state, that of its guess included; infinite where none is empty; None
            where it was not noted.
    """

    energy: Float[Tensor, " batch"]
    forces: Float[Tensor, "batch natoms 3"] | None
    bracket: EnergyBracket
    state: ElectronicState
    fock: Float[Tensor, "batch nao nao"]
    geometry: Geometry
    paths: tuple[str, ...] = ()
    corrections: tuple[CorrectionRecord, ...] = ()
    frontier_gap: Float[Tensor, " batch"] | None = None

    def degeneracy(self, index: int) -> str | None:
        """What makes the state of a geometry, and its energy, a matter of rounding; or None."""
        gap = math.inf if self.frontier_gap is None else float(self.frontier_gap[index])
        if gap > DEGENERATE_GAP:
            return None
        return (
            f"the frontier orbitals of {self.geometry.molecule.formula} (HOMO and LUMO of its state"
            f" or of its guess) are degenerate: a gap of {max(gap, 0.0):.1e} Hartree, where at "
            f"least {DEGENERATE_GAP:.0e} tells which of them is occupied"
        )


def concatenate_single_points(parts: Sequence[SinglePointResult]) -> SinglePointResult:
    """One evaluation from those of consecutive pieces of a batch."""
    if len(parts) == 1:
        return parts[0]
    forces = [part.forces for part in parts if part.forces is not None]
    levels = [part.state.mo_energy for part in parts if part.state.mo_energy is not None]
    gaps = [part.frontier_gap for part in parts if part.frontier_gap is not None]
    return SinglePointResult(
        energy=torch.cat([part.energy for part in parts]),
        forces=torch.cat(forces) if forces else None,
        bracket=EnergyBracket(
            lower=torch.cat([part.bracket.lower for part in parts]),
            upper=torch.cat([part.bracket.upper for part in parts]),
            aufbau_gap=torch.cat([part.bracket.aufbau_gap for part in parts]),
        ),
        state=ElectronicState(
            density_matrix=torch.cat([part.state.density_matrix for part in parts]),
            mo_coeff=torch.cat([part.state.mo_coeff for part in parts]),
            mo_energy=torch.cat(levels) if levels else None,
        ),
        fock=torch.cat([part.fock for part in parts]),
        geometry=concatenate([part.geometry for part in parts]),
        paths=tuple(path for part in parts for path in part.paths),
        corrections=tuple(record for part in parts for record in part.corrections),
        frontier_gap=torch.cat(gaps) if gaps else None,
    )
