"""Which of the geometries that a driver asks for are worth training on, and in which order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ase_srdft.common.nuclei import Nuclei
from ase_srdft.training.data.starts import distances

__all__ = ["Offer", "Offers"]

#: Nearer than this (Bohr, root mean square over the atoms, after the best rotation) there is
#: nothing new: finite differences displace one atom by some 0.02 Bohr.
_NEAR = 0.03
#: Geometries that a new one is compared with, and that wait at most.
_COMPARED, _MOST_WAITING = 256, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Offer:
    """A geometry for the trainer.

    Attributes:
        nuclei: it.
        error: bracket of the model by itself (eV).
    """

    nuclei: Nuclei
    error: float


class Offers:
    """Geometries that wait for a trainer, the widest brackets first.

    Args:
        good_enough: brackets (eV) that leave nothing to learn.
    """

    def __init__(self, good_enough: float) -> None:
        self.good_enough = good_enough
        self._waiting: list[Offer] = []
        self._known: deque[Nuclei] = deque(maxlen=_COMPARED)

    def __len__(self) -> int:
        return len(self._waiting)

    def consider(self, nuclei: Nuclei, error: float) -> bool:
        """Let a geometry wait, if there is something to learn from it; whether there is.

        Args:
            nuclei: it.
            error: bracket of the model by itself (eV); what is not a number is no offer.
        """
        if not self.good_enough < error < float("inf") or self._is_near(nuclei):
            return False
        self._known.append(nuclei)
        self._waiting.append(Offer(nuclei=nuclei, error=error))
        self._waiting.sort(key=lambda offer: -offer.error)
        del self._waiting[_MOST_WAITING:]
        return True

    def widest(self) -> Offer | None:
        """The geometry to train on next, which waits no longer; None if none waits."""
        return self._waiting.pop(0) if self._waiting else None

    def _is_near(self, nuclei: Nuclei) -> bool:
        same: list[Float[np.ndarray, "natoms 3"]] = [
            other.positions
            for other in self._known
            if (other.numbers, other.charge) == (nuclei.numbers, nuclei.charge)
        ]
        return bool(same) and float(distances(same, nuclei.positions).min()) < _NEAR
