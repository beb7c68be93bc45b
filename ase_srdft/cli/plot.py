"""``ase-srdft-plot``: a picture of a training run, or of a trajectory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ase_srdft.cli.common import Parser, above_zero, command_parser, run_command
from ase_srdft.common.atomic_files import writable_file

__all__ = ["main"]

_DESCRIPTION = """\
Draw a picture. Of the folder of a training run: bracket and energy against
training steps and against time. Of a trajectory of dynamics with our
calculator (.traj or extended xyz): energies, temperature, the bracket around
the SCF energy and the error of the forces, how the answers came about (the
model as it is, corrected, or PySCF's SCF), and the Fock matrices they took."""
_EPILOG = """\
examples:
  ase-srdft-plot run
      the training run in the folder run, into run/plot.png
  ase-srdft-plot md.traj -o md.pdf
      a trajectory
  ase-srdft-plot md.extxyz --interval 5
      one whose file does not tell the time between its frames: 5 fs

Exit codes: 0 done, 1 failed, 2 bad input."""
_PROGRAM = "ase-srdft-plot"


def _parser() -> Parser:
    parser = command_parser(_PROGRAM, _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "source", type=Path, metavar="RUN_OR_TRAJ", help="a run's folder, or a trajectory"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="a .png, .svg or .pdf (default: plot.png in the folder, NAME-plot.png beside "
        "a trajectory)",
    )
    parser.add_argument(
        "--interval",
        type=above_zero,
        metavar="FS",
        help="time between two frames of a trajectory (default: what a .traj tells)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(_parser(), _plot, arguments)


def _plot(options: argparse.Namespace) -> int:
    from ase_srdft.runs.report.dynamics_picture import write_dynamics_picture
    from ase_srdft.runs.report.dynamics_record import read_dynamics
    from ase_srdft.runs.report.picture_file import check_suffix
    from ase_srdft.runs.report.run_picture import write_run_picture

    source = _trajectory_of(options.source)
    output = options.output or _beside(source)
    check_suffix(output)
    if source.is_dir():
        _refuse_interval(options)
        write_run_picture(writable_file(output), source)
    else:
        record = read_dynamics(source, options.interval)
        write_dynamics_picture(writable_file(output), record)
    print(f"picture: {output}")
    return 0


def _trajectory_of(source: Path) -> Path:
    """That of a folder of ase-srdft-md; any other source as it is."""
    trajectory = source / "md.traj"
    return trajectory if trajectory.is_file() else source


def _beside(source: Path) -> Path:
    """Where the picture goes if nobody says."""
    return source / "plot.png" if source.is_dir() else source.with_name(f"{source.stem}-plot.png")


def _refuse_interval(options: argparse.Namespace) -> None:
    from ase_srdft.common.errors import BadInput

    if options.interval is not None:
        raise BadInput("--interval is of trajectories: leave it out for the folder of a run")


if __name__ == "__main__":
    sys.exit(main())
