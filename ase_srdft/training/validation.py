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
from ase_srdft.training.validation_means import ValidationMeans

__all__ = ["Validator"]

#: Molecules that are named as the worst.
_NAMED = 10


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
        counters = self.counters
        if not self._targets_are_met:
            return False
        final = counters.validated_nsampled == self.parts.held_out.nreplaceable
        return final or self._targets == (counters.met_target_uEh, counters.met_worst_target_uEh)

    @property
    def worst_width(self) -> float:
        """Of the best weights, the widest mean bracket of a molecule (Hartree).

        Infinite before it is known, and where a molecule has nothing held out.
        """
        everyone = len(self.parts.held_out.molecules) == len(self.parts.molecules)
        return [*self.counters.worst_widths, math.inf][0] if everyone else math.inf

    @property
    def _targets(self) -> tuple[float | None, float | None]:
        """Of the mean, and of the worst molecule (microhartree); None where none was asked for."""
        return self.parts.config.target_error_uEh, self.parts.config.target_worst_error_uEh

    @property
    def _targets_are_met(self) -> bool:
        """Whether there is a target, and the best weights are below each, wherever that is."""
        asked = zip(self._targets, (self.counters.best_width, self.worst_width), strict=True)
        known = [(target, width) for target, width in asked if target is not None]
        return bool(known) and all(width < target * 1e-6 for target, width in known)

    @property
    def _target_may_be_reached(self) -> bool:
        """Whether there is no rattled copy any more, since the last validation, to wait for."""
        held_out = self.parts.held_out
        complete = held_out.nsampled == held_out.nreplaceable > self.counters.validated_nsampled
        return self._targets != (None, None) and complete

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
        if held_out.has_changed and math.isfinite(self.counters.best_width):
            again = held_out.means(self.best_model(), self.stopped)
            if again is None:
                return None
            self._note_best(again)
        is_best = not self.counters.best_width <= means.bracket_width
        if is_best:
            self._note_best(means)
            self.best = copy.deepcopy(averaged.state_dict())
        held_out.has_changed = False
        self.counters = replace(
            self.counters,
            validated_nsampled=held_out.nsampled,
            validated_step=self.parts.updater.step,
        )
        return self._validation(means, is_best)

    def _note_best(self, means: ValidationMeans) -> None:
        """What the best weights are worth on what is held out now."""
        worst = means.worst(_NAMED)
        self.counters = replace(
            self.counters,
            best_width=means.bracket_width,
            best_largest_width=means.largest_width,
            best_widths=means.widths.tolist(),
            worst_molecules=[molecule for molecule, _ in worst],
            worst_widths=[width for _, width in worst],
        )

    def _validation(self, means: ValidationMeans, is_best: bool) -> Validation:
        error, held_out = means.hamiltonian_error, self.parts.held_out
        names = self.parts.names
        levels = [f"{m.level.xc}/{m.level.basis}" for m in self.parts.molecules]
        several = len(names) > 1
        return Validation(
            energy=means.energy,
            bracket_width=means.bracket_width,
            best=is_best,
            hamiltonian_error=None if math.isnan(error) else error,
            largest_width=means.largest_width,
            widths_of_molecules=means.widths_of_molecules(len(names)),
            worst=tuple((names[m], width) for m, width in means.worst(_NAMED) if several),
            of_levels=means.of_levels(levels) if len(set(levels)) > 1 else (),
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
        self,
        arrays: dict[str, np.ndarray],
        counters: Counters,
        targets_before_uEh: tuple[float | None, float | None],
    ) -> None:
        """Go on from a checkpoint.

        Args:
            arrays: of the checkpoint.
            counters: of the checkpoint.
            targets_before_uEh: of the last session, of the mean and of the worst molecule: what
                the run has certified so far may meet targets that are new.
        """
        self.best = tensors_from_arrays("weights/best/", arrays)
        self.counters = counters.of_validation
        if self._targets != targets_before_uEh:
            mean, worst = self._targets if self._targets_are_met else (None, None)
            self.counters = replace(self.counters, met_target_uEh=mean, met_worst_target_uEh=worst)
