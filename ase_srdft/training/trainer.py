"""The trainer: the loop of steps, validations, and samples as the engine gives them.

``Trainer.run`` is a generator of what happens; who consumes it prints, logs and saves.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ase_srdft.common.torch_state import undisturbed
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.sampling.sample import SampleBatch
from ase_srdft.training.build import build_parts, new_pool
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import Counters, Event, StepRecord
from ase_srdft.training.sampling_schedule import SamplingSchedule
from ase_srdft.training.validation import Validator

__all__ = ["Trainer"]


class Trainer:
    """Self-refining training; where the sampling is done is the engine's part.

    Args:
        config: everything that can be chosen.
        dataset: molecules, given structures and frames.
        model: start from these weights instead of fresh ones.
        ranks: that train together, each with its own trainer; None for this process alone.
        may_publish: given this trainer before its weights go to other processes: whether they are
            where they cannot be lost (`Checkpoints.save_if_due`); None to publish all.

    Raises:
        BadInput: molecules that the level of theory or the model refuses, a single frame, a
            device that is not there, more ranks than geometries in a batch, or labels that are
            missing or do not fit.
    """

    @undisturbed
    def __init__(
        self,
        config: TrainingConfig,
        dataset: Dataset,
        model: ElectronicStateModel | None = None,
        ranks: Ranks | None = None,
        may_publish: Callable[[Trainer], bool] | None = None,
    ) -> None:
        self.parts = parts = build_parts(config, dataset, model, ranks)
        self.dataset, self.ranks = parts.dataset, parts.ranks
        self.device, self.threads, self.updater = parts.device, parts.threads, parts.updater
        self.molecules, self.names, self.notes = parts.molecules, parts.names, parts.notes
        self.cache, self.buffer, self.held_out = parts.cache, parts.buffer, parts.held_out
        seeds = np.random.SeedSequence(config.seed).spawn(2)
        self.batch_rng, sampler_rng = (np.random.default_rng(seed) for seed in seeds)
        self.stop_requested = False
        ask = may_publish or (lambda _: True)
        self.sampling = SamplingSchedule(parts, new_pool(parts), sampler_rng, lambda: ask(self))
        self.validator = Validator(parts, lambda: self.stop_requested)
        self.elapsed_before = 0.0
        self._started = time.monotonic()

    @property
    def config(self) -> TrainingConfig:
        """The settings; where no learning rate was given, with the one that is used."""
        config = self.parts.config
        optimiser = replace(config.optimiser, learning_rate=self.updater.highest_rate)
        return replace(config, optimiser=optimiser)

    @property
    def elapsed(self) -> float:
        """Seconds of training, earlier sessions included."""
        return self.elapsed_before + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        steps, minutes = self.updater.step / self.parts.config.steps, self.parts.config.minutes
        time_share = 0.0 if minutes is None else self.elapsed / (60.0 * minutes)
        return min(1.0, max(steps, time_share))

    @property
    def counters(self) -> Counters:
        """What has been counted so far."""
        return Counters(
            **asdict(self.sampling.counters),
            **asdict(self.validator.counters),
            elapsed=self.elapsed_before,
            replaced=list(self.held_out.replaced),
            set_has_changed=self.held_out.has_changed,
        )

    @property
    def target_is_reached(self) -> bool:
        """Whether the best weights are as good as asked for, where dynamics goes."""
        return self.validator.target_is_reached

    @property
    def worst_molecules(self) -> list[tuple[str, float]]:
        """Of the best weights: molecules with the widest held-out brackets, and these (Hartree).

        The worst first; none where there is one molecule, at one level of theory.
        """
        counters = self.validator.counters
        worst = zip(counters.worst_molecules, counters.worst_widths, strict=True)
        return [(self.names[molecule], width) for molecule, width in worst if len(self.names) > 1]

    @undisturbed
    def averaged_model(self) -> ElectronicStateModel:
        """The averaged weights of now, double precision."""
        return copy.deepcopy(self.updater.averaged).double()

    @undisturbed
    def best_model(self) -> ElectronicStateModel:
        """The averaged weights of the narrowest validated bracket, double precision."""
        return self.validator.best_model().double()

    @undisturbed
    def run(self) -> Iterator[Event]:
        """Train until a limit is reached, or :attr:`stop_requested`; yields what happens.

        Raises:
            SamplingFailed: no walker gave a sample for many rounds.
            WorkerFailed: samplers died too often.
            RankLost: another rank has ended.
            FloatingPointError: the gradient is not finite.
        """
        self._started = time.monotonic()
        self.begin()
        try:
            yield from self._validate_if_due()
            while (progress := self._next_turn()) is not None:
                yield from self._sample()
                yield self._event(training=self.train(progress))
                yield from self._validate_if_due()
            yield from self._validate_if_due(last=True)
        finally:
            self.sampling.stop()

    def _next_turn(self) -> float | None:
        """The progress by the lead's clock; None if the run ends, or any rank is to stop."""
        of_ranks = self.ranks.gather((self.progress, self.stop_requested))
        progress, stopped = of_ranks[0][0], any(stop for _, stop in of_ranks)
        self.stop_requested = self.stop_requested or stopped
        return None if progress >= 1.0 or stopped or self.target_is_reached else progress

    @undisturbed
    def begin(self) -> None:
        """What given frames do not cover starts from rattled copies, unless samples are there."""
        self.sampling.add_rattled_copies()

    @undisturbed
    def train(self, progress: float) -> StepRecord:
        """One training step at this share of the schedule."""
        if progress >= self.parts.config.coarse_share:
            self.leave_coarse_grid()
        keys = self.buffer.draw(self.parts.config.optimiser.batch_size, self.batch_rng)
        shares = self._shares(keys)
        record = self.updater.update(self.cache.batches(shares[self.ranks.rank]), progress)
        groups = [group for share in shares for group in self.cache.by_molecule(share)]
        self.buffer.note_widths([key for group in groups for key in group], record.widths)
        return record

    def _shares(self, keys: Sequence[int]) -> list[list[int]]:
        """Of a batch, each rank's; geometries of more molecules than a batch has come back late."""
        molecules = self.parts.molecules
        if len(molecules) <= len(keys):
            return self.ranks.shares(keys, self.cache.positions_of)
        return self.ranks.shares_of_equal_cost(
            keys, lambda key: float(molecules[self.cache.molecule_of(key)].nao ** 2)
        )

    def leave_coarse_grid(self) -> None:
        """Train on the level's own grid from here on; nothing where no grid is needed."""
        if self.updater.loss.needs_grid:
            self.cache.refine()

    def _sample(self) -> Iterator[Event]:
        for found in self.sampling.turn():
            kind = "sampling" if isinstance(found, SampleBatch) else "worker"
            yield self._event(**{kind: found})

    def _validate_if_due(self, last: bool = False) -> Iterator[Event]:
        validation = self.validator.validate_if_due(last, self.sampling.counters.sampling)
        if validation is not None:
            yield self._event(validation=validation)

    def _event(self, **what: Any) -> Event:
        return Event(
            step=self.updater.step,
            elapsed=self.elapsed,
            progress=self.progress,
            nsamples=self.sampling.counters.nsamples,
            **what,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays of all parts, as a checkpoint names them."""
        arrays = self.updater.to_arrays() | self.validator.to_arrays() | self.buffer.to_arrays()
        return arrays | self.held_out.to_arrays() | self.sampling.to_arrays()

    def to_plain(self) -> dict[str, Any]:
        """The plain values of all parts, as a checkpoint names them."""
        return {
            **self.updater.to_plain(),
            "counters": asdict(self.counters) | {"elapsed": self.elapsed},
            "batch_rng": self.batch_rng.bit_generator.state,
            **self.sampling.to_plain(),
            **self.buffer.to_plain(),
            "target_error_uEh": self.parts.config.target_error_uEh,
            "target_worst_error_uEh": self.parts.config.target_worst_error_uEh,
        }

    def from_arrays(self, arrays: dict[str, np.ndarray], plain: dict[str, Any]) -> None:
        """Put a fresh trainer where :meth:`to_arrays` and :meth:`to_plain` left off."""
        counters = Counters.from_plain(plain["counters"])
        self.elapsed_before = counters.elapsed
        self.batch_rng.bit_generator.state = plain["batch_rng"]
        self.updater.from_arrays(arrays, plain)
        self.buffer.from_arrays(arrays, plain)
        self.held_out.from_arrays(arrays, counters)
        self.sampling.from_arrays(arrays, plain, counters)
        targets = plain.get("target_error_uEh"), plain.get("target_worst_error_uEh")
        self.validator.from_arrays(arrays, counters, targets)
