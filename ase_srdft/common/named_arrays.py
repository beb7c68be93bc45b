"""Arrays and tensors by name, as checkpoints and messages carry them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["tensors_from_arrays", "tensors_to_arrays", "under"]

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
