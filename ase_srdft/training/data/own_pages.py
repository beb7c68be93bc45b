"""Tensors that stay for long, in pages of memory of their own.

Among the short-lived arrays of training steps they would leave holes of every size behind when they
go, and the process would grow far beyond what is in use.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor

__all__ = ["in_own_pages"]

#: Tensors begin at multiples of so many bytes, as torch's own do.
_ALIGNMENT = 64


def in_own_pages(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in one anonymous map, which goes back to the system with the last of them.

    Args:
        tensors: of the CPU, or of a device that has an allocator of its own and gets clones.
    """
    if any(tensor.device.type != "cpu" for tensor in tensors.values()):
        return {name: tensor.clone() for name, tensor in tensors.items()}
    sizes = [_aligned(tensor.numel() * tensor.element_size()) for tensor in tensors.values()]
    *starts, total = accumulate(sizes, initial=0)
    pages = mmap.mmap(-1, max(total, 1))
    copies = {}
    for (name, tensor), start in zip(tensors.items(), starts, strict=True):
        if tensor.numel() == 0:
            copies[name] = tensor.clone()
            continue
        own = torch.frombuffer(pages, dtype=tensor.dtype, count=tensor.numel(), offset=start)
        copies[name] = own.view(tensor.shape).copy_(tensor)
    return copies


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
