"""Overdamped Langevin dynamics for ASE, with any calculator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics

from ase_srdft.common.torch_state import undisturbed
from ase_srdft.common.units import ANGSTROM_PER_BOHR, ASE_TIME_PER_FS, EV_PER_HARTREE
from ase_srdft.sampling.integrators import LeimkuhlerMatthews, Mobility
from ase_srdft.sampling.lindh_mobility import mobility_square_root

__all__ = ["OverdampedLangevin"]

_MOBILITY_INTERVAL = 20


class OverdampedLangevin(MolecularDynamics):
    """Langevin dynamics in the limit of strong friction: positions without momenta.

    Leimkuhler and Matthews (Appl. Math. Res. eXpress 2013, 34), one force call per step, an
    error of second order in the step (see `ase_srdft.sampling.integrators.LeimkuhlerMatthews`)::

        R_{n+1} = R_n + Δt M F(R_n) + sqrt(2 kT Δt) M^(1/2) (ξ_n + ξ_{n+1}) / 2

    ============  =======================================  ======================================
    symbol        name                                     unit
    ============  =======================================  ======================================
    R             ``atoms.positions``                      Å
    F             ``atoms.get_forces()``                   eV/Å
    kT            ``units.kB * temperature_K``             eV
    M             ``mobility``: "friction", that is        ASE time/amu
                  1/(mass·``friction``), the default
                  "identity", that is 1                    1
                  "model-hessian"                          Å²/eV
                  an array (3·natoms, 3·natoms)            what makes Δt·M Å²/eV
    Δt            ``timestep``, for "friction"             ASE time (``units.fs``)
                  for "identity"                           Å²/eV
                  for "model-hessian"                      1 (0.3 to 0.6)
    γ             ``friction``, for "friction" alone       1/(ASE time); default 1/fs
    ξ             ``noise``                                1
    ============  =======================================  ======================================

    "friction" is the physical form ``m γ dR = F dt + sqrt(2 m γ kT) dW``; with the default of
    1/fs, the timesteps of ordinary molecular dynamics (0.5 to 1 fs) suit it.  "identity" is the
    form of mathematics, ``dR = F dt + sqrt(2 kT) dW``.  "model-hessian" samples fastest: stiff and
    soft modes decorrelate alike.  Its mobility is computed anew every ``mobility_interval`` steps.
    The stationary distribution is exp(-E/kT), each time in another sense of time; that of
    "model-hessian" is over the shapes of the molecule, which keeps its orientation (see
    `ase_srdft.sampling.lindh_mobility.mobility_square_root`).

    Momenta mean nothing here and are set to zero at every step, so that the kinetic energy and
    the temperature in a log file are zero, and its time is in the unit of ``timestep``.
    ``FixAtoms`` is honoured, and so is any constraint that projects positions and forces alike;
    constraints on distances would need a correction that is not included.

    Restart: besides the positions, ``noise`` and the state of ``rng`` (and with "model-hessian"
    ``mobility``, and ``nsteps`` for its interval) continue a run bit for bit.

    Args:
        atoms: with a calculator.
        timestep: see the table.
        temperature_K: in Kelvin.
        rng: the source of random numbers, or its seed; None for one of its own.
        mobility: see the table.
        friction: see the table.
        mobility_interval: steps from one model Hessian to the next, for "model-hessian" alone;
            default 20.
        **md_kwargs: ``trajectory``, ``logfile``, ``loginterval`` and whatever else
            `ase.md.md.MolecularDynamics` takes.

    Raises:
        ValueError: a step or temperature that is not positive, an unknown ``mobility``, or one
            that is not symmetric and positive semidefinite or does not fit the atoms, or
            ``friction`` or ``mobility_interval`` with a mobility that has none.
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        temperature_K: float,
        *,
        rng: np.random.Generator | int | None = None,
        mobility: str | np.ndarray = "friction",
        friction: float | None = None,
        mobility_interval: int | None = None,
        **md_kwargs: Any,
    ) -> None:
        self.mobility_kind = mobility if isinstance(mobility, str) else "array"
        for name, value, owner in (
            ("friction", friction, "friction"),
            ("mobility_interval", mobility_interval, "model-hessian"),
        ):
            if value is not None and self.mobility_kind != owner:
                raise ValueError(
                    f"{name} is {value!r}, but the mobility {self.mobility_kind!r} has none; "
                    "leave one of them out"
                )
        if mobility_interval is not None and mobility_interval < 1:
            raise ValueError(f"mobility_interval is {mobility_interval}; it must be at least 1")
        self.temperature_K = temperature_K
        self.friction = 1 / ASE_TIME_PER_FS if friction is None else friction
        self.mobility_interval = mobility_interval or _MOBILITY_INTERVAL
        self.rng = np.random.default_rng(rng)
        self.noise = self.rng.standard_normal((len(atoms), 3))
        self._scheme = LeimkuhlerMatthews(
            step_size=timestep,
            thermal_energy=units.kB * temperature_K,
            mobility=_mobility(atoms, mobility, self.friction),
        )
        super().__init__(atoms, timestep, **md_kwargs)
        self.atoms.set_momenta(np.zeros((len(atoms), 3)))

    @property
    def mobility(self) -> Mobility:
        """The mobility in use, in the unit of the table."""
        return self._scheme.mobility

    @mobility.setter
    def mobility(self, mobility: Mobility) -> None:
        self._scheme = replace(self._scheme, mobility=mobility)

    def step(self) -> None:
        """One step; ASE's `run` and `irun` call it."""
        if self.mobility_kind == "model-hessian" and self.nsteps % self.mobility_interval == 0:
            self.mobility = _model_mobility(self.atoms)
        noise = self.rng.standard_normal(self.noise.shape)
        # From the atoms, not from the last step: whoever drives this may have changed them.  The
        # forces are without those on fixed atoms (md=True would keep them), lest M pass them on.
        forces = self.atoms.get_forces()
        move = self._scheme.displacement(forces[None], (self.noise + noise)[None] / 2)
        self.atoms.set_positions(self.atoms.get_positions() + move[0])
        self.atoms.set_momenta(np.zeros_like(move[0]))
        self.noise = noise

    def todict(self) -> dict[str, Any]:
        """What a trajectory file keeps of these settings."""
        settings: dict[str, Any] = MolecularDynamics.todict(self)
        settings |= {"temperature_K": self.temperature_K, "mobility": self.mobility_kind}
        if self.mobility_kind == "friction":
            settings["friction"] = self.friction
        if self.mobility_kind == "model-hessian":
            settings["mobility_interval"] = self.mobility_interval
        return settings


