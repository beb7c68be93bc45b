"""How an answer came about: from which state, by how many Fock matrices, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PATHS", "CorrectionRecord"]

#: The state of the model, of half of its correction, or of the guess, as it is; one of these
#: corrected; the lowest of the solutions that several starts lead to; or PySCF's SCF.
PATHS = ("model", "damped", "guess", "corrected", "searched", "scf")


@dataclass(frozen=True, kw_only=True)
class CorrectionRecord:
    """Of one geometry.

    Attributes:
        start: the state it began from, the lowest of the first three of ``PATHS``.
        start_width: its bracket (Hartree), on the rough grid of the correction where it was far
            from self-consistency, else on the level's own.
        builds: Fock matrices on the level's own grid.
        coarse_builds: Fock matrices on the rough grid.
        force_error: estimate of the largest error of a component of the forces (Hartree/Bohr).
    """

    start: str
    start_width: float
    builds: int
    coarse_builds: int
    force_error: float
