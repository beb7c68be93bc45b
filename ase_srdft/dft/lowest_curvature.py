"""The direction in which the energy of a state bends least, by Davidson's method.

E. R. Davidson, J. Comput. Phys. 17, 87 (1975).  Internal stability: orbitals stay real, and both
spins have the same.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.energy_surface import EnergySurface, Place

__all__ = ["lowest_curvature"]

#: Directions to begin with, of the lowest level distances, and how much of all others is in them:
#: symmetry hides from a start what it does not contain.
_STARTS, _NOISE = 3, 0.02
#: The most directions that are asked about.
_MOST_DIRECTIONS = 40
#: Residual (Hartree) at which an eigenvalue is known, and its share of an eigenvalue at which its
#: sign is.
_KNOWN, _OF_EIGENVALUE = 3.0e-3, 0.3
#: What one divides by (Hartree) is at least this.
_SMALLEST = 0.1


def lowest_curvature(
    surface: EnergySurface, place: Place, flat: float
) -> tuple[float, Float[Tensor, "nvirtual nocc"]]:
    """The lowest eigenvalue (Hartree) of the second derivative by turns of orbitals, and its turn.

    Args:
        surface: the energy.
        place: a stationary state, in orbitals that make the blocks of F diagonal.
        flat: eigenvalues below it (Hartree) are negative; where that is sure it ends.
    """
    diagonal = 4.0 * place.distances
    size = diagonal.numel()
    if size == 0:
        return float("inf"), diagonal
    directions = _first(diagonal)
    answers = torch.empty_like(directions[:, :0])
    while True:
        new = directions[:, answers.shape[1] :]
        asked = [surface.response(place, each.view_as(diagonal)).flatten() for each in new.T]
        answers = torch.cat([answers, torch.stack(asked, 1)], 1)
        table = directions.T @ answers
        values, vectors = torch.linalg.eigh(0.5 * (table + table.T))
        value, lowest = float(values[0]), directions @ vectors[:, 0]
        residual = answers @ vectors[:, 0] - value * lowest
        error = float(residual.norm())
        sure = value < flat and error < _OF_EIGENVALUE * abs(value)
        if sure or error < _KNOWN or directions.shape[1] >= min(size, _MOST_DIRECTIONS):
            return value, lowest.view_as(diagonal)
        below = min(value, float(diagonal.min()))
        further = residual / (diagonal.flatten() - below).clamp(min=_SMALLEST)
        directions = _with(directions, further)


def _first(diagonal: Float[Tensor, "nvirtual nocc"]) -> Float[Tensor, "size count"]:
    flat = diagonal.flatten()
    count = min(_STARTS, len(flat))
    # not of torch's generator, which is the caller's
    places = torch.arange(len(flat) * count, dtype=flat.dtype, device=flat.device)
    noise = torch.sin(1.0 + 12.9898 * places**1.1).view(len(flat), count)
    # little where it would cost much: the core
    starts = _NOISE * noise / (flat - flat.min()).clamp(min=1.0)[:, None]
    starts[flat.argsort()[:count], torch.arange(count, device=flat.device)] += 1.0
    result: Tensor = torch.linalg.qr(starts)[0]
    return result


def _with(
    directions: Float[Tensor, "size count"], further: Float[Tensor, " size"]
) -> Float[Tensor, "size more"]:
    """One direction more, at right angles to the others."""
    for _ in range(2):
        further = further - directions @ (directions.T @ further)
        further = further / further.norm()
    return torch.cat([directions, further[:, None]], 1)
