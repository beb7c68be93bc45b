"""Arrays and tensors by name, as checkpoints and messages carry them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["bundled", "tensors_from_arrays", "tensors_to_arrays", "unbundled", "under"]

#: So many arrays may stand alone; files and messages are slow with thousands of small ones.
_MOST_ALONE = 512
_INDEX, _CONTENT = "bundle.index", "bundle.content"

_Value = TypeVar("_Value")


def under(prefix: str, named: Mapping[str, _Value]) -> dict[str, _Value]:
    """What has a name that begins so, by the rest of its name."""
    return {name[len(prefix) :]: v for name, v in named.items() if name.startswith(prefix)}


def tensors_to_arrays(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The tensors on the CPU, under names that begin so."""
    return {f"{prefix}{name}": t.detach().cpu().numpy() for name, t in tensors.items()}


def tensors_from_arrays(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name: torch.as_tensor(array) for name, array in under(prefix, arrays).items()}


def bundled(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays; of very many all their bytes in one, and in another what is where (JSON)."""
    if len(arrays) <= _MOST_ALONE:
        return dict(arrays)
    index = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return {
        _INDEX: np.frombuffer(json.dumps(index).encode(), dtype=np.uint8).copy(),
        _CONTENT: np.frombuffer(content, dtype=np.uint8).copy(),
    }


def unbundled(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that `bundled` was given."""
    if _INDEX not in arrays:
        return dict(arrays)
    content, begin = arrays[_CONTENT].tobytes(), 0
    found: dict[str, np.ndarray] = {}
    for name, dtype, shape in json.loads(arrays[_INDEX].tobytes()):
        count = int(np.prod(shape, dtype=np.int64))
        found[name] = np.frombuffer(content, dtype, count, begin).reshape(shape).copy()
        begin += found[name].nbytes
    return found
