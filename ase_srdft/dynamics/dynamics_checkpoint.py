"""Where a run of dynamics is: all that the next step depends on, in one readable file.

JSON writes the shortest decimals that read back as the same double, so nothing is lost.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ase_srdft.common.atomic_files import write_atomically
from ase_srdft.common.errors import BadInput, DamagedFile

__all__ = ["CHECKPOINT", "DynamicsCheckpoint", "read_checkpoint", "write_checkpoint"]

CHECKPOINT = "checkpoint.json"
_FORMAT = "ase_srdft dynamics 1"


@dataclass(frozen=True, kw_only=True)
class DynamicsCheckpoint:
    """A run after one of its steps.

    Attributes:
        settings: that must be the same for the run to go on.
        numbers: atomic numbers.
        start: positions (natoms, 3) that it began at (Å).
        step: the step.
        positions: (natoms, 3) in Å.
        momenta: (natoms, 3) in ASE's unit, sqrt(eV·amu).
        noise: (natoms, 3), what overdamped dynamics carries on; None for other equations.
        random: state of the random generator.
        log_bytes: of the log, up to this step.
        elapsed_s: time that all sessions took.
        paths: how many answers came about by which path.
        learned: whether weights were learned, which are in the model's file of the run.
        nframes: of the trajectory, up to this step; None for one from the beginning on.
    """

    settings: dict[str, Any]
    numbers: list[int]
    start: list[list[float]]
    step: int
    positions: list[list[float]]
    momenta: list[list[float]]
    noise: list[list[float]] | None
    random: dict[str, Any]
    log_bytes: int
    elapsed_s: float
    paths: dict[str, int]
    learned: bool
    nframes: int | None = None


def write_checkpoint(directory: Path, checkpoint: DynamicsCheckpoint) -> None:
    """Replace that of a run, in one go.

    Raises:
        OSError: it cannot be written; the last one is still there.
    """
    text = json.dumps({"format": _FORMAT, **asdict(checkpoint)})
    write_atomically(directory / CHECKPOINT, text + "\n")


def read_checkpoint(directory: Path) -> DynamicsCheckpoint | None:
    """That of a run; None if there is none.

    Raises:
        DamagedFile: it cannot be read, or is another program's.
        BadInput: the run's folder is a file.
    """
    path = directory / CHECKPOINT
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
            raise ValueError(f"it is no {_FORMAT!r}")
        checkpoint = DynamicsCheckpoint(**values)
        shape = (len(checkpoint.numbers), 3)
        for name in ("start", "positions", "momenta"):
            array = np.array(getattr(checkpoint, name), dtype=float)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"its {name} are no numbers of {shape[0]} atoms")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise BadInput(f"{directory} is a file: give the name of a folder for the run") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise DamagedFile(
            f"{path} is damaged, or none of ours ({err}): restore it, move it away, or run in "
            "another folder"
        ) from err
    return checkpoint
