"""The synchronous engine: sampling and training in turn, in one process.

``Trainer.run`` is a generator of what happens; who consumes it prints, logs and saves.
"""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from ase_srdft.devices import torch_device
from ase_srdft.dft.geometry import Geometry
from ase_srdft.dft.molecule import Molecule
from ase_srdft.errors import BadInput, SamplingFailed
from ase_srdft.models.evaluate import Evaluation, evaluate, merged
from ase_srdft.models.model_file import build_model
from ase_srdft.models.state import ElectronicStateModel, family
from ase_srdft.parallel import Workers
from ase_srdft.training.buffer import BatchSource
from ase_srdft.training.config import TrainingConfig, from_plain
from ase_srdft.training.dataset import Dataset
from ase_srdft.training.learner import Learner, StepRecord, mean_bracket
from ase_srdft.training.sampler import Sampler, SamplingRound, thermal_copies
from ase_srdft.training.store import GeometryStore

__all__ = ["Event", "Trainer", "Validation", "initial_model"]

#: Every so many accepted samples one is held out, until there are enough.
_HOLD_OUT_EVERY = 12
#: Rounds in a row without a single good sample before the run is given up.
_FRUITLESS_ROUNDS = 25


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Averaged weights on held-out frames, on the level's own grid.

    Attributes:
        energy: mean (Hartree).
        bracket_width: mean (Hartree): the certified error.
        best: whether it is the narrowest so far.
    """

    energy: float
    bracket_width: float
    best: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """Something that happened at a step; exactly one of the last three fields is set.

    Attributes:
        step: training steps done.
        elapsed: seconds of training, earlier sessions included.
        progress: share of the run that is done, 0 to 1.
        nsamples: geometries sampled so far.
        training: a training step.
        sampling: a sampling round.
        validation: a validation.
    """

    step: int
    elapsed: float
    progress: float
    nsamples: int
    training: StepRecord | None = None
    sampling: SamplingRound | None = None
    validation: Validation | None = None


@dataclass(kw_only=True)
class Counters:
    """What has been counted; part of a checkpoint.

    Attributes:
        elapsed: seconds of training before this session.
        nsamples: accepted samples.
        nheld_out: samples held out for validation.
        fruitless: sampling rounds in a row without a sample.
        sampling: whether dynamics has started.
        best_width: narrowest validated bracket (Hartree).
        resets: walkers reset, by reason.
    """

    elapsed: float = 0.0
    nsamples: int = 0
    nheld_out: int = 0
    fruitless: int = 0
    sampling: bool = False
    best_width: float = math.inf
    resets: dict[str, int] = field(default_factory=dict)


def initial_model(config: TrainingConfig, dataset: Dataset) -> ElectronicStateModel:
    """A fresh model for the elements of a dataset; the seed decides its weights.

    Raises:
        BadInput: an unknown family, or a configuration that it does not take.
    """
    from_plain(family(config.model).Config, config.model_config, "model_config")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_model(config.model, config.level, dataset.elements, config.model_config)


class Trainer:
    """Self-refining training in one process.

    Args:
        config: everything that can be chosen.
        dataset: molecules, given structures and frames.
        model: start from these weights instead of fresh ones.

    Raises:
        BadInput: molecules that the level of theory or the model refuses, a single frame, or a
            device that is not there.
    """

    def __init__(
        self, config: TrainingConfig, dataset: Dataset, model: ElectronicStateModel | None = None
    ) -> None:
        if not config.self_refine and not dataset.frames:
            raise BadInput("nothing to train on: give frames, or let the run sample (self_refine)")
        self.config = config
        self.dataset = dataset
        self.device = torch_device(config.device)
        model = model if model is not None else initial_model(config, dataset)
        self.molecules: list[Molecule] = dataset.molecules(config.level, model.guess)
        for molecule in self.molecules:
            model.check_elements(molecule.numbers)
            _ = molecule.provider  # an unknown auxiliary basis shows here
        self.workers = Workers(config.threads)
        self.learner = Learner(model.to(self.device), config.optimiser, self.workers)
        self.best = copy.deepcopy(self.learner.averaged.state_dict())
        self.counters = Counters()
        seeds = np.random.SeedSequence(config.seed).spawn(2)
        self.batch_rng, self.sampler_rng = (np.random.default_rng(seed) for seed in seeds)
        self.store = self._new_store(0.8 * config.memory_gb, config.coarse_grid)
        self.validation_store = self._new_store(0.2 * config.memory_gb, False)
        self.validation: list[int] = []
        self.source = BatchSource(
            self.store, self._given_frames(), config.data_fraction, config.buffer_size
        )
        self.sampler = Sampler(config.sampling, self.molecules, self._surface)
        self.stop_requested = False
        self._started = time.monotonic()

    def _new_store(self, memory_gb: float, coarse: bool) -> GeometryStore:
        return GeometryStore(
            self.molecules, int(memory_gb * 1e9), coarse, self.device, self.workers
        )

    def _given_frames(self) -> list[int]:
        """Keys of the frames to train on; the last ones are held out."""
        frames = self.dataset.frames
        if len(frames) == 1:
            raise BadInput("a single frame: give at least two, one is held out, or none")
        nheld = min(self.config.validation_frames, len(frames) // 2)
        for molecule, positions in frames[len(frames) - nheld :]:
            self.validation.append(self.validation_store.add(molecule, positions))
        return [self.store.add(*frame) for frame in frames[: len(frames) - nheld]]

    def _surface(self, molecule: int, positions: np.ndarray) -> Evaluation:
        """The averaged model, on the training grid; walkers are shared out over the threads."""
        tensor = torch.as_tensor(positions, device=self.device)

        def work(piece: slice) -> Evaluation:
            return evaluate(
                self.learner.averaged,
                self.molecules[molecule],
                tensor[piece],
                grid_level=self.store.grid_level,
            )

        return merged(self.workers.map(work, self.workers.slices(len(positions))))

    @property
    def elapsed(self) -> float:
        """Seconds of training, earlier sessions included."""
        return self.counters.elapsed + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        shares = [self.learner.step / self.config.steps]
        if self.config.minutes is not None:
            shares.append(self.elapsed / (60.0 * self.config.minutes))
        return min(1.0, max(shares))

    def averaged_model(self) -> ElectronicStateModel:
        """The averaged weights of now, double precision."""
        return copy.deepcopy(self.learner.averaged).double()

    def best_model(self) -> ElectronicStateModel:
        """The averaged weights of the narrowest validated bracket, double precision."""
        model = copy.deepcopy(self.learner.averaged)
        model.load_state_dict(self.best)
        return model.double()

    def run(self) -> Iterator[Event]:
        """Train until a limit is reached, or :attr:`stop_requested`; yields what happens.

        Raises:
            SamplingFailed: no walker gave a sample for many rounds.
            FloatingPointError: the gradient is not finite.
        """
        self._started = time.monotonic()
        self.begin()
        while self.progress < 1.0 and not self.stop_requested and not self._target_reached():
            if self._sampling_is_due():
                yield self._event(sampling=self._sample())
            yield self._event(training=self.train(self.progress))
            if self.learner.step % self.config.validate_every == 0:
                yield self._event(validation=self._validate())
        if not self.stop_requested and self.learner.step % self.config.validate_every:
            yield self._event(validation=self._validate())

    def begin(self) -> None:
        """Molecules without given frames start from rattled copies, unless samples are there."""
        if self.source.samples or not self.config.self_refine:
            return
        given = {self.store.molecule_of(key) for key in self.source.frames}
        bare = [index for index in range(len(self.molecules)) if index not in given]
        if bare:
            self._start_from_rattled_copies(bare)

    def train(self, progress: float) -> StepRecord:
        """One training step at this share of the schedule."""
        keys = self.source.draw(self.config.optimiser.batch_size, self.batch_rng)
        return self.learner.update(self.store.batches(keys), progress)

    def _event(self, **what: Any) -> Event:
        return Event(
            step=self.learner.step,
            elapsed=self.elapsed,
            progress=self.progress,
            nsamples=self.counters.nsamples,
            **what,
        )

    def _start_from_rattled_copies(self, indices: Sequence[int]) -> None:
        """Thermal copies of these molecules' structures, some of them held out."""
        config = self.config
        nheld = max(1, config.validation_frames // len(self.molecules))
        for index in indices:
            copies = thermal_copies(
                self.molecules[index],
                self.dataset.references[index],
                config.pretraining_frames + nheld,
                config.sampling.temperature_K,
                self.sampler_rng,
            )
            self.validation += [self.validation_store.add(index, c) for c in copies[:nheld]]
            for positions in copies[nheld:]:
                self.source.add_sample(index, positions, None)

    def _sampling_is_due(self) -> bool:
        if not self.config.self_refine:
            return False
        if not self.counters.sampling and self.learner.step % 50 == 0 and self.learner.step > 0:
            self.counters.sampling = self.bracket_is_safe()
            if self.counters.sampling:
                self._start_walkers()
        due = self.learner.step % self.config.train_steps_per_round == 0
        return self.counters.sampling and due

    def bracket_is_safe(self) -> bool:
        """Whether dynamics on the averaged model may start, by held-out frames."""
        spread = self.validation[:: max(1, len(self.validation) // 8)]  # over all molecules
        batches = self.validation_store.batches(spread)
        width = mean_bracket(self.learner.averaged, batches, self.workers)[1]
        return width < self.config.safe_width_mEh * 1e-3

    def _start_walkers(self) -> None:
        """Walkers start from what there is to train on, spread over the molecules."""
        keys = [*self.source.frames, *self.source.samples]
        own: list[list[int]] = [[] for _ in self.molecules]
        for key in keys:
            own[self.store.molecule_of(key)].append(key)
        starts: list[list[np.ndarray]] = [[] for _ in self.molecules]
        occupied = [index for index, keys in enumerate(own) if keys]
        for walker in range(max(self.config.sampling.walkers, len(occupied))):
            index = occupied[walker % len(occupied)]
            key = own[index][int(self.sampler_rng.integers(len(own[index])))]
            starts[index].append(self.store.positions_of(key))
        shapes = [(0, molecule.natoms, 3) for molecule in self.molecules]
        self.sampler.init(
            [np.array(s).reshape(-1, *shape[1:]) for s, shape in zip(starts, shapes, strict=True)],
            self.dataset.references,
            self.sampler_rng,
        )

    def _sample(self) -> SamplingRound:
        """A round of dynamics with the current averaged weights; samples go to the buffer."""
        self.sampler.update()
        result = self.sampler.sample(self.config.sampling.steps_per_round, self.sampler_rng)
        counters = self.counters
        for sample in result.samples:
            counters.nsamples += 1
            if self._hold_out(sample.molecule, sample.positions):
                continue
            self.source.add_sample(sample.molecule, sample.positions, sample.geometry)
        counters.resets = dict(Counter(counters.resets) + result.resets)
        counters.fruitless = 0 if result.samples else counters.fruitless + 1
        if counters.fruitless >= _FRUITLESS_ROUNDS:
            reasons = ", ".join(f"{n} times {why}" for why, n in counters.resets.items())
            raise SamplingFailed(
                f"no sample in {counters.fruitless} rounds of dynamics ({reasons}): lower the "
                "temperature or the step size, or allow reactions"
            )
        return result

    def _hold_out(self, molecule: int, positions: np.ndarray) -> bool:
        """Replace the rattled copies of the validation set by samples, one after the other."""
        counters = self.counters
        generated = not self.dataset.frames
        wanted = generated and counters.nheld_out < len(self.validation)
        if not wanted or counters.nsamples % _HOLD_OUT_EVERY:
            return False
        self.validation_store.remove(self.validation[counters.nheld_out])
        self.validation[counters.nheld_out] = self.validation_store.add(molecule, positions)
        counters.nheld_out += 1
        counters.best_width = math.inf  # another set, another yardstick
        return True

    def _validation_batches(self) -> Iterator[list[Geometry]]:
        for start in range(0, len(self.validation), 8):
            yield self.validation_store.batches(self.validation[start : start + 8])

    def _validate(self) -> Validation:
        totals = np.zeros(2)
        for batches in self._validation_batches():
            count = sum(len(batch) for batch in batches)
            totals += count * np.array(mean_bracket(self.learner.averaged, batches, self.workers))
        energy, width = (totals / len(self.validation)).tolist()
        best = width < self.counters.best_width
        if best:
            self.counters.best_width = width
            self.best = copy.deepcopy(self.learner.averaged.state_dict())
        return Validation(energy=energy, bracket_width=width, best=best)

    def _target_reached(self) -> bool:
        target = self.config.target_error_uEh
        # with sampling to come, the set is not yet the one that counts
        final = bool(self.dataset.frames) or self.counters.nheld_out == len(self.validation)
        ready = final or not self.config.self_refine
        return target is not None and ready and self.counters.best_width < target * 1e-6

    def counters_to_plain(self) -> dict[str, Any]:
        """Counters with the time of this session added, as plain values."""
        return asdict(self.counters) | {"elapsed": self.elapsed}
