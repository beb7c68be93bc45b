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

from ase_srdft.sampling.integrators.baoab import BAOAB, BAOABState
from ase_srdft.sampling.integrators.mobility import Mobility
from ase_srdft.sampling.integrators.overdamped import (
    LeimkuhlerMatthews,
    LeimkuhlerMatthewsState,
    MetropolisLangevin,
    MetropolisState,
)
from ase_srdft.sampling.integrators.walker_state import EnergyAndForces, WalkerState

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
