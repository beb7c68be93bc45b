"""Geometries that no step trains on, and what weights are worth there.

Frames that are held out stay.  Rattled copies are there until dynamics has come to something: one
in twelve of its samples takes the place of a copy, and when there is none left, of the oldest
sample.  Later it is fewer than one in twelve, so that those held out are spread over the last two
fifths of the dynamics and never are the neighbours of one another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.reference.label_file import Labels
from ase_srdft.training.data.geometry_cache import (
    GeometryCache,
    geometries_from_arrays,
    geometries_to_arrays,
)
from ase_srdft.training.events import Counters
from ase_srdft.training.losses import EnergyLoss
from ase_srdft.training.validation_means import ValidationMeans
from ase_srdft.training.weight_updater import mean_bracket, mean_hamiltonian_error

__all__ = ["ValidationSet", "is_held_out", "which_are_held_out"]

#: One in so many accepted samples is held out at most.
_HOLD_OUT_EVERY = 12
#: Geometries that are evaluated together, and in a look at a few.
_TOGETHER = 8


class ValidationSet:
    """Held-out geometries, evaluated on the level's own grid.

    Args:
        cache: where they are kept, on that grid; theirs alone.
        ranks: that share the work.
        labels: of the geometries; None where the Hamiltonian's error is not wanted.

    Attributes:
        keys: in the cache; the place of a geometry is that of its key in this list.
        nframes: how many of them, the first ones, are given frames.
        replaced: places where there are samples now, the oldest first.
        has_changed: whether other geometries are held out now than at the last validation.
    """

    def __init__(self, cache: GeometryCache, ranks: Ranks, labels: Labels | None) -> None:
        self.cache = cache
        self.ranks = ranks
        self.labels = labels
        self.keys: list[int] = []
        self.nframes = 0
        self.replaced: list[int] = []
        self.has_changed = False

    @property
    def nsampled(self) -> int:
        """How many of them dynamics has sampled."""
        return len(self.replaced)

    @property
    def nreplaceable(self) -> int:
        """How many places there are for samples: all but those of frames."""
        return len(self.keys) - self.nframes

    @property
    def molecules(self) -> set[int]:
        """Indices of those that have a geometry here."""
        return {self.cache.molecule_of(key) for key in self.keys}

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, molecule: int, positions: Float[np.ndarray, "natoms 3"]) -> None:
        """One more geometry (Bohr)."""
        self.keys.append(self.cache.add(molecule, positions))

    def add_frames(self, frames: Iterable[tuple[int, np.ndarray]]) -> None:
        """Given frames (molecule, Bohr), before all else; they stay."""
        for molecule, positions in frames:
            self.add(molecule, positions)
            self.nframes += 1

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The geometries, as a checkpoint names them."""
        return geometries_to_arrays("validation", self.keys, self.cache)

    def from_arrays(self, arrays: dict[str, np.ndarray], counters: Counters) -> None:
        """The geometries of a checkpoint, and none of those of before."""
        for key in self.keys:
            self.cache.remove(key)
        self.keys = []
        for molecule, positions in geometries_from_arrays("validation", arrays):
            self.add(molecule, positions)
        self.replaced = list(counters.replaced)
        self.has_changed = counters.set_has_changed

    def take(
        self, seed: int, number: int, molecule: int, positions: Float[np.ndarray, "natoms 3"]
    ) -> bool:
        """Hold a sample out, if it is its turn and there is a place for it.

        Args:
            seed: of the run.
            number: of the sample, from one on.
            molecule: its index.
            positions: (Bohr).
        """
        if not is_held_out(seed, number, self.nreplaceable):
            return False
        return self.replace(molecule, positions) is not None

    def replace(self, molecule: int, positions: Float[np.ndarray, "natoms 3"]) -> int | None:
        """Put a sample (Bohr) where a copy of its molecule was, or else its oldest sample.

        Returns:
            The place; None if there is none.
        """
        for place in [*self._places_of_copies(), *self.replaced]:
            if self.cache.molecule_of(self.keys[place]) == molecule:
                self._move(place, positions)
                if place in self.replaced:
                    self.replaced.remove(place)
                self.replaced.append(place)
                return place
        return None

    def copies(self) -> list[tuple[int, np.ndarray]]:
        """Molecule and positions (Bohr) of those that are neither frames nor samples."""
        keys = [self.keys[place] for place in self._places_of_copies()]
        return [(self.cache.molecule_of(key), self.cache.positions_of(key)) for key in keys]

    def move_copies(self, positions: Sequence[np.ndarray]) -> None:
        """Put what is neither frame nor sample elsewhere (Bohr), in order."""
        for place, at in zip(self._places_of_copies(), positions, strict=True):
            self._move(place, at)

    def _places_of_copies(self) -> list[int]:
        taken = set(self.replaced)
        return [place for place in range(self.nframes, len(self.keys)) if place not in taken]

    def _move(self, place: int, positions: np.ndarray) -> None:
        molecule = self.cache.molecule_of(self.keys[place])
        self.cache.remove(self.keys[place])
        self.keys[place] = self.cache.add(molecule, positions)
        self.has_changed = True

    def bracket_of_a_few(self, model: ElectronicStateModel) -> float:
        """Mean bracket width (Hartree) of a few geometries, spread over all."""
        few = self.keys[:: max(1, len(self.keys) // _TOGETHER)]
        return mean_bracket(model, self.cache.batches(few), self.cache.threads)[1]

    def means(
        self, model: ElectronicStateModel, stopped: Callable[[], bool]
    ) -> ValidationMeans | None:
        """What a model is worth here; every rank does its share.

        Args:
            model: to be evaluated.
            stopped: asked now and then whether to leave off.

        Returns:
            None if any rank left off.
        """
        shares = self.ranks.shares(self.keys, self.cache.positions_of)
        own, left_off = shares[self.ranks.rank], False
        energies: list[float] = []
        widths: list[float] = []
        errors: list[float] = []
        for start in range(0, len(own), _TOGETHER):
            left_off = stopped()
            if left_off:
                break
            batches = self.cache.batches(own[start : start + _TOGETHER])
            with torch.no_grad():
                some = EnergyLoss().losses_of(model, batches, self.cache.threads)
            energies += some[0].tolist()
            widths += some[1].tolist()
            if self.labels is not None:
                error = mean_hamiltonian_error(model, batches, self.labels, self.cache.threads)
                errors += sum(map(len, batches)) * [error]
        if self.ranks.any(left_off):
            return None
        parts = self.ranks.gather((energies, widths, errors))
        kinds = np.array([kind for share in shares for kind in self._kinds(share)])
        all_energies, all_widths, all_errors = (
            np.array([number for part in parts for number in part[index]]) for index in range(3)
        )
        return ValidationMeans(
            energy=float(all_energies.mean()),
            hamiltonian_error=float(all_errors.mean()) if len(all_errors) else math.nan,
            widths=all_widths,
            molecules=kinds,
        )

    def _kinds(self, keys: Sequence[int]) -> list[int]:
        """The molecules of keys, in the order in which these are evaluated."""
        return [
            self.cache.molecule_of(key)
            for start in range(0, len(keys), _TOGETHER)
            for group in self.cache.by_molecule(keys[start : start + _TOGETHER])
            for key in group
        ]


def which_are_held_out(molecules: Sequence[int], wanted: int) -> list[int]:
    """Indices of the frames to hold out: the last ones.

    And of each molecule that has two frames or more, but none among these, its own last ones.
    Where there are more molecules than are wanted, the last frame of some of them.

    Args:
        molecules: of the frames, in order.
        wanted: how many; half of the frames at most.
    """
    last = {molecule: index for index, molecule in enumerate(molecules)}
    if len(last) > wanted:
        several = [m for m, count in sorted(Counter(molecules).items()) if count > 1]
        drawn = np.random.default_rng(len(molecules)).permutation(several or sorted(last))
        count = min(wanted, len(molecules) // 2)
        return sorted(last[int(molecule)] for molecule in drawn[:count])
    chosen = set(range(len(molecules) - min(wanted, len(molecules) // 2), len(molecules)))
    counts = Counter(molecules)
    for molecule, count in counts.items():
        own = [index for index, other in enumerate(molecules) if other == molecule]
        if count > 1 and not chosen.intersection(own):
            chosen.update(own[-min(count // 2, max(1, wanted // len(counts))) :])
    return sorted(chosen)


def is_held_out(seed: int, number: int, nplaces: int | None = None) -> bool:
    """Whether the sample of this number is held out, if there is a place for it.

    Drawn, since samples come in rounds: every twelfth would be one and the same walker's.

    Args:
        seed: of the run.
        number: of the sample, from one on.
        nplaces: that samples can take.  The n-th sample is then held out with the probability
            2 nplaces / n at most, and the newest nplaces of these are spread over the last
            1 - exp(-1/2), two fifths, of all.
    """
    every: float = _HOLD_OUT_EVERY
    if nplaces is not None:
        every = max(every, number / (2.0 * max(1, nplaces)))
    return bool(np.random.default_rng([seed, number]).random() * every < 1.0)
