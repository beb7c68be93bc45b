"""Geometries by key, their integrals kept within a memory budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import on_grid, prepare
from ase_srdft.dft.prepared_geometry import Geometry, concatenate, copied
from ase_srdft.parallel.thread_map import ThreadMap

__all__ = ["GeometryCache", "geometries_from_arrays", "geometries_to_arrays"]


class GeometryCache:
    """Remembers positions for ever and integrals as long as there is room.

    Args:
        molecules: those a key may refer to.
        memory_bytes: of integrals, grids and guesses; the least recently used go first.
        coarse_grid: prepare on the coarse training grid, until :meth:`refine`.
        device: where the tensors are.
        threads: threads over geometries to be prepared.
    """

    def __init__(
        self,
        molecules: Sequence[Molecule],
        memory_bytes: int,
        coarse_grid: bool,
        device: torch.device,
        threads: ThreadMap,
    ) -> None:
        self.threads = threads
        self.molecules = tuple(molecules)
        self.memory_bytes = memory_bytes
        self.grid_level = COARSE_GRID if coarse_grid else None
        self.device = device
        self.nbytes = 0
        self._positions: dict[int, tuple[int, np.ndarray]] = {}
        self._prepared: OrderedDict[int, Geometry] = OrderedDict()
        self._next_key = 0
        self._is_refined = False

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
            own = copied(geometry)
            self._keep(key, self._refined(own) if self._is_refined else own)
        return key

    def refine(self) -> None:
        """Go on on the level's own grid, with what is prepared and what is to come."""
        if self.grid_level is None:
            return
        self.grid_level = None
        self._is_refined = True
        kept = list(self._prepared.items())
        self._prepared.clear()
        self.nbytes = 0
        refined = self.threads.map(self._refined, [geometry for _, geometry in kept])
        for (key, _), geometry in zip(kept, refined, strict=True):
            self._keep(key, geometry)

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
        fresh = dict(zip(missing, self.threads.map(self._prepare, missing), strict=True))
        grouped = [
            [fresh.get(key) or self._prepared[key] for key in group]
            for group in self.by_molecule(keys)
        ]
        for key in keys:
            if key in self._prepared:
                self._prepared.move_to_end(key)
        for key, geometry in fresh.items():
            self._keep(key, geometry)
        return [concatenate(geometries) for geometries in grouped]

    def _prepare(self, key: int) -> Geometry:
        molecule, positions = self._positions[key]
        tensor = torch.as_tensor(positions, device=self.device)[None]
        with torch.no_grad():
            return prepare(self.molecules[molecule], tensor, self.grid_level)

    @torch.no_grad()
    def _refined(self, geometry: Geometry) -> Geometry:
        return on_grid(geometry, geometry.molecule.level.grid_level)

    def _keep(self, key: int, geometry: Geometry) -> None:
        if geometry.nbytes > self.memory_bytes:
            return
        self._prepared[key] = geometry
        self.nbytes += geometry.nbytes
        while self.nbytes > self.memory_bytes:
            self._drop(next(iter(self._prepared)))

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
