"""Langevin dynamics with inertia."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from jaxtyping import Float

from ase_srdft.common.checks import require, require_positive
from ase_srdft.sampling.integrators.walker_state import EnergyAndForces, WalkerState

__all__ = ["BAOAB", "BAOABState"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BAOABState(WalkerState):
    """Walkers of `BAOAB`, with their velocities."""

    velocities: Float[np.ndarray, "nwalkers natoms 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BAOAB:
    """Langevin dynamics with inertia, split as kick, drift, noise, drift, kick.

    Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013), for ``m dv = -∇U dt - γ m v dt +
    sqrt(2 γ m kT) dW``, with c = exp(-γ Δt)::

        B  v += Δt/2 · f(x)/m
        A  x += Δt/2 · v
        O  v  = c v + sqrt((1 - c²) kT/m) ξ
        A  x += Δt/2 · v
        B  v += Δt/2 · f(x)/m

    ============  =====================  =====================
    symbol        name                   unit
    ============  =====================  =====================
    x, v          ``positions``,         length, length / time
                  ``velocities``
    f = -∇U       ``forces``             energy / length
    Δt            ``timestep``           time
    γ             ``friction``           1 / time
    m             ``masses`` (natoms,)   energy·time²/length²
    kT            ``thermal_energy``     energy
    ============  =====================  =====================

    Positions are sampled to O(Δt²), exactly in a harmonic well.  For γ → ∞ the positions follow
    `LeimkuhlerMatthews` with h·M = Δt²/(2m).
    """

    timestep: float
    thermal_energy: float
    friction: float
    masses: Float[np.ndarray, " natoms"]

    def __post_init__(self) -> None:
        require_positive(self, "timestep", "thermal_energy", "friction")
        lightest = float(self.masses.min())
        require(0 < lightest < float("inf"), "mass", lightest, "a positive number")

    def init(
        self,
        positions: Float[np.ndarray, "nwalkers natoms 3"],
        energy_and_forces: EnergyAndForces,
        rng: np.random.Generator,
    ) -> BAOABState:
        """Walkers at ``positions`` with Maxwell-Boltzmann velocities, by one force call."""
        positions = np.array(positions, dtype=float)
        energy, forces = energy_and_forces(positions)
        velocities = self._thermal_velocity * rng.standard_normal(positions.shape)
        return BAOABState(positions=positions, energy=energy, forces=forces, velocities=velocities)

    def step(
        self,
        state: BAOABState,
        energy_and_forces: EnergyAndForces,
        rng: np.random.Generator,
    ) -> BAOABState:
        """One step, by one force call at the new positions."""
        half_kick = self.timestep / 2 / self.masses[:, None]
        half_drift = self.timestep / 2
        decay = exp(-self.friction * self.timestep)
        velocities = state.velocities + half_kick * state.forces
        positions = state.positions + half_drift * velocities
        noise = rng.standard_normal(positions.shape)
        velocities = decay * velocities + sqrt(1 - decay**2) * self._thermal_velocity * noise
        positions = positions + half_drift * velocities
        energy, forces = energy_and_forces(positions)
        return BAOABState(
            positions=positions,
            energy=energy,
            forces=forces,
            velocities=velocities + half_kick * forces,
        )

    @property
    def _thermal_velocity(self) -> Float[np.ndarray, "natoms 1"]:
        """sqrt(kT/m), the standard deviation of each velocity component."""
        return np.sqrt(self.thermal_energy / self.masses)[:, None]
