"""What an answer is held to where nothing is said of it."""

from __future__ import annotations

__all__ = ["MAX_ERROR", "MAX_FORCE_ERROR"]

#: Widest bracket around the SCF energy (eV).
MAX_ERROR = 1.0e-3
#: Largest estimate of the error of a component of the forces (eV/Å).
MAX_FORCE_ERROR = 5.0e-3
