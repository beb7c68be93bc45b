"""Constant tables of a network, exact in whatever precision it runs.

A buffer of a torch module is rounded when the module is cast to single precision, and stays
rounded when it is cast back: these are not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["ExactTables"]


class ExactTables:
    """Named float64 arrays, handed out in the type and on the device of a tensor.

    Args:
        **arrays: the tables by name.
    """

    def __init__(self, **arrays: np.ndarray) -> None:
        self._arrays = arrays
        self._cache: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def get(self, name: str, like: Tensor) -> Tensor:
        """A table, rounded once, to the type of ``like``."""
        key = (name, like.dtype, like.device)
        if key not in self._cache:
            self._cache[key] = torch.as_tensor(self._arrays[name], device=like.device).to(like)
        return self._cache[key]
