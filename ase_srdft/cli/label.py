"""``ase-srdft-label``: the reference SCF of many frames, for training on labels."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ase_srdft.cli.common import Parser, command_parser, positive, run_command
from ase_srdft.cli.frames import add_frames, chosen_frames, frame_nuclei, with_progress
from ase_srdft.cli.level_input import add_level, level_values
from ase_srdft.cli.stop_request import INTERRUPTED, StopRequest
from ase_srdft.cli.words import words_apart_from
from ase_srdft.common.atomic_files import what_went_wrong, writable_file
from ase_srdft.common.errors import BadInput, WorkerFailed
from ase_srdft.dft.level_of_theory import ANSWER_GRID_LEVEL, LevelOfTheory

if TYPE_CHECKING:
    from ase_srdft.common.nuclei import Nuclei
    from ase_srdft.reference.label_frames import LabelKeys
    from ase_srdft.reference.label_run import Labelling

__all__ = ["main"]

_DESCRIPTION = """\
Label frames with PySCF's self-consistent field: energy, forces, Fock matrix
and orbital energies of each, and how long it took, in one HDF5 file (Hartree
and Bohr).  Numbers in the file of frames are not used, only the geometries.
Finished frames are kept in FILE.parts until all are done; the same command
goes on where it stopped, or was killed.  A frame whose SCF does not converge
is named and left out, and the exit code is 1 in the end.  With a FILE.extxyz
(or .xyz) the labels are in FILE.h5, and their energies and forces (eV, eV/Å)
as frames for other potentials in FILE.extxyz: under the names that ASE reads
as results, as NequIP does, and as REF_energy and REF_forces, as MACE does."""
_EPILOG = """\
examples:
  ase-srdft-label frames.traj --xc B3LYP --basis '6-31g*' -o labels.h5
      energy, forces and Fock matrix of every frame
  ase-srdft-label md17.npz --last 100 --no-forces -o labels.h5
      without forces, of the last 100 frames
  ase-srdft-label run/samples.traj --stride 10 -o train.extxyz
      what a run has sampled, as data for any potential

