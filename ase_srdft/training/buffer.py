"""Where training batches come from: given frames and a first-in-first-out replay buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from ase_srdft.dft.geometry import Geometry
from ase_srdft.training.store import GeometryStore

__all__ = ["BatchSource"]


class BatchSource:
    """Draws batches with a fixed share of given frames.

    Given frames are drawn in shuffled passes (each once before any twice), sampled ones
    uniformly from the buffer.  Where the share does not divide the batch, the remainder is
    carried to the next batch, so that the share holds over time.

    Args:
        store: keeps the geometries.
        frames: keys of the given frames.
        data_fraction: share of given frames while there are samples too.
        capacity: of the buffer.
    """

    def __init__(
        self, store: GeometryStore, frames: Sequence[int], data_fraction: float, capacity: int
    ) -> None:
        self.store = store
        self.frames = list(frames)
        self.data_fraction = data_fraction
        self.capacity = capacity
        self.samples: deque[int] = deque()
        self.pass_left: list[int] = []
        self.carried = 0.0

    def add_sample(self, molecule: int, positions: np.ndarray, geometry: Geometry | None) -> int:
        """Put a sampled geometry (Bohr) into the buffer; the oldest leaves when it is full."""
        if len(self.samples) >= self.capacity:
            self.store.remove(self.samples.popleft())
        key = self.store.add(molecule, positions, geometry)
        self.samples.append(key)
        return key

    def draw(self, size: int, rng: np.random.Generator) -> list[int]:
        """Keys of a batch."""
        nframes = self._number_of_frames(size)
        keys = [self._next_frame(rng) for _ in range(nframes)]
        if nframes < size:
            chosen = rng.integers(len(self.samples), size=size - nframes)
            keys += [self.samples[index] for index in chosen]
        return keys

    def _number_of_frames(self, size: int) -> int:
        if not self.samples:
            return size
        if not self.frames:
            return 0
        wanted = size * self.data_fraction + self.carried
        # the tolerance keeps binary fractions such as 0.3 from losing a frame to rounding
        nframes = int(wanted + 1e-9)
        self.carried = wanted - nframes
        return nframes

    def _next_frame(self, rng: np.random.Generator) -> int:
        if not self.pass_left:
            self.pass_left = [int(index) for index in rng.permutation(len(self.frames))]
        return self.frames[self.pass_left.pop()]
