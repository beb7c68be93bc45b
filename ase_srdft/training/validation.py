"""What weights are worth on held-out geometries, and whether that is what was asked for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

from torch import Tensor

from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.training.events import Counters, Validation
from ase_srdft.training.validation_set import ValidationSet

__all__ = ["note_new_target", "target_is_reached", "target_may_be_reached", "validated"]


def validated(
    averaged: ElectronicStateModel,
    best: Mapping[str, Tensor],
    held_out: ValidationSet,
    counters: Counters,
    stopped: Callable[[], bool],
) -> Validation | None:
    """Compare the averaged weights with the best so far, on the same geometries.

    Where other geometries are held out than at the last validation, the best weights are
    evaluated again.

    Args:
        averaged: the averaged weights of now.
        best: those of the narrowest bracket so far.
        held_out: where they are compared.
        counters: the brackets of the best weights are noted there.
        stopped: asked now and then whether to leave off.

    Returns:
        None if it left off; no counter is changed then.
    """
    means = held_out.means(averaged, stopped)
    if means is None:
        return None
    widths = counters.best_width, counters.best_largest_width
    if counters.set_has_changed and math.isfinite(counters.best_width):
        before = copy.deepcopy(averaged)
        before.load_state_dict(best)
        again = held_out.means(before, stopped)
        if again is None:
            return None
        widths = again.bracket_width, again.largest_width
    is_best = not widths[0] <= means.bracket_width
    if is_best:
        widths = means.bracket_width, means.largest_width
    counters.best_width, counters.best_largest_width = widths
    counters.set_has_changed = False
    counters.validated_nsampled = counters.nheld_out
    return Validation(
        energy=means.energy,
        bracket_width=means.bracket_width,
        best=is_best,
        hamiltonian_error=None if math.isnan(means.hamiltonian_error) else means.hamiltonian_error,
        largest_width=means.largest_width,
        widths_of_molecules=means.widths_of_molecules,
        best_width=counters.best_width,
        best_largest_width=counters.best_largest_width,
        ngeometries=len(held_out),
        nsampled=counters.nheld_out,
        nframes=held_out.nframes,
    )


def target_is_reached(
    target_uEh: float | None, held_out: ValidationSet, counters: Counters
) -> bool:
    """Whether the best weights are as good as asked for, where dynamics goes.

    Rattled copies of a structure do not count while dynamics has yet to replace them; but for a
    target that a run met already when it was started again with it.

    Args:
        target_uEh: mean bracket width (microhartree); None for no target.
        held_out: the geometries.
        counters: what was validated.
    """
    if target_uEh is None or not counters.best_width < target_uEh * 1e-6:
        return False
    final = counters.validated_nsampled == held_out.nreplaceable
    return final or counters.met_target_uEh == target_uEh


def target_may_be_reached(
    target_uEh: float | None, held_out: ValidationSet, counters: Counters
) -> bool:
    """Whether there is no rattled copy any more, since the last validation, to wait for."""
    nplaces = held_out.nreplaceable
    return target_uEh is not None and counters.nheld_out == nplaces > counters.validated_nsampled


def note_new_target(target_uEh: float | None, before_uEh: float | None, counters: Counters) -> None:
    """A run is started again: what it has certified so far may meet a target that is new.

    Args:
        target_uEh: of this session; None for no target.
        before_uEh: of the last.
        counters: of the run.
    """
    if target_uEh != before_uEh:
        met = target_uEh is not None and counters.best_width < target_uEh * 1e-6
        counters.met_target_uEh = target_uEh if met else None
