"""The bracket around the SCF energy, from one state and without a reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.prepared_geometry import Geometry

__all__ = ["EnergyBracket", "energy_bracket"]

#: Gap (Hartree) below which a bracket is widened, what is added for all of exact exchange, and
#: the factor: without it ten of 3,720 states lay outside, all of such gaps, by 27 % of their width
#: at most (N2 at 2.0 Angstrom, B3LYP).
_SMALL_GAP, _SMALL_GAP_EXCHANGE, _WIDER = 0.06, 0.4, 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyBracket:
    """E_lower <= E_SCF <= E, same basis, grid and fitting (Hartree).

    The upper bound is variational, hence exact.  The lower one is
    ``E + w (1 + a) Tr F (P' - P)``, P' the aufbau density of F[P], a the fraction of exact
    exchange, and w one, or 1.5 where the gap is below 0.06 + 0.4 a Hartree.  With a = 0 and w = 1
    it is a bound wherever the functional is convex in P between the two.  Exact exchange is
    concave, hence 1 + a, and near a small gap it is concave most of all, hence w: both are
    empirical.  ``benchmarks/bracket_coverage.py`` finds all of 3,720 states inside, stretched bonds
    and small gaps among them.  No width says whether another solution lies lower.

    Attributes:
        lower: E_lower.
        upper: E[P].
        aufbau_gap: HOMO-LUMO gap of F[P]; the bracket means little where it is not positive.
    """

    lower: Float[Tensor, " batch"]
    upper: Float[Tensor, " batch"]
    aufbau_gap: Float[Tensor, " batch"]

    @property
    def width(self) -> Float[Tensor, " batch"]:
        """E - E_lower: an upper bound of the error."""
        return self.upper - self.lower


@torch.no_grad()
def energy_bracket(
    geometry: Geometry,
    energy: Float[Tensor, " batch"],
    density_matrix: Float[Tensor, "batch nao nao"],
    fock: Float[Tensor, "batch nao nao"],
    levels: Float[Tensor, "batch nao"] | None = None,
) -> EnergyBracket:
    """The bracket of a state from its energy and Fock matrix: no further Fock build.

    Args:
        geometry: where.
        energy: E[P] (Hartree).
        density_matrix: P.
        fock: F[P] (Hartree).
        levels: its orbital energies (Hartree), where they are known.
    """
    nocc = geometry.molecule.nocc
    if levels is None:
        levels = torch.linalg.eigvalsh(geometry.orthogonal(fock))
    band = 2.0 * levels[:, :nocc].sum(-1)  # Tr F P'
    change = band - (fock * density_matrix).sum((-1, -2))  # Tr F (P' - P), not positive
    virtual = levels[:, nocc] if levels.shape[1] > nocc else torch.full_like(energy, torch.inf)
    gap = virtual - levels[:, nocc - 1]
    exchange = geometry.molecule.level.functional.exact_exchange
    small = gap < _SMALL_GAP + _SMALL_GAP_EXCHANGE * exchange
    lower = energy + (1.0 + exchange) * torch.where(small, _WIDER * change, change)
    return EnergyBracket(
        # P' minimises Tr F P', so only rounding can put the bound above the energy.
        lower=torch.minimum(lower, energy),
        upper=energy,
        aufbau_gap=gap,
    )
