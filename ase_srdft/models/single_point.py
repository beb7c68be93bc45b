"""Energy, forces and certificate of a model at given nuclei."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.torch_state import undisturbed
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import EnergyBracket, energy_bracket
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import Geometry, concatenate, detached
from ase_srdft.dft.projector import DEGENERATE_GAP, noted_gaps
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel

__all__ = ["SinglePoint", "concatenate_single_points", "molecule_of", "single_point"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SinglePoint:
    """A model's answer for a batch of geometries, detached.

    Attributes:
        energy: E[R, f(R)] (Hartree).
        forces: -dE/dR, the full derivative (Hartree/Bohr); NaN where the frontier orbitals are
            degenerate and there is no derivative; None if not asked for.
        bracket: bounds of the SCF energy (Hartree).
        state: density matrix and orbitals of the model.
        fock: F[P] (Hartree).
        geometry: integrals and grid, detached.
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


def molecule_of(model: ElectronicStateModel, numbers: tuple[int, ...]) -> Molecule:
    """The molecule at the model's level of theory and with its guess.

    Raises:
        BadInput: an element the model does not know, or an open shell.
    """
    model.check_elements(numbers)
    return Molecule(numbers=numbers, level=model.level, guess=model.guess)


@undisturbed
def single_point(
    model: ElectronicStateModel,
    molecule: Molecule,
    positions: Float[Tensor, "batch natoms 3"],
    forces: bool = True,
    grid_level: int | None = None,
) -> SinglePoint:
    """Evaluate a model with fresh integrals.

    Args:
        model: gives the state.
        molecule: from :func:`molecule_of`.
        positions: nuclei (Bohr), float64, on the model's device.
        forces: whether to differentiate.
        grid_level: another grid than the level of theory's.

    Raises:
        BadInput: positions that are not finite, or atoms on top of each other.
    """
    positions = positions.detach().requires_grad_(forces)
    with torch.set_grad_enabled(forces):
        with noted_gaps() as of_guess:
            geometry = prepare(molecule, positions, grid_level)
        with noted_gaps() as of_state:
            state = model([geometry])[0]
        energies, fock = kohn_sham(geometry, state.density_matrix)
        total = energies.total
    gradient = torch.autograd.grad(total.sum(), positions)[0] if forces else None
    energy, density_matrix = total.detach(), state.density_matrix.detach()
    gap = torch.minimum(*(_smallest(gaps, energy) for gaps in (of_guess, of_state)))
    degenerate = ~(gap > DEGENERATE_GAP)[:, None, None]
    return SinglePoint(
        energy=energy,
        forces=None if gradient is None else -gradient.masked_fill(degenerate, torch.nan),
        bracket=energy_bracket(geometry, energy, density_matrix, fock),
        state=ElectronicState(
            density_matrix=density_matrix, mo_coeff=state.mo_coeff, mo_energy=state.mo_energy
        ),
        fock=fock,
        geometry=detached(geometry),
        frontier_gap=gap,
    )


def _smallest(gaps: Sequence[Tensor], like: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The smallest gap of each geometry.

    Geometries are worked on one by one (all projectors of the first, then of the second) or
    together.
    """
    if not gaps:
        return torch.full_like(like, torch.inf)
    apart = all(len(gap) == 1 for gap in gaps)
    table = torch.cat(list(gaps)).view(len(like), -1) if apart else torch.stack(list(gaps), 1)
    return table.detach().amin(1)


def concatenate_single_points(parts: Sequence[SinglePoint]) -> SinglePoint:
    """One evaluation from those of consecutive pieces of a batch."""
    if len(parts) == 1:
        return parts[0]
    forces = [part.forces for part in parts if part.forces is not None]
    levels = [part.state.mo_energy for part in parts if part.state.mo_energy is not None]
    gaps = [part.frontier_gap for part in parts if part.frontier_gap is not None]
    return SinglePoint(
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
        frontier_gap=torch.cat(gaps) if gaps else None,
    )
