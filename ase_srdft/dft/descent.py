"""Downhill to a minimum of the energy, whatever the gap.

DIIS goes by the residual and by the aufbau principle: where the gap is small it swings between two
states, or ends on a saddle point, and it cannot end at a minimum with an occupied orbital above an
empty one, as some stretched bonds have.  Here the energy falls with each step, which is that of
L-BFGS (J. Nocedal, Math. Comput. 35, 773 (1980)) in turns of orbitals (T. Van Voorhis and
M. Head-Gordon, Mol. Phys. 100, 1713 (2002)): with each state the turns before it are written in its
own orbitals, which make the blocks of F diagonal, and the second derivative to begin with is
4 (e_a - e_i).  At the end the lowest eigenvalue of the second derivative tells a minimum from a
saddle point, from which it goes on down its eigenvector.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.energy_surface import EnergySurface, Place, canonical
from ase_srdft.dft.lowest_curvature import lowest_curvature

__all__ = ["SOFT", "Minimum", "descend", "minimum"]

#: Steps that L-BFGS remembers, and the most that it makes.
_REMEMBERED, _MOST_STEPS = 12, 200
#: Level distances (Hartree) are taken to be at least this in the first second derivative.
_STIFFEST_ABOVE = 0.1
#: The longest step (radians).
_LONGEST = 0.6
#: Share of the expected fall that a step must bring, and what is rounding (Hartree).
_FALL, _ROUNDING = 1.0e-4, 1.0e-10
#: The most that a step is shortened, and how often.
_SHORTER, _MOST_TRIALS = 0.1, 8
#: Below the first (Hartree, for a turn of one radian) the second derivative counts as negative;
#: above the second it may be left so after as many restarts as there are.
_FLAT, _NEARLY_FLAT = -2.0e-5, -2.0e-4
#: A state that differs from a minimum by less than so many electron pairs, and is less than this
#: above it (Hartree), leads to it.
_CLOSE, _RISE = 1.0e-2, 1.0e-3
#: Below the first (Hartree) a valley is so flat that another place in it may be lower, by at least
#: the second.
SOFT, _LOWER = 2.0e-2, 1.0e-6
#: Lengths of the step (radians) along such a direction, of which the lowest energy is taken.
_STEPS = (1.0, -1.0, 0.3, -0.3)
_RESTARTS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """Where a descent has ended.

    Attributes:
        place: there.
        converged: whether the residual is what was asked for and no way leads down.
        curvature: lowest eigenvalue of the second derivative (Hartree), where it was asked for.
    """

    place: Place
    converged: bool
    curvature: float = float("inf")


def minimum(
    surface: EnergySurface,
    start: Place,
    goal: float,
    stable_gap: float,
    known: Sequence[Minimum] = (),
) -> Minimum:
    """The minimum below a state.

    Args:
        surface: to go down on.
        start: to begin with.
        goal: residual (norm, Hartree) to end at.
        stable_gap: gap (Hartree) above which it is not asked whether it is a saddle point.
        known: minima; where it leads to one of these it ends, and that is what is returned.
    """
    places = [each.place for each in known]
    place = descend(surface, start, goal, places)
    for restart in range(_RESTARTS + 1):
        for each in known:
            if _leads_to(place, each.place):
                return each
        if not place.residual < goal:
            break
        if place.gap > stable_gap:
            return Minimum(place=place, converged=True)
        place, _, _ = canonical(place)
        curvature, direction = lowest_curvature(surface, place, _FLAT)
        if curvature > SOFT or (curvature > _NEARLY_FLAT and restart == _RESTARTS):
            return Minimum(place=place, converged=True, curvature=curvature)
        ways = [surface.at(place.turned(step * direction)) for step in _STEPS]
        lowest = min(ways, key=lambda way: way.energy)
        if curvature > _FLAT and lowest.energy > place.energy - _LOWER:
            return Minimum(place=place, converged=True, curvature=curvature)
        place = descend(surface, lowest, goal, places)
    return Minimum(place=place, converged=False)


def descend(
    surface: EnergySurface, place: Place, goal: float, known: Sequence[Place] = ()
) -> Place:
    """Downhill from a place, to a residual of ``goal`` (norm, Hartree) or as far as it goes.

    Or to where it surely leads to a place that is known.
    """
    past: deque[tuple[Tensor, Tensor]] = deque(maxlen=_REMEMBERED)
    for _ in range(_MOST_STEPS):
        if place.residual < goal or any(_leads_to(place, each) for each in known):
            break
        place, of_occupied, of_virtual = canonical(place)
        past = deque(
            (tuple(of_virtual.T @ each @ of_occupied for each in pair) for pair in past),  # type: ignore[misc]
            maxlen=_REMEMBERED,
        )
        step = -_newtonlike(place, past)
        if float((step * place.slope).sum()) >= 0:  # memory of another landscape
            past.clear()
            step = -_newtonlike(place, past)
        step = step * min(1.0, _LONGEST / float(step.norm()))
        found, share = _along(surface, place, step)
        if found is None:
            if not past:
                break
            past.clear()
            continue
        past.append((share * step, found.slope - place.slope))
        place = found
    return place


def _leads_to(place: Place, known: Place) -> bool:
    """Whether a state is near a minimum, and hardly above it."""
    rise = place.energy - known.energy
    if not -_CLOSE * _RISE < rise < _RISE:
        return False
    shared = (
        float((place.orbitals[:, : place.nocc].T @ known.orbitals[:, : place.nocc]).norm()) ** 2
    )
    return shared > place.nocc - _CLOSE


def _along(
    surface: EnergySurface, place: Place, step: Float[Tensor, "nvirtual nocc"]
) -> tuple[Place | None, float]:
    """A place downhill along a step, and the share of it that was taken; None if there is none."""
    share, slope = 1.0, float((step * place.slope).sum())
    for _ in range(_MOST_TRIALS):
        found = surface.at(place.turned(share * step))
        rise = found.energy - place.energy
        if rise <= _FALL * share * slope or (rise < _ROUNDING and found.residual < place.residual):
            return found, share
        curvature = 2.0 * (rise - share * slope) / share**2
        best = -slope / curvature if curvature > 0 else 0.0
        share = min(max(best, _SHORTER * share), 0.5 * share)
    return None, 0.0


def _newtonlike(place: Place, past: deque[tuple[Tensor, Tensor]]) -> Float[Tensor, "nvirtual nocc"]:
    """The slope over the second derivative, as far as it is known (Nocedal's two loops)."""
    stiffness = 4.0 * place.distances.abs().clamp(min=_STIFFEST_ABOVE)
    result, weights = place.slope.clone(), []
    useful = [(s, y) for s, y in past if float((s * y).sum()) > 1e-12]
    for step, change in reversed(useful):
        weight = float((step * result).sum() / (step * change).sum())
        weights.append(weight)
        result -= weight * change
    result /= stiffness
    if useful:
        step, change = useful[-1]
        result *= float((step * change).sum() / (change * change / stiffness).sum())
    for (step, change), weight in zip(useful, reversed(weights), strict=True):
        result += step * (weight - float((change * result).sum() / (step * change).sum()))
    return result
