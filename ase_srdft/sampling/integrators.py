"""Integrators of Langevin dynamics, batched over independent walkers.

One contract, whatever the scheme::

    state = integrator.init(positions, energy_and_forces, rng)      # one force call
    state = integrator.step(state, energy_and_forces, rng)          # one force call
    state = state.refresh(energy_and_forces)                        # the potential has changed
    state = state.replace_walkers(mask, integrator.init(...))       # the others stay as they are

Nothing here knows a unit: positions, energies, masses and times may be in any units that fit
together.  Every random number comes from the ``numpy.random.Generator`` that is passed in, and
the fields of a state (`WalkerState.to_arrays`) with the state of that generator are all that a
restart needs to continue bit for bit.

A walker whose forces are not finite spoils itself alone; watching for that is the caller's part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import exp, sqrt
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

__all__ = [
    "BAOAB",
    "BAOABState",
    "EnergyAndForces",
    "LeimkuhlerMatthews",
    "LeimkuhlerMatthewsState",
    "MetropolisLangevin",
    "MetropolisState",
    "Mobility",
    "WalkerState",
]

#: positions (nwalkers, natoms, 3) -> energy (nwalkers,), forces (nwalkers, natoms, 3)
EnergyAndForces = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_State = TypeVar("_State", bound="WalkerState")


@dataclass(frozen=True, kw_only=True, eq=False)
class Mobility:
    """A constant mobility M of the 3·natoms coordinates, kept as its symmetric square root.

    Attributes:
        square_root: M^(1/2) as a number (times the identity), a diagonal ``(3*natoms,)``, a
            matrix ``(3*natoms, 3*natoms)`` shared by the walkers, or one matrix per walker
            ``(nwalkers, 3*natoms, 3*natoms)``.  Directions in its kernel never move.
    """

    square_root: Float[np.ndarray, "*mobility"]

    @classmethod
    def identity(cls) -> Mobility:
        """M = 1: every coordinate moves alike."""
        return cls(square_root=np.ones(()))

    @classmethod
    def from_matrix(cls, matrix: Float[np.ndarray, "*mobility"]) -> Mobility:
        """The mobility whose M is ``matrix``, in any of the four forms of ``square_root``.

        Raises:
            ValueError: ``matrix`` is not symmetric, or not positive semidefinite.
        """
        if matrix.ndim < 2:
            eigenvalues, eigenvectors = matrix, None
        else:
            if not np.allclose(matrix, matrix.swapaxes(-1, -2), rtol=1e-8, atol=0.0):
                asymmetry = np.abs(matrix - matrix.swapaxes(-1, -2)).max()
                raise ValueError(
                    f"the mobility differs from its transpose by up to {asymmetry:g}; "
                    "give a symmetric matrix"
                )
            eigenvalues, eigenvectors = np.linalg.eigh(matrix)
        if eigenvalues.min(initial=0.0) < -1e-10 * np.abs(eigenvalues).max(initial=0.0):
            raise ValueError(
                f"the mobility has the eigenvalue {eigenvalues.min():g}; none may be negative"
            )
        roots = np.sqrt(np.maximum(eigenvalues, 0.0))
        if eigenvectors is None:
            return cls(square_root=roots)
        return cls(square_root=(eigenvectors * roots[..., None, :]) @ eigenvectors.swapaxes(-1, -2))

    @property
    def matrix(self) -> Float[np.ndarray, "*mobility"]:
        """M itself, in the form of ``square_root``."""
        root = self.square_root
        square: np.ndarray = root * root if root.ndim < 2 else root @ root
        return square

    def apply_square_root(
        self, vectors: Float[np.ndarray, "nwalkers natoms 3"]
    ) -> Float[np.ndarray, "nwalkers natoms 3"]:
        """M^(1/2) v for each walker's vector v."""
        flat = vectors.reshape(len(vectors), -1)
        root = self.square_root
        moved: np.ndarray = root * flat if root.ndim < 2 else (root @ flat[:, :, None])[:, :, 0]
        return moved.reshape(vectors.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class WalkerState:
    """What every scheme carries from one step to the next.

    Attributes:
        positions: where the walkers are.
        energy: their energies, at ``positions``.
        forces: the negative gradient of the energy, at ``positions``.
    """

    positions: Float[np.ndarray, "nwalkers natoms 3"]
    energy: Float[np.ndarray, " nwalkers"]
    forces: Float[np.ndarray, "nwalkers natoms 3"]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The state as plain arrays, for a restart file."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_arrays(cls: type[_State], arrays: Mapping[str, np.ndarray]) -> _State:
        """The state whose `to_arrays` gave ``arrays``.

        Raises:
            ValueError: an array is missing or there is one too many.
        """
        expected = {entry.name for entry in fields(cls)}
        if set(arrays) != expected:
            raise ValueError(
                f"{cls.__name__} consists of {sorted(expected)}, but the arrays given are "
                f"{sorted(arrays)}; restart with the scheme that wrote them"
            )
        return cls(**arrays)

    def refresh(self: _State, energy_and_forces: EnergyAndForces) -> _State:
        """The same walkers in another potential: energies and forces anew, nothing moves."""
        energy, forces = energy_and_forces(self.positions)
        return replace(self, energy=energy, forces=forces)

    def replace_walkers(self: _State, mask: Bool[np.ndarray, " nwalkers"], fresh: _State) -> _State:
        """Put the walkers of ``fresh``, in order, where ``mask`` is true.

        Args:
            mask: the walkers to give up.
            fresh: as many walkers as ``mask`` is true, from the integrator's ``init``.

        Returns:
            A new state in which every other walker is bit for bit what it was.

        Raises:
            ValueError: the number of fresh walkers does not fit ``mask``.
        """
        if len(fresh.energy) != mask.sum():
            raise ValueError(
                f"{len(fresh.energy)} fresh walkers for {mask.sum()} that are to be replaced; "
                "give one for each"
            )
        arrays = {name: array.copy() for name, array in self.to_arrays().items()}
        for name, array in fresh.to_arrays().items():
            arrays[name][mask] = array
        return type(self)(**arrays)


@dataclass(frozen=True, kw_only=True)
class _Overdamped:
    """The parameters and the move that the overdamped schemes share."""

    step_size: float
    thermal_energy: float
    mobility: Mobility = field(default_factory=Mobility.identity)

    def __post_init__(self) -> None:
        _require_positive(step_size=self.step_size, thermal_energy=self.thermal_energy)

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
        _require_positive(
            timestep=self.timestep,
            thermal_energy=self.thermal_energy,
            friction=self.friction,
            mass=float(self.masses.min()),
        )

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


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value!r}; it must be positive and finite")