Exit codes: 0 done, 1 failed, 2 bad input, 75 interrupted (run it again to go
on)."""
_PROGRAM = "ase-srdft-label"
#: Endings of files of frames.
_FRAMES = (".extxyz", ".xyz")


def _parser() -> Parser:
    parser = command_parser(_PROGRAM, _DESCRIPTION, _EPILOG)
    add_frames(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".h5 or .extxyz"
    )
    parser.add_argument(
        "--keys",
        nargs=2,
        metavar=("ENERGY", "FORCES"),
        help="names in FILE.extxyz: these alone (default: energy forces, REF_energy REF_forces)",
    )
    add_level(parser, {"level.grid_level": str(ANSWER_GRID_LEVEL)})
    parser.add_argument("--no-forces", action="store_true", help="leave out forces: half the time")
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="processes (default: the cores)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    # One thread for each process, which labels frames of its own.  This must be said before
    # PySCF is loaded, here and in the processes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with StopRequest(ending="the frames in hand") as stop:
        return run_command(_parser(), lambda options: _label(options, stop), arguments)


def _label(options: argparse.Namespace, stop: StopRequest) -> int:
    from ase_srdft.reference.label_run import Labelling

    writable_file(options.output)
    store = _store(options)
    keys = _keys(options)
    nuclei, level = _at_one_charge(options)
    labelling = Labelling(
        store,
        [(each.numbers, each.positions) for each in nuclei],
        level,
        forces=not options.no_forces,
        nworkers=options.workers or len(os.sched_getaffinity(0)),
    )
    stop.attach(labelling)
    try:
        with words_apart_from(options.output):
            code = _run(labelling)
            if keys and labelling.finished:
                _write_frames(options.output, store, keys)
            return code
    except WorkerFailed as err:
        print(f"{_PROGRAM}: error: {err}", file=sys.stderr)
    except OSError as err:
        print(
            f"{_PROGRAM}: error: cannot write {err.filename or options.output} "
            f"({what_went_wrong(err)}): make room and run the same command again",
            file=sys.stderr,
        )
    return 1


def _store(options: argparse.Namespace) -> Path:
    """The file of labels, which is beside that of the frames if they are asked for.

    Raises:
        BadInput: frames would replace what they were not made from.
    """
    output: Path = options.output
    if output.suffix.lower() not in _FRAMES:
        return output
    store = output.with_suffix(".h5")
    if output.exists() and not store.exists():
        raise BadInput(
            f"{output} is there, and {store}, that it was made from, is not: give another file"
        )
    if output.exists() and Path(options.frames).exists() and output.samefile(options.frames):
        raise BadInput(f"{output} holds the frames to label: give another file")
    return writable_file(store)


def _keys(options: argparse.Namespace) -> Sequence[LabelKeys]:
    """Names for the file of frames; none if there is to be no such file.

    Raises:
        BadInput: names that cannot be, or without such a file.
    """
    from ase_srdft.reference.label_frames import BOTH, LabelKeys

    if options.output.suffix.lower() in _FRAMES:
        if options.keys is None:
            return BOTH
        return (LabelKeys(energy=options.keys[0], forces=options.keys[1]),)
    if options.keys is not None:
        raise BadInput(f"--keys are of FILE.extxyz, and not of {options.output}: leave them out")
    return ()


def _write_frames(path: Path, store: Path, keys: Sequence[LabelKeys]) -> None:
    from ase_srdft.reference.label_file import read_labels
    from ase_srdft.reference.label_frames import write_label_frames

    write_label_frames(path, read_labels(store), keys)
    print(f"frames: {path}")


def _level(options: argparse.Namespace) -> LevelOfTheory:
    given = {name.removeprefix("level."): v for name, v in level_values(options).items()}
    level = {name: value for name, value in given.items() if value is not None}
    return LevelOfTheory(**{"grid_level": ANSWER_GRID_LEVEL} | level)


def _at_one_charge(options: argparse.Namespace) -> tuple[list[Nuclei], LevelOfTheory]:
    """The frames, and their level of theory with the charge that is given or that they have.

    Raises:
        BadInput: they have several, or another.
    """
    given = level_values(options)["level.charge"]
    nuclei = frame_nuclei(chosen_frames(options), options.frames, given)
    charges = sorted({each.charge for each in nuclei})
    if len(charges) > 1:
        raise BadInput(
            f"{options.frames} has frames of charges {', '.join(map(str, charges))}: labels are "
            "of one, so make a file of each"
        )
    return nuclei, replace(_level(options), charge=charges[0])


def _run(labelling: Labelling) -> int:
    """Label, and say what came of it; returns the exit code."""
    from ase_srdft.reference.label_file import Label

    nframes, before = len(labelling.frames), labelling.ndone
    going_on = f" ({before} done before)" if before else ""
    print(f"{nframes} frames at {labelling.origin.level}{going_on}", flush=True)
    seconds = [
        result.seconds
        for result in with_progress(labelling.run(), nframes - before)
        if isinstance(result, Label)
    ]
    for failure in labelling.failures:
        print(f"{_PROGRAM}: frame {failure.frame}: {failure.reason}", file=sys.stderr)
    if not labelling.finished:
        print(f"interrupted: {labelling.ndone} of {nframes} frames; the same command goes on")
        return INTERRUPTED
    mean_time = f", {sum(seconds) / len(seconds):.2f} s each" if seconds else ", nothing left to do"
    nfailed = len(labelling.failures)
    without = f", {nfailed} without a label" if nfailed else ""
    print(f"labels: {labelling.path} ({nframes - nfailed} frames{without}{mean_time})")
    return 1 if nfailed else 0


if __name__ == "__main__":
    sys.exit(main())