def _mobility(atoms: Atoms, mobility: str | np.ndarray, friction: float) -> Mobility:
    """The mobility that an argument of `OverdampedLangevin` names."""
    if not isinstance(mobility, str):
        shape = (3 * len(atoms), 3 * len(atoms))
        if mobility.shape != shape:
            raise ValueError(
                f"the mobility has the shape {mobility.shape}; {len(atoms)} atoms need {shape}"
            )
        return Mobility.from_matrix(mobility)
    if mobility == "friction":
        if not 0 < friction < float("inf"):
            raise ValueError(f"friction is {friction!r}; it must be positive and finite")
        return Mobility.from_matrix(np.repeat(1 / (atoms.get_masses() * friction), 3))
    if mobility == "identity":
        return Mobility.identity()
    if mobility == "model-hessian":
        return _model_mobility(atoms)
    raise ValueError(
        f"unknown mobility {mobility!r}; it must be 'friction', 'identity', 'model-hessian' or "
        "an array"
    )


@undisturbed
def _model_mobility(atoms: Atoms) -> Mobility:
    """That of the model Hessian, in Å²/eV."""
    root = mobility_square_root(atoms.numbers, atoms.positions / ANGSTROM_PER_BOHR)
    return Mobility(square_root=root * ANGSTROM_PER_BOHR / np.sqrt(EV_PER_HARTREE))
