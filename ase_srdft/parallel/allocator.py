"""How the C library's allocator keeps the memory of a training process of ours."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory"]

#: glibc's parameters, from its ``malloc.h``.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
#: Arrays of so many bytes have pages of their own, which go back to the system when they go.
_LARGEST_KEPT = 2**30
_NEVER = -1


def keep_freed_memory() -> bool:
    """Memory that is free stays with this process, for the arrays of its next step.

    Steps make the same arrays again and again.  By default each large one comes as fresh pages,
    zeroed by the system, which takes time where molecules are large.  All threads have one heap, so
    what one of them leaves is there for the others.

    This is for processes that are ours, and for their beginning: never in a user's own process.
    Where the environment says how to allocate (``MALLOC_...``, ``GLIBC_TUNABLES``), or where the C
    library is another one, nothing is changed.

    Returns:
        Whether it was done.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_TRIM_THRESHOLD, _NEVER), (_MMAP_THRESHOLD, _LARGEST_KEPT), (_ARENA_MAX, 1))
    return all([library.mallopt(parameter, value) == 1 for parameter, value in settings])
