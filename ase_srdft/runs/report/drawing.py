"""Drawings by matplotlib as inline SVG in the colours of the page, light or dark.

A drawing is made in the light colours; each of them is then replaced by the CSS variable of its
name, so that the page chooses.  Text stays text, in the page's own font.  Neither ``pyplot`` nor
a global setting is touched, and matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ase_srdft.runs.report.words import markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "SERIES", "STYLE", "colour_variables", "inline_svg"]

#: Light and dark.  Blue and orange differ for every eye, and series differ in shape as well.
COLOURS = {
    "text": ("#17202b", "#e7ebf0"),
    "soft": ("#56616f", "#a2adba"),
    "grid": ("#e9ecf0", "#28303b"),
    "axis": ("#9aa4b0", "#66717e"),
    "blue": ("#0a6fb8", "#62b4f0"),
    "orange": ("#d0540b", "#ff9a57"),
    "green": ("#2f9f80", "#3ba98a"),
    "violet": ("#b678b0", "#bd86b8"),
    "yellow": ("#c9a227", "#cfab3b"),
    "grey": ("#8a94a0", "#7d8894"),
}
#: Colours of several series, in this order.
SERIES = tuple(COLOURS[name][0] for name in ("blue", "orange", "green", "violet", "yellow", "grey"))

_SOFT, _AXIS, _TEXT = COLOURS["soft"][0], COLOURS["axis"][0], COLOURS["text"][0]
#: Of all drawings.
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": _TEXT,
    "font.size": 12,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.titlecolor": _SOFT,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _AXIS,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": COLOURS["grid"][0],
    "xtick.color": _AXIS,
    "xtick.labelcolor": _SOFT,
    "ytick.color": _AXIS,
    "ytick.labelcolor": _SOFT,
    "ytick.left": False,
    "ytick.minor.left": False,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "legend.borderpad": 0.0,
    "lines.linewidth": 1.6,
}
_Result = TypeVar("_Result")


def colour_variables(dark: bool) -> str:
    """The colours as CSS variables."""
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in COLOURS.items())


def inline_svg(
    name: str, description: str, size: tuple[float, float], draw: Callable[[Figure], _Result]
) -> tuple[str, _Result]:
    """An ``<svg>`` element, the same for the same input, and what the drawing function gave back.

    Args:
        name: unique on its page: letters, digits and hyphens.
        description: what it shows, for those who cannot see it.
        size: width and height in points; on a page it scales with its column.
        draw: puts axes and lines on an empty figure.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    file = io.StringIO()
    with style.context(["default", STYLE | {"svg.hashsalt": name}]):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        result = draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
    label = f'<svg role="img" aria-label="{markup(description)}"'
    return _for_page(file.getvalue(), name).replace("<svg", label, 1), result


def _for_page(svg: str, name: str) -> str:
    """What matplotlib made for a file, for the inside of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    # Some versions write one "font", others "font-size" and "font-family".
    svg = re.sub(r"font: (?:\d+ )?([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r' id="', f' id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{colour})")
    return re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
