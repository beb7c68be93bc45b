"""Molecular dynamics that takes rattled copies to where a model's dynamics goes.

A short run ends before its samples have replaced the rattled copies among the geometries held out.
Copies are near a structure that need not be near a minimum of the model, and soft modes are hardly
displaced in them: brackets there say little of those that dynamics will meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ase_srdft.sampling.sampler import Sampler
from ase_srdft.training.config import TrainingConfig

__all__ = ["moved_on", "number_of_steps"]

#: Steps of dynamics at most; there and back in a bending mode.
_MOST_STEPS = 48
#: Force calls for every geometry that has been trained on, so that this stays a small part.
_SHARE = 0.1
#: Steps between questions whether to leave off.
_TOGETHER = 4


def number_of_steps(ncopies: int, ntrained: int, config: TrainingConfig) -> int:
    """Steps of dynamics that a number of copies may take after a number of training steps."""
    calls = _SHARE * ntrained * config.optimiser.batch_size
    return min(_MOST_STEPS, int(calls / max(1, ncopies)))


def moved_on(
    copies: Sequence[tuple[int, np.ndarray]],
    references: Sequence[np.ndarray],
    sampler: Sampler,
    nsteps: int,
    rng: np.random.Generator,
    stopped: Callable[[], bool],
) -> list[np.ndarray] | None:
    """Where dynamics takes geometries, with the guards of sampling.

    Args:
        copies: (index of the molecule, positions in Bohr).
        references: the given structure of each molecule (Bohr).
        sampler: without walkers.
        nsteps: steps of each geometry.
        rng: of the dynamics.
        stopped: asked now and then whether to leave off.

    Returns:
        Positions (Bohr) in the order of the copies; None if it left off.
    """
    own = [
        [place for place, (molecule, _) in enumerate(copies) if molecule == index]
        for index in range(len(references))
    ]
    starts = [
        np.array([copies[place][1] for place in places]).reshape(-1, *reference.shape)
        for places, reference in zip(own, references, strict=True)
    ]
    walkers = [np.array(places, dtype=int) for places in own]
    sampler.init(starts, references, rng, walkers)
    for begun in range(0, nsteps, _TOGETHER):
        if stopped():
            return None
        sampler.sample(min(_TOGETHER, nsteps - begun), rng)
    found = {
        int(place): positions
        for group in sampler.groups
        for place, positions in zip(group.walkers, group.state.positions, strict=True)
    }
    return [found[place] for place in range(len(copies))]
