"""Geometries by key, their integrals kept within a memory budget."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float

from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.kernels.library import threads as kernel_threads
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import on_grid, prepare
from ase_srdft.dft.prepared_geometry import Geometry, concatenate, from_tensors, to_tensors
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.data.own_pages import in_own_pages

__all__ = ["GeometryCache", "geometries_from_arrays", "geometries_to_arrays"]


_Item = TypeVar("_Item")

#: What a geometry at work takes, in numbers of its own integrals: those in the batch, and the
#: arrays that are made from them (measured: 2 to 5).
_COPIES = 3


class GeometryCache:
    """Remembers positions for ever and integrals as long as there is room.

    Args:
        molecules: those a key may refer to.
        memory_bytes: of integrals, grids and guesses, kept ones and those at work; of those kept
            the least recently used go first.
        coarse_grid: prepare on the coarse training grid, until :meth:`refine`.
        device: where the tensors are.
        threads: threads over geometries to be prepared, and over the loops of each.
        nworking: geometries at work together, for which room is left: `_COPIES` times the memory of
            the largest.
    """

    def __init__(
        self,
        molecules: Sequence[Molecule],
        memory_bytes: int,
        coarse_grid: bool,
        device: torch.device,
        threads: ThreadMap,
        nworking: int = 0,
    ) -> None:
        self.threads = threads
        self.molecules = tuple(molecules)
        self.memory_bytes = memory_bytes
        self.grid_level = COARSE_GRID if coarse_grid else None
        self.device = device
        self.nworking = nworking
        self.nbytes = 0
        self._largest = 0
        self._positions: dict[int, tuple[int, np.ndarray]] = {}
        self._prepared: OrderedDict[int, Geometry] = OrderedDict()
        self._next_key = 0
        self._is_refined = False
        self._has_warned = False

    def add(
        self,
        molecule: int,
        positions: Float[np.ndarray, "natoms 3"],
        geometry: Geometry | None = None,
    ) -> int:
        """Remember a geometry (Bohr); returns its key.

        Args:
            molecule: its index.
            positions: (Bohr).
            geometry: prepared on the grid that the cache began with, if it is at hand.
        """
        key = self._next_key
        self._next_key += 1
        self._positions[key] = (molecule, np.array(positions, dtype=np.float64))
        if geometry is not None:
            self._keep(key, self._refined(geometry) if self._is_refined else geometry)
        return key

    def refine(self) -> None:
        """Go on on the level's own grid, with what is prepared and what is to come."""
        if self.grid_level is None:
            return
        self.grid_level = None
        self._is_refined = True
        waiting, self._prepared = self._prepared, OrderedDict()
        while waiting:  # a few at a time and the latest first: old and new are never all there
            some = [waiting.popitem() for _ in range(min(self.threads.nthreads, len(waiting)))]
            refined = self._shared_out(self._refined, [geometry for _, geometry in some])
            self.nbytes -= sum(geometry.nbytes for _, geometry in some)
            for (key, _), geometry in zip(some, refined, strict=True):
                room = self._room_beside(geometry)
                while waiting and self.nbytes > room:
                    self.nbytes -= waiting.popitem(last=False)[1].nbytes
                if self.nbytes <= room:
                    self._keep(key, geometry)
                    self._prepared.move_to_end(key, last=False)

    def remove(self, key: int) -> None:
        """Forget a geometry."""
        del self._positions[key]
        self._drop(key)

    def molecule_of(self, key: int) -> int:
        """Index of the molecule."""
        return self._positions[key][0]

    def positions_of(self, key: int) -> Float[np.ndarray, "natoms 3"]:
        """The nuclei (Bohr)."""
        return self._positions[key][1]

    def by_molecule(self, keys: Sequence[int]) -> list[list[int]]:
        """The keys as :meth:`batches` groups them, in its order."""
        grouped: dict[int, list[int]] = {}
        for key in keys:
            grouped.setdefault(self.molecule_of(key), []).append(key)
        return list(grouped.values())

    def batches(self, keys: Sequence[int]) -> list[Geometry]:
        """The geometries, one batch for each molecule among them; missing integrals are made."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._prepared]
        at_hand = {key: self._prepared[key] for key in keys if key in self._prepared}
        for key in at_hand:
            self._prepared.move_to_end(key)
        costs = [self.molecules[self.molecule_of(key)].nao for key in missing]
        fresh = self._shared_out(self._prepare, missing, costs)
        fresh.reverse()
        for key in missing:  # what was made goes as it is kept, before the batch is there as well
            at_hand[key] = self._keep(key, fresh.pop())
        grouped = ([at_hand[key] for key in group] for group in self.by_molecule(keys))
        return [concatenate(geometries) for geometries in grouped]

    def _shared_out(
        self,
        function: Callable[[_Item], Geometry],
        items: Sequence[_Item],
        costs: Sequence[float] | None = None,
    ) -> list[Geometry]:
        """What the function makes of the items; kernels have the threads that items leave."""

        def work(item: _Item) -> Geometry:
            with kernel_threads(self.threads.share(len(items))):
                return function(item)

        return self.threads.map(work, items, costs)

    def _prepare(self, key: int) -> Geometry:
        molecule, positions = self._positions[key]
        tensor = torch.as_tensor(positions, device=self.device)[None]
        with torch.no_grad():
            return prepare(self.molecules[molecule], tensor, self.grid_level)

    @torch.no_grad()
    def _refined(self, geometry: Geometry) -> Geometry:
        return on_grid(geometry, geometry.molecule.level.grid_level)

    def _keep(self, key: int, geometry: Geometry) -> Geometry:
        """Keep a geometry if there is room for it; returns what is kept, or it itself."""
        room = self._room_beside(geometry)
        if room < 0:
            self._warn(room)
            return geometry
        while self.nbytes > room:
            self._drop(next(iter(self._prepared)))
        own = in_own_pages(to_tensors(geometry))
        level = geometry.grid.template.level
        self._prepared[key] = from_tensors(geometry.molecule, own, level)
        self.nbytes += geometry.nbytes
        return self._prepared[key]

    def _room_beside(self, geometry: Geometry) -> int:
        """Bytes for all others, if this geometry is kept; below zero if it cannot be."""
        self._largest = max(self._largest, geometry.nbytes)
        return self.memory_bytes - _COPIES * self.nworking * self._largest - geometry.nbytes

    def _warn(self, room: int) -> None:
        """Say, once, that a batch alone takes the memory, and how much would do."""
        if self.nworking == 0 or self._has_warned:
            return
        self._has_warned = True
        working = _COPIES * self.nworking * self._largest
        warnings.warn(
            f"{self.nworking} geometries at work together take about {working / 1e9:.2g} GB, and "
            f"memory_gb leaves them {self.memory_bytes / 1e9:.2g}: no integrals are kept, and "
            "every step computes them anew.  Make memory_gb more than "
            f"{1 - room / self.memory_bytes:.1f} times as large, or batch_size smaller",
            stacklevel=2,
        )

    def _drop(self, key: int) -> None:
        geometry = self._prepared.pop(key, None)
        if geometry is not None:
            self.nbytes -= geometry.nbytes


def geometries_to_arrays(
    group: str, keys: Sequence[int], cache: GeometryCache
) -> dict[str, np.ndarray]:
    """Geometries one after the other: molecule, number of atoms, positions of all atoms (Bohr)."""
    positions = [cache.positions_of(key) for key in keys]
    return {
        f"{group}/molecule": np.array([cache.molecule_of(key) for key in keys], dtype=np.int64),
        f"{group}/natoms": np.array([len(p) for p in positions], dtype=np.int64),
        f"{group}/positions": np.concatenate([np.zeros((0, 3)), *positions]),
    }


def geometries_from_arrays(
    group: str, arrays: Mapping[str, np.ndarray]
) -> list[tuple[int, np.ndarray]]:
    """Molecule and positions (Bohr) of each, as `geometries_to_arrays` was given them."""
    ends = np.cumsum(arrays[f"{group}/natoms"])
    pieces = np.split(arrays[f"{group}/positions"], ends)[:-1]
    return [
        (int(molecule), piece)
        for molecule, piece in zip(arrays[f"{group}/molecule"], pieces, strict=True)
    ]
