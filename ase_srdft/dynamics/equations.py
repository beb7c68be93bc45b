"""The equations of motion by their names: ASE's integrators, and ours without momenta."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from ase_srdft.common.units import ASE_TIME_PER_FS
from ase_srdft.dynamics.dynamics_config import DynamicsConfig
from ase_srdft.dynamics.overdamped_langevin import OverdampedLangevin

__all__ = ["draw_momenta", "integrator"]


def draw_momenta(atoms: Atoms, config: DynamicsConfig, rng: np.random.Generator) -> bool:
    """Give atoms momenta to begin with, unless they brought some.

    They are those of the temperature, at constant energy without translation and rotation.

    Returns:
        Whether they were drawn.
    """
    if config.dynamics == "overdamped" or np.any(atoms.get_momenta()):
        return False
    masses = atoms.get_masses()[:, None]
    thermal_energy = units.kB * config.temperature_K
    momenta = np.sqrt(masses * thermal_energy) * rng.standard_normal((len(atoms), 3))
    if config.dynamics == "nve":
        momenta -= masses * _rigid_velocities(atoms, momenta)
    atoms.set_momenta(momenta)
    return True


def _rigid_velocities(atoms: Atoms, momenta: np.ndarray) -> np.ndarray:
    """Of the atoms (natoms, 3), if they moved as a rigid body with these momenta."""
    masses = atoms.get_masses()[:, None]
    arms = atoms.positions - atoms.get_center_of_mass()
    angular = np.cross(arms, momenta).sum(axis=0)
    inertia = (masses[..., None] * _inertia(arms)).sum(axis=0)
    # of a linear molecule one moment is zero, and so is the angular momentum about its axis
    spin = np.linalg.pinv(inertia, rcond=1e-9, hermitian=True) @ angular
    velocities: np.ndarray = momenta.sum(axis=0) / masses.sum() + np.cross(spin, arms)
    return velocities


def _inertia(arms: np.ndarray) -> np.ndarray:
    """Tensors of inertia (natoms, 3, 3) of unit masses at these places (natoms, 3)."""
    squares = (arms**2).sum(axis=1)[:, None, None]
    tensors: np.ndarray = squares * np.eye(3) - arms[:, :, None] * arms[:, None, :]
    return tensors


def integrator(
    atoms: Atoms, config: DynamicsConfig, rng: np.random.Generator, trajectory: str
) -> MolecularDynamics:
    """ASE's dynamics of a configuration.

    ``langevin`` is `ase.md.langevin.Langevin`, whose centre of mass is free to diffuse; ``nve``
    velocity Verlet; ``overdamped`` `ase_srdft.dynamics.overdamped_langevin.OverdampedLangevin`
    with the mobility 1/(mass·friction).

    Args:
        atoms: with a calculator.
        config: settings.
        rng: of every random number.
        trajectory: path of the file that frames are appended to.
    """
    timestep = config.timestep_fs * ASE_TIME_PER_FS
    frames: dict[str, Any] = {
        "trajectory": trajectory,
        "append_trajectory": True,
        "loginterval": config.interval,
    }
    friction = config.friction_per_fs / ASE_TIME_PER_FS
    if config.dynamics == "nve":
        return VelocityVerlet(atoms, timestep, **frames)
    if config.dynamics == "overdamped":
        return OverdampedLangevin(
            atoms, timestep, config.temperature_K, rng=rng, friction=friction, **frames
        )
    return Langevin(
        atoms,
        timestep,
        temperature_K=config.temperature_K,
        friction=friction,
        fixcm=False,
        rng=rng,
        **frames,
    )
