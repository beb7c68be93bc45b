"""Whether ASE takes every line of an xyz file for what it is.

ASE's reader, which we use, stops at the first blank line between two frames, and leaves columns
aside that ``Properties`` does not name.  So all lines are gone through once, beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ase.io.extxyz import key_val_str_to_dict
from ase.io.formats import open_with_compression

from ase_srdft.errors import BadInput

__all__ = ["check_lines"]

#: Symbol and three coordinates.
_COLUMNS = 4


def check_lines(path: Path) -> int:
    """Go through all lines of an xyz file, plain or extended; returns the number of its frames.

    Raises:
        BadInput: a line that ASE would leave aside, or that is not what it has to be there.
        OSError: it cannot be read.
        ValueError: it is no text.
    """
    with open_with_compression(str(path)) as file:
        lines = enumerate(file, start=1)
        nframes = 0
        for number, line in lines:
            if not line.strip():
                _refuse_more(lines, path, number)
            elif nframes == 0 or not line.lstrip().startswith("VEC"):
                _check_frame(lines, path, number, line)
                nframes += 1
    return nframes


def _refuse_more(lines: Iterator[tuple[int, str]], path: Path, blank: int) -> None:
    """Nothing but blank lines may follow a blank one: ASE does not read on."""
    for number, line in lines:
        if line.strip():
            raise BadInput(
                f"line {blank} of {path} is blank, but line {number} is not: remove blank lines "
                "before, between and within frames, and whatever comes after the last"
            )


def _check_frame(
    lines: Iterator[tuple[int, str]], path: Path, header: int, first_line: str
) -> None:
    count = first_line.strip()
    if not (count.isascii() and count.isdigit()):
        raise BadInput(
            f"ASE cannot read {path}: line {header} ({_shown(first_line)}) is where a frame "
            "begins, with its number of atoms alone; correct the number of the frame before it, "
            "or remove what is no frame"
        )
    _, comment = next(lines, (0, ""))
    ncolumns, may_be_more = _columns(comment)
    for done in range(int(count)):
        number, line = next(lines, (0, ""))
        if number == 0:
            raise BadInput(
                f"ASE cannot read {path}: the frame at line {header} says {count} atoms, but the "
                f"file ends after {done} of them; it was cut short, or the number is wrong"
            )
        found = len(line.split())
        if found < ncolumns or (found > ncolumns and not may_be_more):
            raise BadInput(
                f"ASE cannot read {path}: line {number} ({_shown(line)}) has {found} columns, but "
                f"an atom of the frame at line {header} has {ncolumns}; correct it, or the number "
                "of atoms"
            )


def _columns(comment: str) -> tuple[int, bool]:
    """How many columns an atom has, and whether it may have more.

    Without ``Properties`` everything after the coordinates may be anything.
    """
    if "Properties" not in comment:
        return _COLUMNS, True
    properties = key_val_str_to_dict(comment).get("Properties")
    if not isinstance(properties, str):
        return _COLUMNS, True
    return sum(int(width) for width in properties.split(":")[2::3]), False


def _shown(line: str) -> str:
    """Enough of a line to find it."""
    words = " ".join(line.split())
    return repr(words if len(words) <= 60 else f"{words[:57]}...")
