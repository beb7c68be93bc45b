"""Pictures as files of their own, by matplotlib: PNG, SVG or PDF, as the name says."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ase_srdft.common.atomic_files import write_atomically
from ase_srdft.common.errors import BadInput
from ase_srdft.runs.report.drawing import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "check_suffix", "write_picture"]

#: Endings of names, in lower case.
PICTURES = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 150
_POINTS_PER_INCH = 72


def check_suffix(path: Path, suffixes: tuple[str, ...] = PICTURES) -> str:
    """The ending of a name, in lower case.

    Raises:
        BadInput: it is none of these.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise BadInput(f"{path}: give the name of a picture that ends in {', '.join(suffixes)}")
    return suffix


def write_picture(path: Path, size: tuple[float, float], draw: Callable[[Figure], object]) -> None:
    """Draw and write, in one go; the same bytes for the same drawing, but for a PDF's.

    Args:
        path: of the file; its ending chooses the format.
        size: width and height in points.
        draw: puts axes and lines on an empty figure.

    Raises:
        BadInput: another ending than those of ``PICTURES``.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    suffix = check_suffix(path)
    file = io.BytesIO()
    own = {"figure.facecolor": "white", "svg.hashsalt": "picture"}
    with style.context(["default", STYLE | own]):
        figure = Figure(figsize=(size[0] / _POINTS_PER_INCH, size[1] / _POINTS_PER_INCH))
        draw(figure)
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(file, format=suffix[1:], dpi=_DOTS_PER_INCH, metadata=metadata)
    write_atomically(path, file.getvalue())
