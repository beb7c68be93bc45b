"""What held-out geometries say of a model: means, the widest bracket, and whose it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ase_srdft.training.events import LevelWidths

__all__ = ["ValidationMeans"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationMeans:
    """Brackets of a model on held-out geometries, at least one, and means over them.

    Attributes:
        energy: mean E (Hartree).
        hamiltonian_error: mean |dH| (Hartree), NaN without labels.
        widths: of the bracket at each geometry (Hartree).
        molecules: index of the molecule of each geometry.
    """

    energy: float
    hamiltonian_error: float
    widths: Float[np.ndarray, " ngeometries"]
    molecules: Int[np.ndarray, " ngeometries"]

    @property
    def bracket_width(self) -> float:
        """Mean width (Hartree)."""
        return float(self.widths.mean())

    @property
    def largest_width(self) -> float:
        """The widest bracket (Hartree)."""
        return float(self.widths.max())

    def widths_of_molecules(self, nmolecules: int) -> tuple[float, ...]:
        """Mean width of each molecule (Hartree); NaN where none of it is held out."""
        counts = np.bincount(self.molecules, minlength=nmolecules)
        sums = np.bincount(self.molecules, weights=self.widths, minlength=nmolecules)
        means = np.divide(sums, counts, where=counts > 0, out=np.full(nmolecules, math.nan))
        return tuple(means.tolist())

    def worst(self, count: int) -> tuple[tuple[int, float], ...]:
        """The molecules with the widest means, and these (Hartree), the worst first."""
        means = np.array(self.widths_of_molecules(int(self.molecules.max()) + 1))
        order = np.argsort(-means, kind="stable")  # NaN comes last
        known = [int(molecule) for molecule in order if math.isfinite(means[molecule])]
        return tuple((molecule, float(means[molecule])) for molecule in known[:count])

    def of_levels(self, levels: Sequence[str]) -> tuple[LevelWidths, ...]:
        """Mean and widest bracket at each level of theory, in the order of first appearance.

        Args:
            levels: of each molecule, in words.
        """
        own = np.array([levels[molecule] for molecule in self.molecules])
        return tuple(
            LevelWidths(
                level=level,
                ngeometries=int((own == level).sum()),
                bracket_width=float(self.widths[own == level].mean()),
                largest_width=float(self.widths[own == level].max()),
            )
            for level in dict.fromkeys(levels)
            if (own == level).any()
        )
