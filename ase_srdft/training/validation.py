"""What weights are worth on held-out geometries, and whether that is what was asked for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from ase_srdft.common.named_arrays import tensors_from_arrays, tensors_to_arrays
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.sampling.sampler import Sampler
from ase_srdft.training.events import Counters, Validation, ValidationCounters
from ase_srdft.training.moved_on import moved_on, number_of_steps
from ase_srdft.training.training_parts import TrainingParts
from ase_srdft.training.validation_set import ValidationMeans

__all__ = ["Validator"]


class Validator:
    """Compares the averaged weights with the best so far; keeps these, and knows the target.

    Args:
        parts: of the run: averaged weights, held-out geometries.
        stopped: asked now and then whether to leave off.

    Attributes:
        best: the averaged weights of the narrowest bracket so far.
        counters: what was validated.
    """

    def __init__(self, parts: TrainingParts, stopped: Callable[[], bool]) -> None:
        self.parts = parts
        self.stopped = stopped
        self.best: Mapping[str, Tensor] = copy.deepcopy(parts.updater.averaged.state_dict())
        self.counters = ValidationCounters()

    @property
    def target_is_reached(self) -> bool:
        """Whether the best weights are as good as asked for, where dynamics goes.

        Rattled copies of a structure do not count while dynamics has yet to replace them; but for
        a target that a run met already when it was started again with it.
        """
        target_uEh, counters = self.parts.config.target_error_uEh, self.counters
        if target_uEh is None or not counters.best_width < target_uEh * 1e-6:
            return False
        final = counters.validated_nsampled == self.parts.held_out.nreplaceable
        return final or counters.met_target_uEh == target_uEh

    @property
    def _target_may_be_reached(self) -> bool:
        """Whether there is no rattled copy any more, since the last validation, to wait for."""
        held_out = self.parts.held_out
        complete = held_out.nsampled == held_out.nreplaceable > self.counters.validated_nsampled
        return self.parts.config.target_error_uEh is not None and complete

    def best_model(self) -> ElectronicStateModel:
        """The best weights so far, single precision."""
        model = copy.deepcopy(self.parts.updater.averaged)
        model.load_state_dict(self.best)
        return model

    def validate_if_due(self, last: bool, sampling: bool) -> Validation | None:
        """A validation at the steps that ask for one, and of the last step.

        Args:
            last: whether no step follows.
            sampling: whether dynamics has started.
        """
        config, step = self.parts.config, self.parts.updater.step
        due = last or step % config.validate_every == 0 or self._target_may_be_reached
        if step <= self.counters.validated_step or not due:
            return None
        if sampling and (last or step >= config.steps):
            self._move_copies_on()
        return self.validate()

    def validate(self) -> Validation | None:
        """Compare the averaged weights with the best so far, on the same geometries.

        Where other geometries are held out than at the last validation, the best weights are
        evaluated again.

        Returns:
            None if it was asked to stop meanwhile; nothing is changed then.
        """
        averaged, held_out = self.parts.updater.averaged, self.parts.held_out
        means = held_out.means(averaged, self.stopped)
        if means is None:
            return None
        widths = self.counters.best_width, self.counters.best_largest_width
        if held_out.has_changed and math.isfinite(widths[0]):
            again = held_out.means(self.best_model(), self.stopped)
            if again is None:
                return None
            widths = again.bracket_width, again.largest_width
        is_best = not widths[0] <= means.bracket_width
        if is_best:
            widths = means.bracket_width, means.largest_width
            self.best = copy.deepcopy(averaged.state_dict())
        held_out.has_changed = False
        self.counters = replace(
            self.counters,
            best_width=widths[0],
            best_largest_width=widths[1],
            validated_nsampled=held_out.nsampled,
            validated_step=self.parts.updater.step,
        )
        return self._validation(means, is_best)

    def _validation(self, means: ValidationMeans, is_best: bool) -> Validation:
        error, held_out = means.hamiltonian_error, self.parts.held_out
        return Validation(
            energy=means.energy,
            bracket_width=means.bracket_width,
            best=is_best,
            hamiltonian_error=None if math.isnan(error) else error,
            largest_width=means.largest_width,
            widths_of_molecules=means.widths_of_molecules,
            best_width=self.counters.best_width,
            best_largest_width=self.counters.best_largest_width,
            ngeometries=len(held_out),
            nsampled=held_out.nsampled,
            nframes=held_out.nframes,
        )

    def _move_copies_on(self) -> None:
        """Where dynamics has not replaced all rattled copies by the end: take these along."""
        parts, config = self.parts, self.parts.config
        copies = parts.held_out.copies()
        nsteps = number_of_steps(len(copies), parts.updater.step, config)
        if not copies or nsteps == 0:
            return
        inertial = replace(config.sampling, dynamics="langevin")
        sampler = Sampler(inertial, parts.molecules, parts.energy_surface())
        rng = np.random.default_rng([config.seed, parts.updater.step])
        references = parts.dataset.references

        def moved() -> list[np.ndarray] | None:
            return moved_on(copies, references, sampler, nsteps, rng, self.stopped)

        positions = parts.ranks.run_on_lead(moved)
        if positions is not None:
            parts.held_out.move_copies(positions)
            moved_fs = self.counters.copies_moved_fs + nsteps * config.sampling.timestep_fs
            self.counters = replace(self.counters, copies_moved_fs=moved_fs)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The best weights, as a checkpoint names them."""
        return tensors_to_arrays("weights/best/", self.best)

    def from_arrays(
        self, arrays: dict[str, np.ndarray], counters: Counters, target_before_uEh: float | None
    ) -> None:
        """Go on from a checkpoint.

        Args:
            arrays: of the checkpoint.
            counters: of the checkpoint.
            target_before_uEh: of the last session: what the run has certified so far may meet a
                target that is new.
        """
        self.best = tensors_from_arrays("weights/best/", arrays)
        self.counters = counters.of_validation
        target_uEh = self.parts.config.target_error_uEh
        if target_uEh != target_before_uEh:
            met = target_uEh is not None and self.counters.best_width < target_uEh * 1e-6
            self.counters = replace(self.counters, met_target_uEh=target_uEh if met else None)
