"""Names of the elements, from ASE."""

from __future__ import annotations

from ase.data import chemical_symbols

__all__ = ["chemical_symbols"]
