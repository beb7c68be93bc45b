"""What the nodes of Coulomb and exchange in a graph hand back to the integrals.

The cotangent of (mn|Q) that a Coulomb matrix gives is a matrix times a vector, and so is that of
the metric.  Autograd would add up the products; kept apart, a handful of them are contracted with
the derivatives of the integrals in one pass.  Those of exchange matrices have an index in common,
and become one array together.  So the integrals have one more output, a row of
*slots*.  Each node that uses them claims a slot when it computes, lays its factors down there when
it is differentiated, and gives one as the derivative by its slot.  The integrals are differentiated
after all of them, and take the slots whose derivative is not zero: a node that was left out of a
backward pass, or that was passed twice, does not count wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "Cotangent",
    "CotangentTape",
    "CoulombCotangent",
    "ExchangeCotangent",
    "tape_of",
]

#: Nodes that one evaluation of the integrals can serve.
_NSLOTS = 64
_NUMBERS = count(1)
_TAPES: WeakValueDictionary[int, CotangentTape] = WeakValueDictionary()


@dataclass(frozen=True, kw_only=True, eq=False)
class CoulombCotangent:
    """sum_k D^k_mn c^k_Q of (mn|Q), and l_P r_Q of the metric (P|Q).

    Attributes:
        matrices: D, symmetric.
        coefficients: c.
        left: l; None for nothing of the metric.
        right: r; likewise.
    """

    matrices: Float[np.ndarray, "nterms nao nao"]
    coefficients: Float[np.ndarray, "nterms naux"]
    left: Float[np.ndarray, " naux"] | None = None
    right: Float[np.ndarray, " naux"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ExchangeCotangent:
    """sum_k x_nk t_mkQ of (mn|Q), in one order of m and n or the other, and an array of the metric.

    Attributes:
        vectors: x.
        half: t.
        metric: of (P|Q), symmetric.
        symmetric: whether exchanging m and n changes nothing.
    """

    vectors: Float[Tensor, "nao rank"]
    half: Float[Tensor, "nao rank naux"]
    metric: Float[Tensor, "naux naux"]
    symmetric: bool = False


Cotangent = CoulombCotangent | ExchangeCotangent


class CotangentTape:
    """The slots of one geometry's integrals; whoever differentiates these keeps it alive."""

    def __init__(self) -> None:
        self._number = next(_NUMBERS)
        self._claimed = 0
        self._laid_down: dict[int, Cotangent] = {}
        _TAPES[self._number] = self

    def slots(self) -> Float[Tensor, "1 nslots"]:
        """The row that goes through the graph; its numbers say whose it is."""
        return torch.full((1, _NSLOTS), float(self._number), dtype=torch.float64, device="cpu")

    def claim(self) -> int:
        """A slot of one's own."""
        if self._claimed == _NSLOTS:
            raise RuntimeError(
                f"more than {_NSLOTS} matrices of Coulomb and exchange in one graph: prepare the "
                "geometry anew"
            )
        self._claimed += 1
        return self._claimed - 1

    def lay_down(self, slot: int, cotangent: Cotangent) -> None:
        """Leave a cotangent at a slot, in the place of what an earlier pass left."""
        self._laid_down[slot] = cotangent

    def taken(self, by_slot: Float[Tensor, " nslots"]) -> list[Cotangent]:
        """What this backward pass has laid down."""
        return [self._laid_down[int(slot)] for slot in by_slot.nonzero()[:, 0]]


def tape_of(slots: Float[Tensor, " nslots"]) -> CotangentTape:
    """The tape that a row of slots belongs to."""
    return _TAPES[int(slots[0])]
