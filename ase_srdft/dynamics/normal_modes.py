"""Normal modes of a molecule from forces at displaced geometries, and the zero-point energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from jaxtyping import Float

from ase_srdft.common.units import ASE_TIME_PER_FS

__all__ = ["NormalModes", "displaced", "normal_modes"]

#: Speed of light in cm/fs, exact by the definition of the metre.
_CM_PER_FS = 2.99792458e-5
#: Singular values of rigid motions, of 1 at most, below which there is no such motion.
_NO_MOTION = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalModes:
    """Vibrations in the harmonic approximation, without translations and rotations.

    Attributes:
        frequencies_per_cm: wave numbers in ascending order; of imaginary ones minus the modulus.
        modes: displacements (nmodes, natoms, 3), of norm 1; without mass weights.
    """

    frequencies_per_cm: Float[np.ndarray, " nmodes"]
    modes: Float[np.ndarray, "nmodes natoms 3"]

    @property
    def zero_point_energy_eV(self) -> float:
        """Half a quantum of each real mode (eV)."""
        real = self.frequencies_per_cm[self.frequencies_per_cm > 0.0]
        return float(0.5 * units.invcm * real.sum())

    @property
    def nimaginary(self) -> int:
        """Modes along which the energy falls."""
        return int((self.frequencies_per_cm < 0.0).sum())


def displaced(atoms: Atoms, step: float) -> list[Atoms]:
    """Geometries with one coordinate lower and one higher by a step (Å), of each in turn."""
    images = []
    for coordinate in range(3 * len(atoms)):
        for sign in (-1.0, 1.0):
            image = atoms.copy()
            image.positions.ravel()[coordinate] += sign * step
            images.append(image)
    return images


def normal_modes(atoms: Atoms, forces: Sequence[np.ndarray], step: float) -> NormalModes:
    """Modes by central differences of forces.

    The Hessian is symmetrised, weighted by the masses, and freed of translations and rotations.

    Args:
        atoms: at a stationary point.
        forces: (eV/Å) of what `displaced` gives, in its order.
        step: of the displacements (Å).
    """
    table = np.stack(forces).reshape(3 * len(atoms), 2, 3 * len(atoms))
    hessian = (table[:, 0] - table[:, 1]) / (2.0 * step)
    weights = np.repeat(atoms.get_masses() ** -0.5, 3)
    weighted = 0.5 * (hessian + hessian.T) * np.outer(weights, weights)
    inner = _vibrations(atoms)
    squares, vectors = np.linalg.eigh(inner.T @ weighted @ inner)
    modes = (weights[:, None] * (inner @ vectors)).T
    modes /= np.linalg.norm(modes, axis=1, keepdims=True)
    per_fs = np.sign(squares) * np.sqrt(np.abs(squares)) * ASE_TIME_PER_FS / (2.0 * np.pi)
    return NormalModes(
        frequencies_per_cm=per_fs / _CM_PER_FS, modes=modes.reshape(-1, len(atoms), 3)
    )


def _vibrations(atoms: Atoms) -> np.ndarray:
    """Orthonormal mass-weighted displacements (3·natoms, nmodes) that move no rigid body."""
    roots = np.sqrt(atoms.get_masses())[:, None]
    arms = atoms.positions - atoms.get_center_of_mass()
    rigid = [roots * axis for axis in np.eye(3)]
    rigid += [roots * np.cross(axis, arms) for axis in np.linalg.svd(arms)[2]]
    scale = max(float(np.linalg.norm(each)) for each in rigid[3:])
    table = np.array([each.ravel() for each in rigid])
    table[:3] /= np.linalg.norm(roots)
    table[3:] /= scale
    vectors, sizes, _ = np.linalg.svd(table.T)
    nrigid = int((sizes > _NO_MOTION).sum())
    inner: np.ndarray = vectors[:, nrigid:]
    return inner
