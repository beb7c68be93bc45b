"""Whether ASE takes every line of an xyz file for what it is.

ASE's reader, which we use, stops at the first blank line between two frames, leaves columns aside
that ``Properties`` does not name, and the first of two equal keys.  So all lines are gone through
once, beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict
from ase.io.formats import open_with_compression

from ase_srdft.common.charges import is_stated
from ase_srdft.common.errors import BadInput

__all__ = ["check_lines"]

_KEY = re.compile(r"([A-Za-z][\w-]*)\s*=")
#: A comment line that is nothing but charge and multiplicity, as in Gaussian's and ORCA's inputs.
_CHARGE_AND_MULTIPLICITY = re.compile(r"\s*([-+]?\d)\s+([1-9])\s*")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How the lines of a frame's atoms are laid out.

    Attributes:
        ncolumns: how many there are; by default a symbol and three coordinates.
        exact: whether there may be no more; without ``Properties`` anything may follow.
        symbol: column of the element's symbol.
        number: column of the atomic number; both only if there are both.
    """

    ncolumns: int = 4
    exact: bool = False
    symbol: int | None = None
    number: int | None = None


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
    layout = _layout(comment, path, header + 1)
    for done in range(int(count)):
        number, line = next(lines, (0, ""))
        if number == 0:
            raise BadInput(
                f"ASE cannot read {path}: the frame at line {header} says {count} atoms, but the "
                f"file ends after {done} of them; it was cut short, or the number is wrong"
            )
        wrong = _wrong(line.split(), layout)
        if wrong:
            raise BadInput(
                f"ASE cannot read {path}: line {number} ({_shown(line)}) {wrong} by the frame at "
                f"line {header}; correct it, or the number of atoms"
            )


def _wrong(words: list[str], layout: _Layout) -> str:
    """What is wrong with an atom's line; empty if nothing."""
    if len(words) < layout.ncolumns or (len(words) > layout.ncolumns and layout.exact):
        return f"has {len(words)} columns, but must have {layout.ncolumns}"
    if layout.symbol is not None and layout.number is not None:
        symbol, number = words[layout.symbol], words[layout.number]
        if str(atomic_numbers.get(symbol.capitalize())) != number:
            return f"has the element {symbol} with the atomic number {number}, which must agree"
    return ""


def _layout(comment: str, path: Path, line: int) -> _Layout:
    """What the comment line says of the lines that follow, once it is sure that ASE heeds it all.

    Raises:
        BadInput: charge or spin twice, within quotes, or as two bare numbers; ``Properties``
            without an element and a position.
    """
    numbers = _CHARGE_AND_MULTIPLICITY.fullmatch(comment)
    if numbers and (int(numbers[1]), int(numbers[2])) != (0, 1):
        raise BadInput(
            f"line {line} of {path} ({_shown(comment)}) reads like a charge and a multiplicity, "
            f"which ASE leaves aside: write charge={int(numbers[1])} multiplicity={numbers[2]}, or "
            "another comment"
        )
    keys = [key for key in _KEY.findall(comment) if is_stated(key)]
    if not keys and "Properties" not in comment:
        return _Layout()
    values = key_val_str_to_dict(comment)
    for key in keys:
        if keys.count(key) > 1 or key not in values:
            raise BadInput(
                f"line {line} of {path} has {key}= twice or within quotes ({_shown(comment)}); "
                "keep one, outside of quotes"
            )
    properties = values.get("Properties")
    if not isinstance(properties, str):
        return _Layout()
    fields = properties.split(":")
    ends = list(accumulate(map(int, fields[2::3])))
    widths = dict(zip(fields[::3], fields[2::3], strict=True))
    first = dict(zip(fields[::3], [0, *ends[:-1]], strict=True))
    both = "species" in first and "Z" in first
    if widths.get("pos") != "3" or not ("species" in first or "Z" in first):
        raise BadInput(
            f"line {line} of {path} has Properties={properties}, without pos:R:3 and species:S:1 "
            "(or Z:I:1); name the columns of elements and positions so"
        )
    return _Layout(
        ncolumns=ends[-1],
        exact=True,
        symbol=first["species"] if both else None,
        number=first["Z"] if both else None,
    )


def _shown(line: str) -> str:
    """Enough of a line to find it."""
    words = " ".join(line.split())
    return repr(words if len(words) <= 60 else f"{words[:57]}...")
