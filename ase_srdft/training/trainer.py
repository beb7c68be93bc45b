"""The trainer: batches, steps, validation, and samples as the engine gives them.

``Trainer.run`` is a generator of what happens; who consumes it prints, logs and saves.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ase_srdft.common.devices import torch_device
from ase_srdft.common.errors import BadInput, SamplingFailed
from ase_srdft.common.torch_state import seeded, undisturbed
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.electronic_state import ElectronicStateModel, family
from ase_srdft.models.model_file import build_model
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.sampler import EnergySurface, Sample, SampleBatch, Sampler
from ase_srdft.sampling.workers.inline_pool import InlinePool
from ase_srdft.sampling.workers.lead_rank_pool import LeadRankPool
from ase_srdft.sampling.workers.process_pool import ProcessPool
from ase_srdft.sampling.workers.ray_pool import RayPool
from ase_srdft.sampling.workers.resumable_sampler import (
    ResumableSampler,
    SamplerBlueprint,
    model_energy_surface,
    starting_state,
)
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage
from ase_srdft.sampling.workers.sampler_pool import SamplerPool
from ase_srdft.training.config import TrainingConfig, from_plain
from ase_srdft.training.dataset import Dataset, evenly_spaced
from ase_srdft.training.events import Counters, Event, Validation
from ase_srdft.training.geometry_cache import GeometryCache
from ase_srdft.training.isomers import names_of
from ase_srdft.training.losses import StepRecord, loss_of
from ase_srdft.training.moved_on import moved_on, number_of_steps
from ase_srdft.training.replay_buffer import ReplayBuffer
from ase_srdft.training.starts import (
    notes_on,
    placed,
    rattled_copies,
    structures_to_rattle,
    with_own_bonds,
)
from ase_srdft.training.validation import (
    target_is_reached,
    target_may_be_reached,
    validated,
)
from ase_srdft.training.validation_set import ValidationSet, is_held_out, which_are_held_out
from ase_srdft.training.weight_updater import WeightUpdater

__all__ = ["Trainer", "evenly_spaced", "initial_model"]

#: Training steps between looks whether dynamics may begin.
_LOOK_EVERY = 50
#: Rounds in a row without a single good sample before the run is given up.
_FRUITLESS_ROUNDS = 25


@undisturbed
def initial_model(config: TrainingConfig, dataset: Dataset) -> ElectronicStateModel:
    """A fresh model for the elements of a dataset; the seed decides its weights.

    Raises:
        BadInput: an unknown family, or a configuration that it does not take.
    """
    settings: Any = from_plain(family(config.model).Config, config.model_config, "model_config")
    with seeded(config.seed):
        return build_model(config.model, config.level, dataset.elements, asdict(settings))


class Trainer:
    """Self-refining training; where the sampling is done is the engine's part.

    Args:
        config: everything that can be chosen.
        dataset: molecules, given structures and frames.
        model: start from these weights instead of fresh ones.
        ranks: that train together, each with its own trainer; None for this process alone.

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
    ) -> None:
        self.ranks = ranks or Ranks.single()
        self.ranks.check_batch_size(config.optimiser.batch_size)
        if not config.self_refine and not dataset.frames:
            raise BadInput("nothing to train on: give frames, or let the run sample (self_refine)")
        self.config = config
        self.dataset = dataset
        self.device = torch_device(self.ranks.device_name(config.device))
        model = model if model is not None else initial_model(config, dataset)
        self.molecules: list[Molecule] = dataset.molecules(config.level, model.guess)
        self.names = names_of(self.molecules)
        self.notes = notes_on(dataset, self.names, config)
        for molecule in self.molecules:
            model.check_elements(molecule.numbers)
            _ = molecule.provider  # an unknown auxiliary basis shows here
        # the samplers' cores are ours until there is anything to sample with
        self.threads = ThreadMap(config.threads + config.sampler_cores)
        self.updater = WeightUpdater(
            model.to(self.device),
            config.optimiser,
            self.threads,
            self.ranks,
            loss_of(config, dataset),
        )
        self.best = copy.deepcopy(self.updater.averaged.state_dict())
        self.counters = Counters()
        seeds = np.random.SeedSequence(config.seed).spawn(2)
        self.batch_rng, self.sampler_rng = (np.random.default_rng(seed) for seed in seeds)
        self.cache = self._new_store(0.8 * config.memory_gb, config.coarse_sampling)
        self.held_out = ValidationSet(
            self._new_store(0.2 * config.memory_gb, False), self.ranks, dataset.labels
        )
        self.buffer = ReplayBuffer(
            self.cache,
            self._given_frames(),
            config.frames_share,
            config.buffer_size,
            config.selection,
        )
        self.sampler_states: list[SamplerCheckpoint] = []
        alone = self.ranks.size == 1
        self.pool = self._new_pool() if alone else LeadRankPool(self.ranks, self._new_pool)
        self._pool_runs = False
        self.stop_requested = False
        #: Asked before weights leave this process: whether they are where they cannot be lost.
        self.weights_are_safe: Callable[[], bool] = lambda: True
        self._started = time.monotonic()

    def _new_store(self, memory_gb: float, coarse: bool) -> GeometryCache:
        return GeometryCache(
            self.molecules, int(memory_gb * 1e9), coarse, self.device, self.threads
        )

    def _given_frames(self) -> list[int]:
        """Keys of the frames to train on; the last ones, of each molecule some, are held out."""
        frames = self.dataset.frames
        if len(frames) == 1:
            raise BadInput("a single frame: give at least two, one is held out, or none")
        held = which_are_held_out([m for m, _ in frames], self.config.validation_frames)
        self.held_out.add_frames(frames[index] for index in held)
        trained = sorted(set(range(len(frames))).difference(held))
        chosen = evenly_spaced(trained, self.config.data_fraction)
        return [self.cache.add(*frames[index]) for index in chosen]

    def _new_pool(self) -> SamplerPool:
        settings = self.config.engine
        if settings.name == "sync":
            return InlinePool(self._producer)
        blueprint = SamplerBlueprint.of(
            self.updater.averaged,
            self.dataset.compositions,
            self.config.sampling,
            self.config.coarse_sampling,
        )
        if settings.name == "ray":
            return RayPool(settings, blueprint, self.molecules, self.device)
        for name in settings.sampler_devices:
            torch_device(name)
        return ProcessPool(settings, blueprint, self.molecules, self.device)

    def _surface(self) -> EnergySurface:
        """The energy of the averaged model, as dynamics in this process sees it."""
        coarse = self.config.coarse_sampling
        averaged = self.updater.averaged
        return model_energy_surface(averaged, self.molecules, coarse, self.device, self.threads)

    def _producer(self, state: SamplerCheckpoint) -> ResumableSampler:
        """A sampler in this process, on the averaged model."""
        return ResumableSampler(self.config.sampling, self.molecules, self._surface(), state)

    @property
    def elapsed(self) -> float:
        """Seconds of training, earlier sessions included."""
        return self.counters.elapsed + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        shares = [self.updater.step / self.config.steps]
        if self.config.minutes is not None:
            shares.append(self.elapsed / (60.0 * self.config.minutes))
        return min(1.0, max(shares))

    @undisturbed
    def averaged_model(self) -> ElectronicStateModel:
        """The averaged weights of now, double precision."""
        return copy.deepcopy(self.updater.averaged).double()

    @undisturbed
    def best_model(self) -> ElectronicStateModel:
        """The averaged weights of the narrowest validated bracket, double precision."""
        model = copy.deepcopy(self.updater.averaged)
        model.load_state_dict(self.best)
        return model.double()

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
            self.pool.stop()
            self._pool_runs = False

    def _next_turn(self) -> float | None:
        """The progress by the lead's clock; None if the run ends, or any rank is to stop."""
        told = self.ranks.gather((self.progress, self.stop_requested))
        progress, stopped = told[0][0], any(stop for _, stop in told)
        if stopped:
            self.stop_requested = True
        over = progress >= 1.0 or stopped or self.target_is_reached
        return None if over else progress

    @undisturbed
    def begin(self) -> None:
        """What given frames do not cover starts from rattled copies, unless samples are there."""
        if self.buffer.samples or not self.config.self_refine:
            return
        held = {self.held_out.cache.molecule_of(key) for key in self.held_out.keys}
        frames = self._positions_by_molecule(self.buffer.frames)
        bare = structures_to_rattle(self.dataset, frames, held)
        copies = self.ranks.broadcast(  # another machine might round otherwise
            rattled_copies(self.molecules, bare, self.config, self.sampler_rng)
        )
        for index, (held_out, trained) in copies.items():
            for positions in held_out:
                self.held_out.add(index, positions)
            for positions in trained:
                self.buffer.add_sample(index, positions, None)

    def _positions_by_molecule(self, keys: Iterable[int]) -> list[list[np.ndarray]]:
        positions: list[list[np.ndarray]] = [[] for _ in self.molecules]
        for key in keys:
            positions[self.cache.molecule_of(key)].append(self.cache.positions_of(key))
        return positions

    @undisturbed
    def train(self, progress: float) -> StepRecord:
        """One training step at this share of the schedule."""
        if progress >= self.config.coarse_share and self.updater.loss.needs_grid:
            self.cache.refine()
        keys = self.buffer.draw(self.config.optimiser.batch_size, self.batch_rng)
        shares = self.ranks.shares(keys, self.cache.positions_of)
        record = self.updater.update(self.cache.batches(shares[self.ranks.rank]), progress)
        groups = [group for share in shares for group in self.cache.by_molecule(share)]
        order = [key for group in groups for key in group]
        self.buffer.note_widths(order, record.widths)
        return record

    def _event(self, **what: Any) -> Event:
        return Event(
            step=self.updater.step,
            elapsed=self.elapsed,
            progress=self.progress,
            nsamples=self.counters.nsamples,
            **what,
        )

    def bracket_is_safe(self) -> bool:
        """Whether dynamics on the averaged model may start, by held-out frames."""
        width = self.held_out.bracket_of_a_few(self.updater.averaged)
        return width < self.config.safe_width_mEh * 1e-3

    def _place_walkers(self) -> None:
        """Walkers start from what there is to train on, spread over molecules and samplers."""
        sampling = self.config.sampling
        structures = [self.dataset.structures_of(index) for index in range(len(self.molecules))]
        found = self._positions_by_molecule([*self.buffer.frames, *self.buffer.samples])
        if not sampling.allow_reactions:
            found = with_own_bonds(self.molecules, self.dataset.references, found)
        walkers, returns = placed(structures, found, sampling.walkers, self.sampler_rng)
        nsamplers = self.config.nsamplers
        self.sampler_states = [
            starting_state(
                sampler,
                walkers[sampler::nsamplers],
                returns,
                np.random.SeedSequence(self.config.seed, spawn_key=(2, sampler)),
            )
            for sampler in range(nsamplers)
        ]

    def _sample(self) -> Iterator[Event]:
        """New weights to the samplers where they are due, and what the samplers have sent."""
        counters, step = self.counters, self.updater.step
        if not self.config.self_refine:
            return
        looks = step % _LOOK_EVERY == 0 and step >= max(1, self.config.pretraining_steps)
        if looks and not counters.sampling:
            counters.sampling = self.ranks.run_on_lead(self.bracket_is_safe)
            if counters.sampling:
                self._place_walkers()
        if not counters.sampling:
            return
        elsewhere = self.config.engine.name != "sync"
        due = step % self.config.train_steps_per_round == 0
        if not self._pool_runs:
            self.threads.resize(self.config.threads)
            self.pool.start(self.sampler_states)
            self._pool_runs = True
            due = due or elsewhere
        if due and (self.weights_are_safe() or not elsewhere):
            self.pool.publish(step, self.updater.averaged.state_dict())
        for message in self.pool.collect():
            yield self._event(sampling=self.take(message))
        for report in self.pool.reports():
            counters.nrestarts += 1
            yield self._event(worker=report)

    def take(self, message: SamplerMessage) -> SampleBatch:
        """Put the samples of a message into the buffer, but for those that must be refused.

        Returns:
            The round with the samples that were accepted.

        Raises:
            SamplingFailed: there was none in many messages.
        """
        counters = self.counters
        self.sampler_states[message.checkpoint.sampler] = message.checkpoint
        staleness = self.updater.step - message.checkpoint.version
        accepted: list[Sample] = []
        refused: Counter[str] = Counter()
        for sample in message.batch.samples:
            if staleness > self.config.engine.max_staleness:
                refused["too stale"] += 1
            elif not sample.is_finite:
                refused["a number that is not finite"] += 1
            else:
                accepted.append(sample)
        counters.sampled_molecules = sorted(
            {*counters.sampled_molecules, *(sample.molecule for sample in accepted)}
        )
        for sample in accepted:
            counters.nsamples += 1
            if self._hold_out(sample.molecule, sample.positions):
                continue
            self.buffer.add_sample(
                sample.molecule, sample.positions, sample.geometry, sample.bracket_width
            )
        counters.resets = dict(Counter(counters.resets) + message.batch.resets + refused)
        counters.fruitless = 0 if accepted else counters.fruitless + 1
        if counters.fruitless >= _FRUITLESS_ROUNDS:
            reasons = ", ".join(f"{n} times {why}" for why, n in counters.resets.items())
            raise SamplingFailed(
                f"no sample in {counters.fruitless} rounds of dynamics ({reasons}): lower the "
                "temperature or the step size, allow reactions, or allow staler samples"
            )
        return replace(
            message.batch,
            samples=accepted,
            resets=message.batch.resets + refused,
            sampler=message.checkpoint.sampler,
            staleness=staleness,
        )

    def _hold_out(self, molecule: int, positions: np.ndarray) -> bool:
        """Let a sample take the place of a copy, or an older sample, among those held out."""
        counters = self.counters
        if not is_held_out(self.config.seed, counters.nsamples, self.held_out.nreplaceable):
            return False
        place = self.held_out.replace(molecule, positions, counters.replaced)
        if place is None:
            return False
        counters.hold_out(place)
        return True

    def _validate_if_due(self, last: bool = False) -> Iterator[Event]:
        """A validation at the steps that ask for one, and of the ``last`` step."""
        step, done = self.updater.step, self.counters.validated_step
        due = (
            last
            or step % self.config.validate_every == 0
            or target_may_be_reached(self.config.target_error_uEh, self.held_out, self.counters)
        )
        if step > done and due:
            if last or step >= self.config.steps:
                self._move_copies_on()
            validation = self._validate()
            if validation is not None:
                yield self._event(validation=validation)

    def _move_copies_on(self) -> None:
        """Where dynamics has not replaced all rattled copies by the end: take these along."""
        counters, config = self.counters, self.config
        copies = self.held_out.copies(counters.replaced)
        nsteps = number_of_steps(len(copies), self.updater.step, config)
        if not counters.sampling or not copies or nsteps == 0:
            return

        inertial = replace(config.sampling, dynamics="langevin")
        sampler = Sampler(inertial, self.molecules, self._surface())
        rng = np.random.default_rng([config.seed, self.updater.step])
        at = self.dataset.references

        def moved() -> list[np.ndarray] | None:
            return moved_on(copies, at, sampler, nsteps, rng, lambda: self.stop_requested)

        positions = self.ranks.run_on_lead(moved)
        if positions is not None:
            self.held_out.move_copies(positions, counters.replaced)
            counters.set_has_changed = True
            counters.copies_moved_fs += nsteps * config.sampling.timestep_fs

    def _validate(self) -> Validation | None:
        """Averaged weights on held-out geometries; None if it was asked to stop meanwhile."""
        averaged = self.updater.averaged
        validation = validated(
            averaged, self.best, self.held_out, self.counters, lambda: self.stop_requested
        )
        if validation is not None:
            self.counters.validated_step = self.updater.step
        if validation is not None and validation.best:
            self.best = copy.deepcopy(averaged.state_dict())
        return validation

    @property
    def target_is_reached(self) -> bool:
        """Whether the best weights are as good as asked for, where dynamics goes."""
        return target_is_reached(self.config.target_error_uEh, self.held_out, self.counters)

    def counters_to_plain(self) -> dict[str, Any]:
        """Counters with the time of this session added, as plain values."""
        return asdict(self.counters) | {"elapsed": self.elapsed}
