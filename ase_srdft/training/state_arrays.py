"""Geometries and weights as named arrays, as checkpoints keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ase_srdft.sampling.workers.sampler_message import under
from ase_srdft.training.data.geometry_cache import GeometryCache

__all__ = [
    "geometries_from_arrays",
    "geometries_to_arrays",
    "tensors_from_arrays",
    "tensors_to_arrays",
]


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


def tensors_to_arrays(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The tensors on the CPU, under names that begin so."""
    return {f"{prefix}{name}": t.detach().cpu().numpy() for name, t in tensors.items()}


def tensors_from_arrays(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name: torch.as_tensor(array) for name, array in under(prefix, arrays).items()}
