"""Arrays as the kernels read them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_array", "call", "pointer", "suits_kernels"]


def pointer(array: np.ndarray, dtype: Any = np.float64) -> ctypes.c_void_p:
    """Where an array begins; it must be of the type and layout that a kernel reads.

    The pointer does not keep the array alive.
    """
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise TypeError(f"a kernel reads contiguous {np.dtype(dtype)}, not {array.dtype}")
    return ctypes.c_void_p(array.ctypes.data)


def call(library: Any, name: str, *arguments: object) -> None:
    """Call a kernel.

    Raises:
        MemoryError: it had not enough.
    """
    if getattr(library, name)(*arguments):
        raise MemoryError(f"{name} needs more memory than there is")


def as_array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, contiguous, without a copy where they are already."""
    array: np.ndarray = tensor.detach().contiguous().numpy()
    return array


def suits_kernels(*tensors: Tensor) -> bool:
    """Whether all of them are where and of the type that the kernels compute in."""
    return all(
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dtype == torch.float64
        for tensor in tensors
    )
