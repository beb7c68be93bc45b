"""What a trajectory of dynamics with our calculator tells: energies, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io.trajectory import TrajectoryReader
from jaxtyping import Float

from ase_srdft.calculator.certificate import PREFIX
from ase_srdft.common.errors import BadInput
from ase_srdft.common.structures import read_frames
from ase_srdft.common.units import ASE_TIME_PER_FS

__all__ = ["DynamicsRecord", "read_dynamics"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DynamicsRecord:
    """A trajectory; what a frame does not tell is NaN, or empty.

    Attributes:
        formula: of the first frame.
        time: of each frame, in ``unit``.
        unit: ``fs``, or ``frame`` where nothing tells the time between two.
        potential_eV: energies.
        kinetic_eV: of frames with momenta.
        temperature_K: of frames with momenta.
        error_eV: width of the bracket.
        start_error_eV: of the state that it was corrected from.
        force_error_eV_per_A: estimate of the largest error of a component.
        builds: Fock matrices on the level's own grid.
        coarse_builds: and on the coarse grid.
        paths: how each answer came about; see `ase_srdft.calculator.certificate.Certificate`.
        level: of theory, of the last frame that tells.
        model: likewise.
    """

    formula: str
    time: Float[np.ndarray, " nframes"]
    unit: str
    potential_eV: Float[np.ndarray, " nframes"]
    kinetic_eV: Float[np.ndarray, " nframes"]
    temperature_K: Float[np.ndarray, " nframes"]
    error_eV: Float[np.ndarray, " nframes"]
    start_error_eV: Float[np.ndarray, " nframes"]
    force_error_eV_per_A: Float[np.ndarray, " nframes"]
    builds: Float[np.ndarray, " nframes"]
    coarse_builds: Float[np.ndarray, " nframes"]
    paths: tuple[str, ...]
    level: str
    model: str


def read_dynamics(path: Path, interval_fs: float | None = None) -> DynamicsRecord:
    """Read a trajectory that ASE can read; ``.traj`` and extended xyz keep what is plotted.

    Args:
        path: of the file.
        interval_fs: time between two frames (fs); None for what the file tells, as a ``.traj``
            does that ASE's dynamics has opened.

    Raises:
        BadInput: it cannot be read, or its frames tell neither energies nor certificates.
    """
    frames = read_frames(path)
    if interval_fs is None:
        interval_fs = _interval_fs(path)
    count = np.arange(len(frames), dtype=float)
    record = DynamicsRecord(
        formula=frames[0].get_chemical_formula(),
        time=count if interval_fs is None else count * interval_fs,
        unit="frame" if interval_fs is None else "fs",
        potential_eV=np.array([_potential(atoms) for atoms in frames]),
        kinetic_eV=_of_moving(frames, Atoms.get_kinetic_energy),
        temperature_K=_of_moving(frames, Atoms.get_temperature),
        error_eV=_numbers(frames, "error"),
        start_error_eV=_numbers(frames, "start_error"),
        force_error_eV_per_A=_numbers(frames, "force_error"),
        builds=_numbers(frames, "builds"),
        coarse_builds=_numbers(frames, "coarse_builds"),
        paths=tuple(str(atoms.info.get(f"{PREFIX}path", "")) for atoms in frames),
        level=_last(frames, "level"),
        model=_last(frames, "model"),
    )
    if np.isnan(record.potential_eV).all() and not any(record.paths):
        raise BadInput(
            f"{path} holds no energies, and nothing of {PREFIX}*: give a trajectory of dynamics "
            "with SRDFTCalculator, as ASE writes it (.traj, .extxyz)"
        )
    return record


def _interval_fs(path: Path) -> float | None:
    """The time between two frames (fs) by the description of a ``.traj``."""
    try:
        with TrajectoryReader(path) as reader:
            described = reader.description or {}
    except (OSError, ValueError, LookupError):  # another format
        return None
    timestep = described.get("timestep")
    if not isinstance(timestep, (int, float)):
        return None
    return float(timestep) * float(described.get("interval", 1)) / ASE_TIME_PER_FS


def _potential(atoms: Atoms) -> float:
    """Its energy (eV), if it came with one."""
    if atoms.calc is None:
        return float("nan")
    try:
        return float(atoms.get_potential_energy())
    except PropertyNotImplementedError:
        return float("nan")


def _of_moving(frames: Sequence[Atoms], read: Any) -> np.ndarray:
    """A number of each frame that has momenta."""
    return np.array([read(atoms) if atoms.has("momenta") else np.nan for atoms in frames])


def _numbers(frames: Sequence[Atoms], name: str) -> np.ndarray:
    """A number of each frame's certificate."""
    values = (atoms.info.get(PREFIX + name) for atoms in frames)
    return np.array(
        [v if isinstance(v, (int, float, np.number)) else np.nan for v in values], float
    )


def _last(frames: Sequence[Atoms], name: str) -> str:
    """A word of the last certificate."""
    words = [str(atoms.info[PREFIX + name]) for atoms in frames if PREFIX + name in atoms.info]
    return words[-1] if words else ""
