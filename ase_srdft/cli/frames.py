"""What commands that go through frames share: which ones, of which charge, and how far they are."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ase_srdft.cli.common import Parser, positive
from ase_srdft.cli.progress_line import shows_bars
from ase_srdft.common.errors import StructuresLeftOut

if TYPE_CHECKING:
    from ase import Atoms

    from ase_srdft.common.nuclei import Nuclei

__all__ = ["add_frames", "chosen_frames", "frame_nuclei", "read_structures", "with_progress"]

#: Seconds between two lines of progress where there is no terminal.
_PROGRESS_INTERVAL = 10.0

_Item = TypeVar("_Item")


def add_frames(parser: Parser, needed: bool = True) -> None:
    """The file of frames, and the options that choose among them.

    Args:
        parser: of a command.
        needed: whether the command can do nothing without the file.
    """
    parser.add_argument(
        "frames",
        nargs=None if needed else "?",
        metavar="FRAMES",
        help="any format of ASE, an MD17 .npz, a .smi file of SMILES, smiles:CCO, or g2:CH3OH",
    )
    choice = parser.add_argument_group("which frames (in this order; default: all)")
    choice.add_argument("--last", type=positive, metavar="N", help="only the last N of the file")
    choice.add_argument(
        "--stride", type=positive, metavar="K", default=1, help="of these, every K-th"
    )
    choice.add_argument("--limit", type=positive, metavar="N", help="of these, the first N")


def chosen_frames(options: argparse.Namespace) -> list[Atoms]:
    """The frames that the options of `add_frames` ask for.

    Raises:
        BadInput: the file cannot be used.
    """
    enough = None
    if options.limit is not None and options.last is None:
        enough = (options.limit - 1) * options.stride + 1
    frames = read_structures(options.frames, enough)
    if options.last is not None:
        frames = frames[-options.last :]
    return frames[:: options.stride][: options.limit]


def read_structures(source: str, limit: int | None = None, conformers: int = 1) -> list[Atoms]:
    """What `ase_srdft.common.structures.read_frames` reads; what it leaves out is said on stderr.

    Raises:
        BadInput: the file or the name cannot be used.
    """
    from ase_srdft.common.structures import read_frames

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StructuresLeftOut)
        frames = read_frames(source, limit, conformers)
    for warning in caught:
        if issubclass(warning.category, StructuresLeftOut):
            print(f"{source}: {warning.message}", file=sys.stderr)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return frames


def frame_nuclei(frames: Sequence[Atoms], path: Path | str, charge: int | None) -> list[Nuclei]:
    """The nuclei of frames whose own charges and spins do not contradict a charge.

    Args:
        frames: of the file.
        path: of the file.
        charge: of all (e); None for what each says itself.

    Raises:
        BadInput: they are not; naming the frame, from 0 among those given.
    """
    from ase_srdft.common.nuclei import nuclei_of

    return [
        nuclei_of(atoms, charge, what=f"frame {index} of {path}")
        for index, atoms in enumerate(frames)
    ]


def with_progress(items: Iterable[_Item], nframes: int) -> Iterator[_Item]:
    """Pass the items on, with a bar on a terminal and a line now and then elsewhere."""
    if shows_bars(sys.stderr):
        from rich.console import Console
        from rich.progress import track

        yield from track(items, "frames", total=nframes, console=Console(stderr=True))
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > _PROGRESS_INTERVAL:
            last = time.monotonic()
            print(f"{done} of {nframes} frames", file=sys.stderr, flush=True)
