"""What ASE's plugin system, which is experimental, finds by the entry point ``ase.plugins``."""

from __future__ import annotations

from typing import Any

__all__: list[str] = []

try:
    from ase._4.plugins.plugin import CalculatorPlugin
except ImportError:  # it has moved: ASE then lists one calculator less, and works otherwise
    __ase_plugins__: set[Any] = set()
else:
    __ase_plugins__ = {
        CalculatorPlugin(
            name="srdft",
            citation="M. Hassan et al., arXiv 2506.01225 (2025)",
            implementation="ase_srdft.calculator.srdft_calculator.SRDFTCalculator",
        )
    }
