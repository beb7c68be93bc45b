"""The schemes of dynamics by their names: how each is set up, and how warm its walkers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from ase.data import atomic_masses

from ase_srdft.common.units import (
    ELECTRON_MASSES_PER_DALTON,
    FS_PER_ATOMIC_TIME,
    HARTREE_PER_KELVIN,
)
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.integrators import (
    BAOAB,
    BAOABState,
    LeimkuhlerMatthews,
    LeimkuhlerMatthewsState,
    MetropolisLangevin,
    MetropolisState,
    Mobility,
    WalkerState,
)
from ase_srdft.sampling.lindh_mobility import mobility_square_root

__all__ = ["SCHEMES", "Scheme"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A scheme of dynamics.

    Attributes:
        integrator: from the settings, atomic numbers and where the walkers are
            (nwalkers, natoms, 3) in Bohr: what moves them, for as long as its mobility may stay.
        state: what it carries from step to step, read from checkpoints.
        temperature: from the integrator, walkers before and after a step: numerator and
            denominator of kT (Hartree), summed over walkers; 0 / 0 where there is no estimator.
    """

    integrator: Callable[[SamplingConfig, np.ndarray, np.ndarray], Any]
    state: type[WalkerState]
    temperature: Callable[[Any, Any, Any], np.ndarray]


def _inertial(config: SamplingConfig, numbers: np.ndarray, positions: np.ndarray) -> BAOAB:
    return BAOAB(
        timestep=config.timestep_fs / FS_PER_ATOMIC_TIME,
        thermal_energy=HARTREE_PER_KELVIN * config.temperature_K,
        friction=config.friction_per_fs * FS_PER_ATOMIC_TIME,
        masses=atomic_masses[numbers] * ELECTRON_MASSES_PER_DALTON,
    )


def _overdamped(scheme: type) -> Callable[[SamplingConfig, np.ndarray, np.ndarray], Any]:
    """Either overdamped scheme, with the mobility of each walker's model Hessian."""

    def integrator(config: SamplingConfig, numbers: np.ndarray, positions: np.ndarray) -> Any:
        roots = [mobility_square_root(numbers, walker) for walker in positions]
        return scheme(
            step_size=config.step_size,
            thermal_energy=HARTREE_PER_KELVIN * config.temperature_K,
            mobility=Mobility(square_root=np.array(roots)),
        )

    return integrator


def _kinetic(integrator: BAOAB, before: BAOABState, after: BAOABState) -> np.ndarray:
    finite = _finite(before, after)
    velocities = after.velocities[finite]
    twice_energy = (integrator.masses[:, None] * velocities**2).sum()
    return np.array([twice_energy, float(velocities.size)])


def _configurational(
    integrator: LeimkuhlerMatthews, before: LeimkuhlerMatthewsState, after: LeimkuhlerMatthewsState
) -> np.ndarray:
    """kT = <|g|^2> / <tr A>, with g = M^(1/2) f and A = M^(1/2) (Hessian) M^(1/2).

    The step itself probes the Hessian: its fresh noise moves x by (s/2) M^(1/2) xi,
    s = sqrt(2 kT h), so <(g_new - g_old) . xi> = -(s/2) tr A.
    """
    finite = _finite(before, after)
    old = integrator.mobility.apply_square_root(before.forces)[finite]
    new = integrator.mobility.apply_square_root(after.forces)[finite]
    width = sqrt(2.0 * integrator.thermal_energy * integrator.step_size)
    trace = -2.0 / width * ((new - old) * after.noise[finite]).sum()
    return np.array([(old**2).sum(), trace])


def _no_estimator(integrator: Any, before: WalkerState, after: WalkerState) -> np.ndarray:
    return np.zeros(2)


def _finite(before: WalkerState, after: WalkerState) -> np.ndarray:
    """Which walkers have forces on both sides of a step."""
    return np.asarray(np.isfinite([before.forces, after.forces]).all((0, 2, 3)))


SCHEMES = {
    "overdamped": Scheme(
        integrator=_overdamped(LeimkuhlerMatthews),
        state=LeimkuhlerMatthewsState,
        temperature=_configurational,
    ),
    "metropolis": Scheme(
        integrator=_overdamped(MetropolisLangevin),
        state=MetropolisState,
        temperature=_no_estimator,
    ),
    "langevin": Scheme(integrator=_inertial, state=BAOABState, temperature=_kinetic),
}
