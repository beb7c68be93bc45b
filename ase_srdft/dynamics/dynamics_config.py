"""How long, how hot and by which equations a molecule is to move."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ase_srdft.common.errors import BadInput

__all__ = ["DYNAMICS", "DynamicsConfig"]

#: Equations of motion: with a thermostat, at constant energy, without momenta.
DYNAMICS = ("langevin", "nve", "overdamped")
#: Friction (1/fs) where none is given; at constant energy there is none.
_FRICTION = {"langevin": 0.01, "overdamped": 1.0}
_FS_PER_PS = 1000.0


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """Settings of a run.

    Attributes:
        dynamics: langevin, with a thermostat; nve, at constant energy; or overdamped, without
            momenta.
        temperature_K: of the thermostat, and of the velocities to begin with (K).
        time_ps: that the run ends at (ps).
        timestep_fs: of the integrator (fs).
        friction: of the thermostat (1/fs); none for 0.01, and for 1 of overdamped dynamics.
        seed: of the velocities and the thermostat.
        interval: steps from one frame of the trajectory to the next.
    """

    dynamics: str = "langevin"
    temperature_K: float = 300.0
    time_ps: float = 1.0
    timestep_fs: float = 0.5
    friction: float | None = None
    seed: int = 0
    interval: int = 10

    def __post_init__(self) -> None:
        if self.dynamics not in DYNAMICS:
            raise BadInput(f"dynamics is {self.dynamics!r}: use one of {', '.join(DYNAMICS)}")
        for name in ("time_ps", "timestep_fs", "friction"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise BadInput(f"{name} is {value!r}: use a number above zero")
        coldest = 0.0 if self.dynamics == "nve" else math.ulp(0.0)
        if not coldest <= self.temperature_K < math.inf:
            raise BadInput(f"temperature_K is {self.temperature_K!r}: use one above zero")
        if self.interval < 1:
            raise BadInput(f"interval is {self.interval}: use at least 1 step between frames")
        if self.seed < 0:
            raise BadInput(f"seed is {self.seed}: use a whole number of at least 0")
        if self.dynamics == "nve" and self.friction is not None:
            raise BadInput(f"friction is {self.friction!r}, and nve has none: leave it out")
        if self.nsteps < 1:
            raise BadInput(
                f"time_ps is {self.time_ps!r}, less than one step of {self.timestep_fs!r} fs: use "
                "a longer time"
            )

    @property
    def nsteps(self) -> int:
        """Steps of the whole run."""
        return round(self.time_ps * _FS_PER_PS / self.timestep_fs)

    @property
    def friction_per_fs(self) -> float:
        """The friction in use (1/fs); 0 at constant energy."""
        return _FRICTION.get(self.dynamics, 0.0) if self.friction is None else self.friction

    def time_of(self, step: int) -> float:
        """Simulated time (ps) at a step."""
        return step * self.timestep_fs / _FS_PER_PS
