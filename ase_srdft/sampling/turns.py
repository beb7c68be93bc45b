"""Whose turn it is where there are more molecules than walkers that move at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

__all__ = ["Turns", "spread_order"]


@dataclass(frozen=True, kw_only=True)
class Turns:
    """So many of a number of molecules at a time, one after the other, all of them in the end.

    Attributes:
        count: of the molecules.
        together: that have their turn at a time; None for all.
        first: place, in `spread_order`, of the first one of them.
    """

    count: int
    together: int | None = None
    first: int = 0

    @property
    def are_taken(self) -> bool:
        """Whether some wait while others have their turn."""
        return self.together is not None and self.together < self.count

    @property
    def now(self) -> list[int]:
        """Those whose turn it is; all of them in their own order."""
        if self.together is None or not self.are_taken:
            return list(range(self.count))
        places = (self.first + np.arange(self.together)) % self.count
        return [int(index) for index in spread_order(self.count)[places]]

    def passed_on(self) -> Turns:
        """The turn after this one."""
        first = (self.first + (self.together or 0)) % max(1, self.count)
        return Turns(count=self.count, together=self.together, first=first)


def spread_order(count: int) -> Int[np.ndarray, " count"]:
    """An order in which any first ones are spread evenly, and neighbours are far apart."""
    golden = 0.5 * (np.sqrt(5.0) - 1.0)
    order: np.ndarray = np.argsort(np.argsort(np.arange(count) * golden % 1.0))
    return order
