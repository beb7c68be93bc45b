"""What every integrator carries from step to step, and what it is given to move with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["EnergyAndForces", "WalkerState"]

#: positions (nwalkers, natoms, 3) -> energy (nwalkers,), forces (nwalkers, natoms, 3)
EnergyAndForces = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_State = TypeVar("_State", bound="WalkerState")


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
