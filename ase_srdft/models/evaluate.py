"""Energy, forces and certificate of a model at given nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.certificate import EnergyBracket, energy_bracket
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.geometry import Geometry, concatenate, detached, prepare
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.state import ElectronicState, ElectronicStateModel

__all__ = ["Evaluation", "evaluate", "merged", "molecule_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A model's answer for a batch of geometries, detached.

    Attributes:
        energy: E[R, f(R)] (Hartree).
        forces: -dE/dR, the full derivative (Hartree/Bohr); None if not asked for.
        bracket: bounds of the SCF energy (Hartree).
        state: density matrix and orbitals of the model.
        fock: F[P] (Hartree).
        geometry: integrals and grid, detached.
    """

    energy: Float[Tensor, " batch"]
    forces: Float[Tensor, "batch natoms 3"] | None
    bracket: EnergyBracket
    state: ElectronicState
    fock: Float[Tensor, "batch nao nao"]
    geometry: Geometry


def molecule_of(model: ElectronicStateModel, numbers: tuple[int, ...]) -> Molecule:
    """The molecule at the model's level of theory and with its guess.

    Raises:
        BadInput: an element the model does not know, or an open shell.
    """
    model.check_elements(numbers)
    return Molecule(numbers=numbers, level=model.level, guess=model.guess)


def evaluate(
    model: ElectronicStateModel,
    molecule: Molecule,
    positions: Float[Tensor, "batch natoms 3"],
    forces: bool = True,
    grid_level: int | None = None,
) -> Evaluation:
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
        geometry = prepare(molecule, positions, grid_level)
        state = model([geometry])[0]
        energies, fock = kohn_sham(geometry, state.density_matrix)
        total = energies.total
    gradient = torch.autograd.grad(total.sum(), positions)[0] if forces else None
    energy, density_matrix = total.detach(), state.density_matrix.detach()
    return Evaluation(
        energy=energy,
        forces=None if gradient is None else -gradient,
        bracket=energy_bracket(geometry, energy, density_matrix, fock),
        state=ElectronicState(
            density_matrix=density_matrix, mo_coeff=state.mo_coeff, mo_energy=state.mo_energy
        ),
        fock=fock,
        geometry=detached(geometry),
    )


def merged(parts: Sequence[Evaluation]) -> Evaluation:
    """One evaluation from those of consecutive pieces of a batch."""
    if len(parts) == 1:
        return parts[0]
    forces = [part.forces for part in parts if part.forces is not None]
    levels = [part.state.mo_energy for part in parts if part.state.mo_energy is not None]
    return Evaluation(
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
    )
