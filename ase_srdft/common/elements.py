"""Names of the elements and formulas of molecules, from ASE."""

from __future__ import annotations

from collections.abc import Sequence

from ase.data import chemical_symbols
from ase.formula import Formula

__all__ = ["chemical_symbols", "hill_formula"]


def hill_formula(numbers: Sequence[int]) -> str:
    """Carbon, hydrogen, then the alphabet.

    >>> hill_formula([8, 1, 1])
    'H2O'
    """
    return str(Formula("".join(chemical_symbols[number] for number in numbers)).format("hill"))
