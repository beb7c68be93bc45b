"""A few threads for independent pieces of work.

torch releases the interpreter lock inside its operations, so threads that each handle their own
geometries use the cores without the barriers (and, on a busy machine, the spinning) of parallel
loops inside every small operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

from ase_srdft.common.torch_state import in_forked_process

__all__ = ["ThreadMap"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ThreadMap:
    """Maps a function over items with ``nthreads`` threads; results keep their order.

    Args:
        nthreads: 1 means the calling thread alone, with no pool.
    """

    def __init__(self, nthreads: int = 1) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self.resize(nthreads)

    def resize(self, nthreads: int) -> None:
        """Go on with another number of threads."""
        if self._pool is not None:
            self._pool.shutdown()
        self.nthreads = nthreads
        self._pool = ThreadPoolExecutor(nthreads) if nthreads > 1 else None

    def map(
        self,
        function: Callable[[_Item], _Result],
        items: Sequence[_Item],
        costs: Sequence[float] | None = None,
    ) -> list[_Result]:
        """The results of all items; the first exception is raised.

        In a forked process the calling thread does all: the others stayed behind.

        Args:
            function: of one item.
            items: in the order of the results.
            costs: of the items, in any unit: the dearest ones are begun first, so that threads end
                at about the same time; None where they are alike.
        """
        if self._pool is None or len(items) < 2 or in_forked_process():
            return [function(item) for item in items]
        if costs is None:
            return list(self._pool.map(function, items))
        order = sorted(range(len(items)), key=lambda index: -costs[index])
        results = self._pool.map(function, [items[index] for index in order])
        by_place = dict(zip(order, results, strict=True))
        return [by_place[index] for index in range(len(items))]

    def slices(self, length: int, largest: int | None = None) -> list[slice]:
        """Slices of nearly equal size that cover ``range(length)``.

        Args:
            length: of what is shared out.
            largest: slice that may be; None for any.  There are ``nthreads`` slices at most, or as
                many as it takes to have none that is larger.
        """
        npieces = max(1, min(self.nthreads, length))
        if largest is not None:
            npieces = max(npieces, -(-length // largest))
        bounds = [length * piece // npieces for piece in range(npieces + 1)]
        return [slice(start, stop) for start, stop in pairwise(bounds)]

    def share(self, npieces: int) -> int:
        """How many threads each of so many pieces of work can have for itself; one at least."""
        return max(1, self.nthreads // max(1, npieces))
