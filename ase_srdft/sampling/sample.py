"""Geometries that dynamics visited, one by one and by the round."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ase_srdft.dft.prepared_geometry import Geometry

__all__ = ["Sample", "SampleBatch"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One sampled geometry.

    Attributes:
        molecule: index of the molecule.
        walker: which walker of the run.
        step: of that walker, counted from its start.
        weights_version: of the weights that moved it, the training step they are from.
        positions: (Bohr).
        energy: of the model that sampled it (Hartree).
        forces: (Hartree/Bohr).
        bracket_width: on the grid that sampling is on (Hartree).
        geometry: its integrals, a batch of one; None where they are not at hand.
    """

    molecule: int
    walker: int
    step: int
    weights_version: int
    positions: Float[np.ndarray, "natoms 3"]
    energy: float
    forces: Float[np.ndarray, "natoms 3"]
    bracket_width: float
    geometry: Geometry | None

    @property
    def is_finite(self) -> bool:
        """Whether all of its numbers are."""
        numbers = (self.positions, self.forces, self.energy, self.bracket_width)
        return all(bool(np.isfinite(number).all()) for number in numbers)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleBatch:
    """What a round of sampling gave.

    Attributes:
        samples: those that passed the guards.
        acceptance: share of proposals accepted (``metropolis``), else of samples that passed.
        temperature_K: of the walkers: kinetic, or configurational for the overdamped scheme;
            NaN where there is no estimator.
        resets: walkers reset, and samples refused by the trainer, by reason.
        sampler: which one of the run gave it.
        staleness: training steps that the weights of the samples were behind when they arrived.
    """

    samples: list[Sample]
    acceptance: float
    temperature_K: float
    resets: Counter[str]
    sampler: int = 0
    staleness: int = 0
