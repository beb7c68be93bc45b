"""One step of a run of dynamics, as whoever follows the run sees it."""

from __future__ import annotations

from dataclasses import dataclass

from ase_srdft.calculator.certificate import Certificate

__all__ = ["DynamicsStep"]


@dataclass(frozen=True, kw_only=True)
class DynamicsStep:
    """What is known after a step.

    Attributes:
        step: its number, from 0 for the structure to begin with.
        time_ps: simulated (ps).
        temperature_K: of the momenta (K); NaN where there are none.
        energy_eV: potential energy (eV).
        certificate: what the answer is worth.
    """

    step: int
    time_ps: float
    temperature_K: float
    energy_eV: float
    certificate: Certificate
