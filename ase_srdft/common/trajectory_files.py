"""Trajectories of ASE that go on: cut back to what a checkpoint knows of."""

from __future__ import annotations

from pathlib import Path

from ase.io.trajectory import Trajectory, TrajectoryReader

from ase_srdft.common.atomic_files import remove_file, replace_atomically
from ase_srdft.common.errors import DamagedFile

__all__ = ["trim_trajectory"]


def trim_trajectory(path: Path, nframes: int) -> None:
    """Keep the first frames of a trajectory; a torn end is what this is for.

    Args:
        path: of the file, which need not be there.
        nframes: to keep; where there are none, nor is there a file.

    Raises:
        DamagedFile: it cannot be read.
    """
    if not nframes:
        remove_file(path)
    if not path.exists():
        return

    def write(beside: Path) -> None:
        with Trajectory(beside, "w") as writer:
            # times of dynamics follow from it
            writer.set_description(reader.description or {})
            for index in range(nframes):
                writer.write(reader[index])

    try:
        with TrajectoryReader(path) as reader:
            if len(reader) > nframes:
                replace_atomically(path, write)
            elif len(reader):
                reader[-1]  # all there?
    except (OSError, ValueError, LookupError) as err:
        raise DamagedFile(
            f"{path} is damaged ({err}): move it away, and the run goes on with a new one"
        ) from err
