"""Overdamped Langevin dynamics: Leimkuhler and Matthews' scheme, and the adjusted one (MALA)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from jaxtyping import Bool, Float

from ase_srdft.common.checks import require_positive
from ase_srdft.sampling.integrators.mobility import Mobility
from ase_srdft.sampling.integrators.walker_state import EnergyAndForces, WalkerState

__all__ = [
    "LeimkuhlerMatthews",
    "LeimkuhlerMatthewsState",
    "MetropolisLangevin",
    "MetropolisState",
]


@dataclass(frozen=True, kw_only=True)
class _Overdamped:
    """The parameters and the move that the overdamped schemes share."""

    step_size: float
    thermal_energy: float
    mobility: Mobility = field(default_factory=Mobility.identity)

    def __post_init__(self) -> None:
        require_positive(self, "step_size", "thermal_energy")

    def displacement(
        self,
        forces: Float[np.ndarray, "nwalkers natoms 3"],
        noise: Float[np.ndarray, "nwalkers natoms 3"],
    ) -> Float[np.ndarray, "nwalkers natoms 3"]:
        """h M f + sqrt(2 kT h) M^(1/2) ξ, the move under the forces f with the noise ξ."""
        amplitude = sqrt(2 * self.thermal_energy * self.step_size)
        # M = M^(1/2) M^(1/2): the second root is shared by the two terms.
        pull = self.step_size * self.mobility.apply_square_root(forces)
        return self.mobility.apply_square_root(pull + amplitude * noise)


@dataclass(frozen=True, kw_only=True, eq=False)
class LeimkuhlerMatthewsState(WalkerState):
    """Walkers of `LeimkuhlerMatthews`.

    Attributes:
        noise: the standard normal numbers ξ_n that the last step used and the next uses again.
    """

    noise: Float[np.ndarray, "nwalkers natoms 3"]


@dataclass(frozen=True, kw_only=True)
class LeimkuhlerMatthews(_Overdamped):
    """Overdamped Langevin dynamics with one force and a bias of second order.

    The scheme of Leimkuhler and Matthews (Appl. Math. Res. eXpress 2013, 34) for
    ``dx = -M ∇U dt + sqrt(2 kT) M^(1/2) dW``, whose stationary density is exp(-U/kT)::

        x_{n+1} = x_n - h M ∇U(x_n) + sqrt(2 kT h) M^(1/2) (ξ_n + ξ_{n+1}) / 2

    ============  =====================  ====================================
    symbol        name                   unit
    ============  =====================  ====================================
    x             ``positions``          length
    -∇U           ``forces``             energy / length
    h             ``step_size``          what makes h·M length² / energy
    M             ``mobility``           see h; with M = 1, h alone has it
    kT            ``thermal_energy``     energy
    ξ             ``noise``              1
    ============  =====================  ====================================

    Averages are wrong by O(h²), against O(h) for Euler-Maruyama, and not at all in a harmonic
    well, for any step that is stable: h·M·curvature < 2.
    """

    def init(
        self,
        positions: Float[np.ndarray, "nwalkers natoms 3"],
        energy_and_forces: EnergyAndForces,
        rng: np.random.Generator,
    ) -> LeimkuhlerMatthewsState:
        """Walkers at ``positions`` with a first noise, by one force call."""
        positions = np.array(positions, dtype=float)
        energy, forces = energy_and_forces(positions)
        return LeimkuhlerMatthewsState(
            positions=positions,
            energy=energy,
            forces=forces,
            noise=rng.standard_normal(positions.shape),
        )

    def step(
        self,
        state: LeimkuhlerMatthewsState,
        energy_and_forces: EnergyAndForces,
        rng: np.random.Generator,
    ) -> LeimkuhlerMatthewsState:
        """One step, by one force call at the new positions."""
        noise = rng.standard_normal(state.positions.shape)
        positions = state.positions + self.displacement(state.forces, (state.noise + noise) / 2)
        energy, forces = energy_and_forces(positions)
        return LeimkuhlerMatthewsState(
            positions=positions, energy=energy, forces=forces, noise=noise
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class MetropolisState(WalkerState):
    """Walkers of `MetropolisLangevin`.

    Attributes:
        accepted: which walkers took their last proposal.  For the eye only: no step reads it.
    """

    accepted: Bool[np.ndarray, " nwalkers"]


@dataclass(frozen=True, kw_only=True)
class MetropolisLangevin(_Overdamped):
    """Metropolis-adjusted Langevin dynamics (MALA): no bias, whatever the step.

    Roberts and Tweedie, Bernoulli 2, 341 (1996): propose by Euler-Maruyama, ``y = x + h M f(x) +
    sqrt(2 kT h) M^(1/2) ξ`` with f = -∇U, and accept with probability min(1, α),
    ``α = exp(-(U(y) - U(x))/kT) q(x|y) / q(y|x)``.  The way back needs the noise
    ``ξ' = -ξ - sqrt(h / 2kT) M^(1/2) (f(x) + f(y))``, so that::

        ln α = -(U(y) - U(x)) / kT + (|ξ|² - |ξ'|²) / 2

    which holds for a singular M too, where the walkers stay in ``x + range(M)``.  Symbols as in
    `LeimkuhlerMatthews`.

    Exact as long as M is constant and ``energy_and_forces`` the same function at every step;
    after it changed, call `WalkerState.refresh`.  A proposal without a finite energy and finite
    forces is refused.
    """

    def init(
        self,
        positions: Float[np.ndarray, "nwalkers natoms 3"],
        energy_and_forces: EnergyAndForces,
        rng: np.random.Generator,
    ) -> MetropolisState:
        """Walkers at ``positions``, by one force call; ``rng`` is not used."""
        positions = np.array(positions, dtype=float)
        energy, forces = energy_and_forces(positions)
        accepted = np.zeros(len(positions), dtype=bool)
        return MetropolisState(positions=positions, energy=energy, forces=forces, accepted=accepted)

    def step(
        self,
        state: MetropolisState,
        energy_and_forces: EnergyAndForces,
        rng: np.random.Generator,
    ) -> MetropolisState:
        """One proposal, accepted or refused, by one force call at the proposed positions."""
        noise = rng.standard_normal(state.positions.shape)
        proposal = state.positions + self.displacement(state.forces, noise)
        energy, forces = energy_and_forces(proposal)
        log_uniform = -rng.standard_exponential(len(energy))
        # NaN compares false, so a proposal without an energy or forces is refused.
        accepted = log_uniform < self._log_acceptance(state, energy, forces, noise)
        moves = accepted[:, None, None]
        return MetropolisState(
            positions=np.where(moves, proposal, state.positions),
            energy=np.where(accepted, energy, state.energy),
            forces=np.where(moves, forces, state.forces),
            accepted=accepted,
        )

    def _log_acceptance(
        self,
        state: MetropolisState,
        energy: Float[np.ndarray, " nwalkers"],
        forces: Float[np.ndarray, "nwalkers natoms 3"],
        noise: Float[np.ndarray, "nwalkers natoms 3"],
    ) -> Float[np.ndarray, " nwalkers"]:
        """ln α of the class's equation."""
        with np.errstate(invalid="ignore", over="ignore"):
            drift = self.mobility.apply_square_root(state.forces + forces)
            noise_back = -noise - sqrt(self.step_size / (2 * self.thermal_energy)) * drift
            log_ratio: np.ndarray = (state.energy - energy) / self.thermal_energy
            log_ratio += ((noise**2).sum(axis=(1, 2)) - (noise_back**2).sum(axis=(1, 2))) / 2
            return log_ratio
