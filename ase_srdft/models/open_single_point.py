"""A single point whose forces can still be asked for: its energy, and the graph behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.torch_state import undisturbed
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import detached
from ase_srdft.dft.projector import DEGENERATE_GAP, noted_gaps
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel
from ase_srdft.models.lowest_state import lowest_state
from ase_srdft.models.single_point_result import SinglePointResult

__all__ = ["OpenSinglePoint", "open_single_point"]


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenSinglePoint:
    """All of a single point but its forces, which cost the backward pass alone.

    The graph takes memory, and the weights must stay as they are until the forces are known.

    Attributes:
        result: without forces.
        total: the energy (Hartree), with its graph if that was asked for.
        positions: what it can be differentiated by (Bohr).
    """

    result: SinglePointResult
    total: Float[Tensor, " batch"]
    positions: Float[Tensor, "batch natoms 3"]

    @property
    def has_graph(self) -> bool:
        """Whether :meth:`with_forces` can be called."""
        return self.total.requires_grad

    @undisturbed
    def with_forces(self) -> SinglePointResult:
        """The result with its forces; once, as it uses up the graph."""
        (gradient,) = torch.autograd.grad(self.total.sum(), self.positions)
        gap = self.result.frontier_gap
        assert gap is not None
        degenerate = ~(gap > DEGENERATE_GAP)[:, None, None]
        return replace(self.result, forces=-gradient.masked_fill(degenerate, torch.nan))


@undisturbed
def open_single_point(
    model: ElectronicStateModel,
    molecule: Molecule,
    positions: Float[Tensor, "batch natoms 3"],
    graph: bool,
    grid_level: int | None = None,
) -> OpenSinglePoint:
    """Evaluate a model with fresh integrals; forces can be had later.

    Args:
        model: gives the state.
        molecule: from :func:`ase_srdft.models.single_point.molecule_of`.
        positions: nuclei (Bohr), float64, on the model's device.
        graph: whether to keep what forces need; an energy costs a seventh to a quarter more.
        grid_level: another grid than the level of theory's.

    Raises:
        BadInput: positions that are not finite, or atoms on top of each other.
    """
    positions = positions.detach().requires_grad_(graph)
    with torch.set_grad_enabled(graph):
        with noted_gaps() as of_guess:
            geometry = prepare(molecule, positions, grid_level)
        with noted_gaps() as of_state:
            found = lowest_state(model, geometry)
        state, total = found.state, found.energy
    energy, density_matrix, geometry = (
        total.detach(),
        state.density_matrix.detach(),
        detached(geometry),
    )
    result = SinglePointResult(
        energy=energy,
        forces=None,
        bracket=found.bracket,
        state=ElectronicState(
            density_matrix=density_matrix, mo_coeff=state.mo_coeff, mo_energy=state.mo_energy
        ),
        fock=found.fock,
        paths=found.paths,
        geometry=geometry,
        frontier_gap=torch.minimum(*(_smallest(gaps, energy) for gaps in (of_guess, of_state))),
    )
    return OpenSinglePoint(result=result, total=total, positions=positions)


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
