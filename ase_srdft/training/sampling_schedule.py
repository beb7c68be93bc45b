"""When dynamics begins and from where, when it gets new weights, and what becomes of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ase_srdft.common.errors import SamplingFailed
from ase_srdft.common.named_arrays import bundled, unbundled, under
from ase_srdft.sampling.sample import Sample, SampleBatch
from ase_srdft.sampling.workers.resumable_sampler import starting_checkpoint
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage
from ase_srdft.sampling.workers.sampler_pool import SamplerPool
from ase_srdft.sampling.workers.worker_report import WorkerReport
from ase_srdft.training.data.starts import (
    molecules_at_a_time,
    placed,
    rattled_copies,
    structures_to_rattle,
    with_own_bonds,
)
from ase_srdft.training.events import Counters, SamplingCounters
from ase_srdft.training.training_parts import TrainingParts

__all__ = ["SamplingSchedule"]

#: Training steps between looks whether dynamics may begin.
_LOOK_EVERY = 50
#: Rounds in a row without a single good sample before the run is given up.
_FRUITLESS_ROUNDS = 25


class SamplingSchedule:
    """The sampling of a run, between its training steps.

    Args:
        parts: of the run.
        pool: where the sampling is done.
        rng: of rattled copies and of where walkers start.
        may_publish: asked before weights leave this process: whether they are where they cannot
            be lost.

    Attributes:
        checkpoints: of each sampler, after the last of its messages that was taken.
        counters: what was sampled.
    """

    def __init__(
        self,
        parts: TrainingParts,
        pool: SamplerPool,
        rng: np.random.Generator,
        may_publish: Callable[[], bool],
    ) -> None:
        self.parts = parts
        self.rng = rng
        self.may_publish = may_publish
        self.pool = pool
        self.checkpoints: list[SamplerCheckpoint] = []
        self.counters = SamplingCounters()
        self._pool_runs = False

    def add_rattled_copies(self) -> None:
        """What given frames do not cover starts from rattled copies, unless samples are there."""
        parts = self.parts
        if parts.buffer.samples or not parts.config.self_refine:
            return
        held = {parts.held_out.cache.molecule_of(key) for key in parts.held_out.keys}
        frames = self._positions_by_molecule(parts.buffer.frames)
        bare = structures_to_rattle(parts.dataset, frames, held)
        copies = parts.ranks.broadcast(  # another machine might round otherwise
            rattled_copies(parts.molecules, bare, parts.config, self.rng)
        )
        for index, (held_out, trained) in copies.items():
            for positions in held_out:
                parts.held_out.add(index, positions)
            for positions in trained:
                parts.buffer.add_sample(index, positions, None)

    def _positions_by_molecule(self, keys: Iterable[int]) -> list[list[np.ndarray]]:
        cache = self.parts.cache
        positions: list[list[np.ndarray]] = [[] for _ in self.parts.molecules]
        for key in keys:
            positions[cache.molecule_of(key)].append(cache.positions_of(key))
        return positions

    def bracket_is_safe(self) -> bool:
        """Whether dynamics on the averaged model may start, by held-out frames."""
        width = self.parts.held_out.bracket_of_a_few(self.parts.updater.averaged)
        return width < self.parts.config.safe_width_mEh * 1e-3

    def place_walkers(self) -> None:
        """Dynamics begins: walkers on what there is to train on, spread over molecules."""
        config, dataset, buffer = self.parts.config, self.parts.dataset, self.parts.buffer
        molecules = self.parts.molecules
        structures = [dataset.structures_of(index) for index in range(len(molecules))]
        found = self._positions_by_molecule([*buffer.frames, *buffer.samples])
        if not config.sampling.allow_reactions:
            found = with_own_bonds(molecules, dataset.references, found)
        walkers, returns = placed(structures, found, config.sampling.walkers, self.rng)
        together = molecules_at_a_time(len(molecules), config.sampling.walkers)
        self.checkpoints = [
            starting_checkpoint(
                sampler,
                walkers[sampler :: config.nsamplers],
                returns,
                np.random.SeedSequence(config.seed, spawn_key=(2, sampler)),
                None if together is None else len(range(sampler, together, config.nsamplers)),
            )
            for sampler in range(config.nsamplers)
        ]
        self.counters = replace(self.counters, sampling=True)

    def turn(self) -> Iterator[SampleBatch | WorkerReport]:
        """New weights to the samplers where they are due, and what the samplers have sent.

        Raises:
            SamplingFailed: no walker gave a sample for many rounds.
            WorkerFailed: samplers died too often.
        """
        config, step = self.parts.config, self.parts.updater.step
        if not config.self_refine:
            return
        looks = step % _LOOK_EVERY == 0 and step >= max(1, config.pretraining_steps)
        looks = looks and not self.counters.sampling
        if looks and self.parts.ranks.run_on_lead(self.bracket_is_safe):
            self.place_walkers()
        if not self.counters.sampling:
            return
        self._publish_if_due(step)
        for message in self.pool.collect():
            yield self.take(message)
        for report in self.pool.reports():
            self.counters = replace(self.counters, nrestarts=self.counters.nrestarts + 1)
            yield report

    def _publish_if_due(self, step: int) -> None:
        elsewhere = self.parts.config.engine.name != "sync"
        due = step % self.parts.config.train_steps_per_round == 0
        if not self._pool_runs:
            self.parts.threads.resize(self.parts.config.threads)
            self.pool.start(self.checkpoints)
            self._pool_runs = True
            due = due or elsewhere
        if due and (not elsewhere or self.may_publish()):
            self.pool.publish(step, self.parts.updater.averaged.state_dict())

    def take(self, message: SamplerMessage) -> SampleBatch:
        """Put the samples of a message into the buffer, but for those that must be refused.

        Returns:
            The round with the samples that were accepted.

        Raises:
            SamplingFailed: there was none in many messages.
        """
        self.checkpoints[message.checkpoint.sampler] = message.checkpoint
        staleness = self.parts.updater.step - message.checkpoint.version
        accepted: list[Sample] = []
        refused: Counter[str] = Counter()
        for sample in message.batch.samples:
            if staleness > self.parts.config.engine.max_staleness:
                refused["too stale"] += 1
            elif not sample.is_finite:
                refused["a number that is not finite"] += 1
            else:
                accepted.append(sample)
        for number, sample in enumerate(accepted, self.counters.nsamples + 1):
            self._keep(number, sample)
        resets = message.batch.resets + refused
        self._count(accepted, resets)
        return replace(
            message.batch,
            samples=accepted,
            resets=resets,
            sampler=message.checkpoint.sampler,
            staleness=staleness,
        )

    def _keep(self, number: int, sample: Sample) -> None:
        """Hold a sample out, or train on it."""
        molecule, positions = sample.molecule, sample.positions
        if not self.parts.held_out.take(self.parts.config.seed, number, molecule, positions):
            self.parts.buffer.add_sample(molecule, positions, sample.geometry, sample.bracket_width)

    def _count(self, accepted: list[Sample], resets: Counter[str]) -> None:
        counters = self.counters
        self.counters = replace(
            counters,
            nsamples=counters.nsamples + len(accepted),
            sampled_molecules=sorted(
                {*counters.sampled_molecules, *(sample.molecule for sample in accepted)}
            ),
            resets=dict(Counter(counters.resets) + resets),
            fruitless=0 if accepted else counters.fruitless + 1,
        )
        if self.counters.fruitless >= _FRUITLESS_ROUNDS:
            reasons = ", ".join(f"{n} times {why}" for why, n in self.counters.resets.items())
            raise SamplingFailed(
                f"no sample in {self.counters.fruitless} rounds of dynamics ({reasons}): lower the "
                "temperature or the step size, allow reactions, or allow staler samples"
            )

    def add_given(self, molecule: int, positions: np.ndarray) -> None:
        """A geometry (Bohr) that dynamics outside of the run has given: train on it."""
        self.parts.buffer.add_sample(molecule, positions, None)
        self.counters = replace(self.counters, nsamples=self.counters.nsamples + 1)

    def stop(self) -> None:
        """End all samplers."""
        self.pool.stop()
        self._pool_runs = False

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The walkers, as a checkpoint names them."""
        return {
            f"samplers/{checkpoint.sampler}/{name}": array
            for checkpoint in self.checkpoints
            for name, array in bundled(checkpoint.arrays).items()
        }

    def to_plain(self) -> dict[str, Any]:
        """States of samplers and random numbers: plain values, as a checkpoint names them."""
        return {
            "sampler_rng": self.rng.bit_generator.state,
            "samplers": [checkpoint.to_plain() for checkpoint in self.checkpoints],
        }

    def from_arrays(
        self, arrays: dict[str, np.ndarray], plain: dict[str, Any], counters: Counters
    ) -> None:
        """Go on where :meth:`to_arrays` and :meth:`to_plain` left off."""
        self.rng.bit_generator.state = plain["sampler_rng"]
        self.counters = counters.of_sampling
        self.checkpoints = [
            SamplerCheckpoint.from_plain(
                own, unbundled(under(f"samplers/{own['sampler']}/", arrays))
            )
            for own in plain["samplers"]
        ]
