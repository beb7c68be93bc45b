"""The parts of a training run, which the loop, its sampling and its validation share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ase_srdft.dft.molecule import Molecule
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.walker_group import EnergySurface
from ase_srdft.sampling.workers.resumable_sampler import ResumableSampler, model_energy_surface
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.data.replay_buffer import ReplayBuffer
from ase_srdft.training.validation_set import ValidationSet
from ase_srdft.training.weight_updater import WeightUpdater

__all__ = ["TrainingParts"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingParts:
    """What the loop, the sampling schedule and the validator work on together.

    Attributes:
        config: everything that can be chosen.
        dataset: molecules, given structures and frames.
        ranks: that train together.
        device: of the weights.
        molecules: of the dataset.
        names: of the molecules, each another.
        notes: what a user should know of structures and frames, in words.
        threads: over the geometries of a batch.
        updater: the weights and their average.
        cache: geometries to train on.
        buffer: which of them are given and which sampled.
        held_out: geometries that no step trains on.
    """

    config: TrainingConfig
    dataset: Dataset
    ranks: Ranks
    device: torch.device
    molecules: list[Molecule]
    names: list[str]
    notes: list[str]
    threads: ThreadMap
    updater: WeightUpdater
    cache: GeometryCache
    buffer: ReplayBuffer
    held_out: ValidationSet

    def energy_surface(self) -> EnergySurface:
        """The energy of the averaged model, as dynamics in this process sees it."""
        coarse = self.config.coarse_sampling
        averaged = self.updater.averaged
        return model_energy_surface(averaged, self.molecules, coarse, self.device, self.threads)

    def sampler_from(self, checkpoint: SamplerCheckpoint) -> ResumableSampler:
        """A sampler in this process, on the averaged model."""
        sampling = self.config.sampling
        carried = self.config.carried_bytes
        surface = self.energy_surface()
        return ResumableSampler(sampling, self.molecules, surface, checkpoint, carried)
