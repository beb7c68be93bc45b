"""The minima of the energy that several starts lead to, the lowest first.

Kohn-Sham equations of closed shells have many solutions where a bond is stretched.  The starts are
the state that one is at, the guess and the core Hamiltonian's lowest orbitals; and, if these lead
to different minima, the lowest of them with its highest occupied orbital emptied for the lowest
empty one.  None of them knows of other geometries.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.descent import Minimum, minimum
from ase_srdft.dft.energy_surface import EnergySurface, Place, canonical
from ase_srdft.dft.reference_scf import safe_gap

__all__ = ["minima"]

#: Residual (norm, Hartree) of a minimum: its energy is known to some 1e-7 Hartree.
_GOAL = 1.0e-4
#: A start whose energy is so far above what it leads to (Hartree) says nothing of the solution.
_NEAR = 1.0e-2


def minima(surface: EnergySurface, projector: Float[Tensor, "nao nao"]) -> list[Minimum]:
    """Minima that were found, the lowest first; one alone where it is surely the lowest.

    Args:
        surface: of a grid that is good enough to tell which of them is lower.
        projector: a state to begin with, in Loewdin's basis, finite or not.
    """
    exchange = surface.geometry.molecule.level.functional.exact_exchange
    found: list[Minimum] = []
    for orbitals in _starts(surface, projector, found):
        start = surface.at(orbitals)
        known = [each for each in found if each.converged]
        found.append(minimum(surface, start, _GOAL, safe_gap(exchange), known))
        if len(found) == 1 and _is_safe(start, found[0], exchange):
            break
    return sorted(dict.fromkeys(found), key=_rank)


def _starts(
    surface: EnergySurface,
    projector: Float[Tensor, "nao nao"],
    found: list[Minimum],
) -> Iterator[Float[Tensor, "nao nao"]]:
    geometry = surface.geometry
    if bool(torch.isfinite(projector).all()):
        yield torch.linalg.eigh(-projector)[1]
    for fock in (geometry.guess_fock, geometry.integrals.core_hamiltonian):
        yield torch.linalg.eigh(geometry.orthogonal(fock)[0])[1]
    if len(set(found)) > 1 and surface.nocc < len(projector):
        yield _excited(min(found, key=_rank).place)


def _is_safe(start: Place, found: Minimum, exchange: float) -> bool:
    """Whether no other start is needed."""
    near = start.energy - found.place.energy < _NEAR
    return found.converged and near and found.place.gap > safe_gap(exchange, surely_near=False)


def _excited(place: Place) -> Float[Tensor, "nao nao"]:
    """The orbitals with the highest occupied and the lowest empty one exchanged."""
    same, _, _ = canonical(place)
    levels, nocc = same.fock.diagonal(), same.nocc
    highest, lowest = int(levels[:nocc].argmax()), nocc + int(levels[nocc:].argmin())
    order = torch.arange(len(levels), device=levels.device)
    order[highest], order[lowest] = lowest, highest
    return same.orbitals[:, order]


def _rank(found: Minimum) -> tuple[bool, float]:
    """What has not converged counts last."""
    return not found.converged, found.place.energy
