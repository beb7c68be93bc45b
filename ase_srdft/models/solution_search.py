"""The lowest solution where there may be several: looked for on a coarse grid, made sure of here.

Minima are looked for on the coarse grid (`ase_srdft.dft.lowest_solution.minima`).  Those that may
be the lowest go on to the level's own grid: at each Fock matrix there, the coarse surface is tilted
to have its slope, and what is then the minimum nearby is the next state.  Where that leads nowhere,
as in a valley that is flat, it is downhill on the level's own grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.descent import SOFT, Minimum, descend, minimum
from ase_srdft.dft.energy_surface import EnergySurface, Place, canonical
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID, RESPONSE_GRID
from ase_srdft.dft.lowest_curvature import lowest_curvature
from ase_srdft.dft.lowest_solution import minima
from ase_srdft.dft.preparation import on_grid
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.reference_scf import safe_gap
from ase_srdft.models.corrected_state import FORCE_ERROR_PER_RESIDUAL, CorrectedState, Promise

__all__ = ["Search", "is_sure_minimum", "searched"]

#: Energies closer than the first (Hartree) are of the same solution, than the second of places in
#: the same flat valley; closer than the third, they may be in another order on another grid.
_SAME, _SAME_VALLEY, _GRID_NOISE = 1.0e-6, 1.0e-4, 2.0e-3
#: Electron pairs by which two states may differ and be the same solution on two grids.
_DIFFER = 1.0e-3
#: Gap (Hartree) from which on a minimum that was begun near is the lowest.
_GAP_OF_MINIMUM = 0.05
#: The most Fock matrices of the level's own grid for a solution, the share of what is allowed that
#: is aimed at, and that of a residual that may be left by the next.
_MOST_BUILDS, _GOAL, _NEXT_GOAL = 6, 0.5, 0.03
#: A residual must fall to this share with each of them, and the energy rise by less (Hartree).
_FALLS, _UPHILL = 0.5, 1.0e-6
#: Widths below (Hartree) are rounding.
_TINY = 1.0e-14


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What was found, and what it took.

    Attributes:
        state: the lowest solution; None if it does not keep the promise.
        builds: Fock matrices on the level's own grid.
        coarse_builds: and on the coarse grid, with what it took to tell minima from saddle points.
    """

    state: CorrectedState | None
    builds: int
    coarse_builds: int


class _Counted:
    """A search under way."""

    def __init__(self, geometry: Geometry, plain: Geometry, promise: Promise) -> None:
        self.geometry, self.plain, self.promise = geometry, plain, promise
        self.coarse = on_grid(plain, COARSE_GRID)
        self.builds = self.coarse_builds = 0
        self.stable_gap = safe_gap(plain.molecule.level.functional.exact_exchange)

    def minima(self, projector: Float[Tensor, "nao nao"]) -> list[Minimum]:
        surface = EnergySurface(self.coarse)
        found = minima(surface, projector)
        self.coarse_builds += surface.nbuilds
        return found

    def on_own_grid(self, found: Minimum) -> CorrectedState | None:
        """The solution of the level's own grid next to one of the coarse grid, or None."""
        place = lowest = found.place
        tilt, energy, residual = torch.zeros_like(place.fock), torch.inf, torch.inf
        for build in range(_MOST_BUILDS):
            state = CorrectedState.at(self.geometry, place.projector)
            self.builds += 1
            is_kept = self._is_kept(state)
            if is_kept and found.curvature > SOFT:
                return state
            falls = float(state.energy.detach()) < energy + _UPHILL
            lowest = place if falls else lowest
            if is_kept or not falls or not state.residual < _FALLS * residual:
                break
            energy, residual = float(state.energy.detach()), state.residual
            in_loewdins_basis = place.orbitals @ place.fock @ place.orbitals.T
            tilt = tilt + self.plain.orthogonal(state.fock)[0] - in_loewdins_basis
            place = self._next(EnergySurface(self.coarse, tilt), place, state, build == 0)
        return self._all_the_way(lowest, self._goal(state))

    def _next(
        self, surface: EnergySurface, place: Place, state: CorrectedState, is_first: bool
    ) -> Place:
        """The minimum of the tilted surface next to a place."""
        goal = min(self._goal(state), _NEXT_GOAL * state.residual)
        place = surface.at(place.orbitals)
        if is_first:
            place = minimum(surface, place, goal, self.stable_gap).place
        else:
            place = descend(surface, place, goal)
        self.coarse_builds += surface.nbuilds
        return place

    def _all_the_way(self, place: Place, goal: float) -> CorrectedState | None:
        """Where it is downhill to on the level's own grid alone: valleys differ between two."""
        surface = EnergySurface(self.plain)
        found = minimum(surface, surface.at(place.orbitals), goal, self.stable_gap)
        self.builds += surface.nbuilds + 1
        state = CorrectedState.at(self.geometry, found.place.projector)
        return state if self._is_kept(state) else None

    def _is_kept(self, state: CorrectedState) -> bool:
        promise = self.promise
        return state.keeps(promise) or state.lies_above_empty_orbitals(self.plain, promise)

    def _goal(self, state: CorrectedState) -> float:
        """Residual (Hartree) that is near enough."""
        allowed = self.promise.force_error / FORCE_ERROR_PER_RESIDUAL
        # a bracket is of second order in the residual
        share = self.promise.error / max(float(state.bracket.width), _TINY)
        aufbau = not state.lies_above_empty_orbitals(self.plain, Promise(error=0, force_error=1))
        return _GOAL * min(allowed, state.residual * share**0.5 if aufbau else allowed)


