"""How wide the brackets of each molecule have been lately, as training steps come across them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["MoleculeBrackets"]

#: Weight of the newest bracket; the first few of a molecule count the same.
_NEWEST_WEIGHT = 0.3
#: Brackets per electron below this (Hartree) are as good as none.
_CONVERGED = 1.0e-12


class MoleculeBrackets:
    """A running mean of the bracket per electron, for each molecule at its level of theory.

    Brackets grow with the molecule: per electron they tell how well it is known.  The mean is
    geometric, so that one geometry that is astray moves it little.

    Args:
        nelectrons: of each molecule.

    Attributes:
        widths: the means (Hartree per electron); NaN where no bracket is known.
    """

    def __init__(self, nelectrons: Sequence[int]) -> None:
        self.nelectrons = np.maximum(1, np.array(nelectrons, dtype=np.int64))
        self.widths: Float[np.ndarray, " nmolecules"] = np.full(len(nelectrons), np.nan)
        self._counts = np.zeros(len(nelectrons), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.nelectrons)

    def note(self, molecule: int, width: float) -> None:
        """Take in a bracket (Hartree) of one of its geometries; what is not finite is no bracket.

        Args:
            molecule: its index.
            width: of the bracket.
        """
        if not np.isfinite(width):
            return
        own = np.log(max(width / self.nelectrons[molecule], _CONVERGED))
        self._counts[molecule] += 1
        weight = max(_NEWEST_WEIGHT, 1.0 / self._counts[molecule])
        before = np.log(self.widths[molecule]) if self._counts[molecule] > 1 else own
        self.widths[molecule] = np.exp(before + weight * (own - before))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Means and counts, as a checkpoint names them."""
        return {
            "buffer/molecule_bracket_width": self.widths.copy(),
            "buffer/molecule_nbrackets": self._counts.copy(),
        }

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on where :meth:`to_arrays` left off; older checkpoints know nothing of this."""
        if "buffer/molecule_bracket_width" in arrays:
            self.widths = np.array(arrays["buffer/molecule_bracket_width"])
            self._counts = np.array(arrays["buffer/molecule_nbrackets"])
