"""Geometries that no step trains on, and what weights are worth there."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ase_srdft.labels import Labels
from ase_srdft.models.state import ElectronicStateModel
from ase_srdft.training.learner import mean_bracket, mean_hamiltonian_error
from ase_srdft.training.ranks import Ranks
from ase_srdft.training.store import GeometryStore

__all__ = ["HeldOut", "HeldOutMeans", "is_held_out"]

#: One in so many accepted samples is held out, until there are enough.
_HOLD_OUT_EVERY = 12
#: Geometries that are evaluated together, and in a look at a few.
_TOGETHER = 8


class HeldOutMeans(NamedTuple):
    """Means over held-out geometries.

    Attributes:
        energy: E (Hartree).
        bracket_width: (Hartree).
        hamiltonian_error: mean |dH| (Hartree), NaN without labels.
    """

    energy: float
    bracket_width: float
    hamiltonian_error: float


class HeldOut:
    """Held-out geometries, evaluated on the level's own grid.

    Args:
        store: where they are kept, on that grid; theirs alone.
        ranks: that share the work.
        labels: of the geometries; None where the Hamiltonian's error is not wanted.

    Attributes:
        keys: in the store; a geometry's place is that of its key.
    """

    def __init__(self, store: GeometryStore, ranks: Ranks, labels: Labels | None) -> None:
        self.store = store
        self.ranks = ranks
        self.labels = labels
        self.keys: list[int] = []

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, molecule: int, positions: Float[np.ndarray, "natoms 3"]) -> None:
        """One more geometry (Bohr)."""
        self.keys.append(self.store.add(molecule, positions))

    def restore(self, geometries: Iterable[tuple[int, np.ndarray]]) -> None:
        """These geometries, and none of those of before."""
        for key in self.keys:
            self.store.remove(key)
        self.keys = []
        for molecule, positions in geometries:
            self.add(molecule, positions)

    def replace(
        self, molecule: int, positions: Float[np.ndarray, "natoms 3"], but_for: Collection[int]
    ) -> int | None:
        """Put a geometry (Bohr) where another of its molecule was.

        Args:
            molecule: its index.
            positions: (Bohr).
            but_for: places that stay as they are.

        Returns:
            The place; None if there is no other.
        """
        for place, key in enumerate(self.keys):
            if place not in but_for and self.store.molecule_of(key) == molecule:
                self.store.remove(key)
                self.keys[place] = self.store.add(molecule, positions)
                return place
        return None

    def bracket_of_a_few(self, model: ElectronicStateModel) -> float:
        """Mean bracket width (Hartree) of a few geometries, spread over all."""
        few = self.keys[:: max(1, len(self.keys) // _TOGETHER)]
        return mean_bracket(model, self.store.batches(few), self.store.workers)[1]

    def means(
        self, model: ElectronicStateModel, stopped: Callable[[], bool]
    ) -> HeldOutMeans | None:
        """What a model is worth here; every rank does its share.

        Args:
            model: to be evaluated.
            stopped: asked now and then whether to leave off.

        Returns:
            None if any rank left off.
        """
        own = self.ranks.shares(self.keys, self.store.positions_of)[self.ranks.rank]
        totals, left_off = np.zeros(3), False
        for start in range(0, len(own), _TOGETHER):
            left_off = stopped()
            if left_off:
                break
            batches = self.store.batches(own[start : start + _TOGETHER])
            error = math.nan
            if self.labels is not None:
                error = mean_hamiltonian_error(model, batches, self.labels, self.store.workers)
            means = [*mean_bracket(model, batches, self.store.workers), error]
            totals += sum(len(batch) for batch in batches) * np.array(means)
        if self.ranks.any(left_off):
            return None
        energy, width, error = (self.ranks.sum(totals) / len(self.keys)).tolist()
        return HeldOutMeans(energy, width, error)


def is_held_out(seed: int, number: int) -> bool:
    """Whether the sample of this number is held out, if there is a place for it.

    Drawn, since samples come in chunks: every twelfth would be one and the same walker's.
    """
    return bool(np.random.default_rng([seed, number]).random() * _HOLD_OUT_EVERY < 1.0)