def searched(
    geometry: Geometry,
    plain: Geometry,
    promise: Promise,
    start: Float[Tensor, "nao nao"],
    known: CorrectedState | None,
) -> Search:
    """The lowest solution that is found from several starts.

    Args:
        geometry: on the level's own grid, with a graph where forces are to be had.
        plain: the same without.
        promise: what the solution is to keep.
        start: projector of a state to begin with, in Loewdin's basis.
        known: a solution that keeps the promise, if that state is one.
    """
    search = _Counted(geometry, plain, promise)
    candidates = search.minima(start)
    states = [] if known is None else [known]
    for each in _likely(candidates):
        if known is not None and each.curvature > SOFT and _is_same(each, known):
            continue
        state = search.on_own_grid(each)
        if state is None and each is candidates[0]:
            states.clear()
            break
        states += [] if state is None else [state]
    lowest = min(states, key=lambda state: float(state.energy.detach()), default=None)
    return Search(state=lowest, builds=search.builds, coarse_builds=search.coarse_builds)


@torch.no_grad()
def is_sure_minimum(plain: Geometry, known: CorrectedState) -> tuple[bool, int]:
    """Whether a solution that was begun near is surely a minimum; and answers that it took.

    With hybrids the gap is no measure of stability: exact exchange opens it, and not the second
    derivative.  Here its lowest eigenvalue is asked for, on a rough grid.
    """
    if not float(known.bracket.aufbau_gap) > _GAP_OF_MINIMUM:
        return False, 0
    surface = EnergySurface(on_grid(plain, RESPONSE_GRID))
    orbitals = torch.linalg.eigh(-known.projector)[1]
    place, _, _ = canonical(surface.at(orbitals))
    curvature, _ = lowest_curvature(surface, place, SOFT)
    return curvature > SOFT, surface.nbuilds


def _likely(candidates: list[Minimum]) -> list[Minimum]:
    """Of minima on the coarse grid, the lowest first, those that may be the lowest on another."""
    likely: list[Minimum] = []
    for each in candidates:
        energy = each.place.energy
        same = _SAME if each.curvature > SOFT else _SAME_VALLEY
        differs = all(abs(energy - other.place.energy) > same for other in likely)
        if each.converged and differs and energy - candidates[0].place.energy < _GRID_NOISE:
            likely.append(each)
    return likely


def _is_same(found: Minimum, known: CorrectedState) -> bool:
    shared = float((found.place.projector * known.projector).sum())
    return shared > found.place.nocc - _DIFFER
