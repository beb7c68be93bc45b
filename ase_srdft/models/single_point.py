"""Energy, forces and certificate of a model at given nuclei."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.torch_state import undisturbed
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import detached
from ase_srdft.dft.projector import DEGENERATE_GAP, noted_gaps
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel
from ase_srdft.models.single_point_result import SinglePointResult

__all__ = ["molecule_of", "single_point"]


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
) -> SinglePointResult:
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
    return SinglePointResult(
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
