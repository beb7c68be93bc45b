"""Where training batches come from: given frames and a replay buffer of sampled geometries."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.training.config import SelectionConfig
from ase_srdft.training.data.geometry_cache import (
    GeometryCache,
    geometries_from_arrays,
    geometries_to_arrays,
)
from ase_srdft.training.data.molecule_brackets import MoleculeBrackets
from ase_srdft.training.data.prioritised_draws import draw_probabilities, index_to_evict

__all__ = ["ReplayBuffer"]


class ReplayBuffer:
    """Draws batches with a fixed share of given frames.

    Given frames are drawn in shuffled passes (each once before any twice).  Sampled ones are
    drawn from the buffer with replacement: uniformly, or those with a wide bracket, and those of
    molecules with wide brackets, more often.  Where the share does not divide the batch, the
    remainder is carried to the next batch, so that the share holds over time.

    The bracket widths that decide are the latest given to :meth:`add_sample` or
    :meth:`note_widths`; of molecules a running mean of the latter.

    A full buffer gives up a geometry of a molecule that has more than an equal share of it, so
    that those which are sampled often do not drive the others out.

    Args:
        cache: keeps the geometries.
        frames: keys of the given frames.
        frames_share: share of given frames while there are samples too.
        capacity: of the buffer.
        selection: what is drawn from the buffer, and what leaves it; None for uniform draws,
            first in first out.
        brackets: of the molecules; None where all are drawn from alike.

    Attributes:
        samples: keys in the buffer, from the oldest to the newest.
    """

    def __init__(
        self,
        cache: GeometryCache,
        frames: Sequence[int],
        frames_share: float,
        capacity: int,
        selection: SelectionConfig | None = None,
        brackets: MoleculeBrackets | None = None,
    ) -> None:
        self.cache = cache
        self.frames = list(frames)
        self.frames_share = frames_share
        self.capacity = capacity
        self.selection = selection or SelectionConfig()
        self.brackets = brackets or MoleculeBrackets([])
        self.samples: deque[int] = deque()
        self._widths: dict[int, float] = {}
        self._molecules: deque[int] = deque()
        self.pass_left: list[int] = []
        self.carried = 0.0

    @property
    def widths(self) -> Float[np.ndarray, " nsamples"]:
        """Latest bracket of each of ``samples`` (Hartree), NaN where there is none."""
        return np.array([self._widths[key] for key in self.samples], dtype=np.float64)

    def add_sample(
        self,
        molecule: int,
        positions: np.ndarray,
        geometry: Geometry | None,
        width: float | None = None,
    ) -> int:
        """Put a sampled geometry into the buffer; when it is full, another leaves first.

        Args:
            molecule: its index.
            positions: (Bohr).
            geometry: its integrals, if they are at hand.
            width: of its bracket (Hartree), if it is known; NaN says no more than None.
        """
        if len(self.samples) >= self.capacity:
            self._make_room(molecule)
        key = self.cache.add(molecule, positions, geometry)
        self.samples.append(key)
        self._molecules.append(molecule)
        self._widths[key] = math.nan if width is None else float(width)
        return key

    def note_widths(self, keys: Sequence[int], widths: Sequence[float]) -> None:
        """Remember the latest brackets (Hartree), those of frames for their molecules alone."""
        for key, width in zip(keys, widths, strict=True):
            if key in self._widths:
                self._widths[key] = float(width)
            if len(self.brackets):
                self.brackets.note(self.cache.molecule_of(key), float(width))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The sampled geometries and their brackets, as a checkpoint names them."""
        arrays = geometries_to_arrays("buffer", self.samples, self.cache)
        return arrays | {"buffer/bracket_width": self.widths} | self.brackets.to_arrays()

    def to_plain(self) -> dict[str, Any]:
        """Where the draws are: plain values, as a checkpoint names them."""
        return {"pass_left": self.pass_left, "carried": self.carried}

    def from_arrays(self, arrays: dict[str, np.ndarray], plain: dict[str, Any]) -> None:
        """Put an empty buffer where :meth:`to_arrays` and :meth:`to_plain` left off."""
        self.pass_left, self.carried = plain["pass_left"], plain["carried"]
        geometries = geometries_from_arrays("buffer", arrays)
        for (molecule, at), width in zip(geometries, arrays["buffer/bracket_width"], strict=True):
            self.add_sample(molecule, at, None, float(width))
        self.brackets.from_arrays(arrays)

    def _make_room(self, molecule: int) -> None:
        places = self._places_to_spare(molecule)
        by_width = self.selection.exponent > 0.0
        index = int(places[index_to_evict(self.widths[places]) if by_width else 0])
        key = self.samples[index]
        del self.samples[index]
        del self._molecules[index]
        del self._widths[key]
        self.cache.remove(key)

    def _places_to_spare(self, newcomer: int) -> Int[np.ndarray, " nplaces"]:
        """Of molecules that would have more than their equal share, from the oldest geometry on."""
        counts = Counter([*self._molecules, newcomer])
        share = len(self.samples) / len(counts)
        return np.flatnonzero([counts[molecule] > share for molecule in self._molecules])

    def draw(self, size: int, rng: np.random.Generator) -> list[int]:
        """Keys of a batch."""
        nframes = self._number_of_frames(size)
        keys = [self._next_frame(rng) for _ in range(nframes)]
        if nframes < size:
            keys += [self.samples[index] for index in self._chosen(size - nframes, rng)]
        return keys

    def _chosen(self, count: int, rng: np.random.Generator) -> Int[np.ndarray, " count"]:
        """Indices into ``samples``, with replacement."""
        selection, several = self.selection, len(self.brackets) > 1
        by_molecule = several and selection.molecule_exponent > 0.0
        if selection.exponent == 0.0 and not by_molecule:
            return rng.integers(len(self.samples), size=count)
        of_molecules = self.brackets.widths[list(self._molecules)] if by_molecule else None
        probabilities = draw_probabilities(self.widths, selection, of_molecules)
        return rng.choice(len(self.samples), size=count, p=probabilities)

    def _number_of_frames(self, size: int) -> int:
        if not self.samples:
            return size
        if not self.frames:
            return 0
        wanted = size * self.frames_share + self.carried
        # the tolerance keeps binary fractions such as 0.3 from losing a frame to rounding
        nframes = int(wanted + 1e-9)
        self.carried = wanted - nframes
        return nframes

    def _next_frame(self, rng: np.random.Generator) -> int:
        if not self.pass_left:
            self.pass_left = [int(index) for index in rng.permutation(len(self.frames))]
        return self.frames[self.pass_left.pop()]
