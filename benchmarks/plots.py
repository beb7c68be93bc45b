"""How the campaigns' figures look: one style, colours that every eye tells apart, log axes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: Of Okabe and Ito (jfly.uni-koeln.de/color), one for each model.
COLOURS = {
    "fock": "#0072B2",
    "coefficient": "#E69F00",
    "qpt": "#009E73",
    "supervised": "#CC79A7",
}
#: The paper's numbers are grey, the lighter the less it was given.
GREYS = ("#4D4D4D", "#8C8C8C", "#C4C4C4")
SOFT = "#5A6470"
#: Of the words around the panels, in inches, and characters of the footer to an inch.
_HEADING, _LEGEND_ROW, _FOOTER_LINE, _FOOTER_CHARACTERS = 0.32, 0.21, 0.115, 20
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9AA4B0",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E8EC",
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "savefig.dpi": 200,
}


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One series of a bar chart: a value for each group; None where there is none."""

    label: str
    colour: str
    values: tuple[float | None, ...]


def panels(
    titles: Sequence[str], width: float, height: float, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of one panel for each title, row by row; sizes of a panel in inches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, style

    style.use(_STYLE)
    rows = -(-len(titles) // columns)
    size = (width * columns, height * rows + 1.2)  # with the words above and below
    figure, grid = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for unused in axes[len(titles) :]:
        unused.remove()
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(title)
    return figure, axes[: len(titles)]


def grouped_bars(axis: Axes, groups: Sequence[str], series: Sequence[Bars]) -> None:
    """Bars on a log axis, with their values above them."""
    width = 0.84 / max(len(series), 1)
    values = [value for bars in series for value in bars.values if value]
    if not values:
        say_nothing_yet(axis)
        return
    axis.set_yscale("log")
    upright = len(series) > 3
    bottom, highest = 0.4 * min(values), max(values)
    room = max(3.0, (highest / bottom) ** 0.22) if upright else 3.0  # for the label of the highest
    axis.set_ylim(bottom, room * highest)
    for index, bars in enumerate(series):
        offset = (index - (len(series) - 1) / 2) * width
        for group, value in enumerate(bars.values):
            if not value:
                continue
            place = group + offset
            axis.bar(place, value - bottom, 0.92 * width, bottom, color=bars.colour)
            axis.annotate(
                short(value),
                (place, value),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                rotation=90 if upright else 0,
                fontsize=6.5,
                color=SOFT,
            )
        axis.bar(0, 0, color=bars.colour, label=bars.label)
    axis.set_xticks(range(len(groups)), groups)
    axis.tick_params(axis="x", length=0, labelcolor="black")
    axis.grid(axis="x", visible=False)
    plain_ticks(axis.yaxis)


def short(value: float) -> str:
    """Two significant digits at least, for labels of bars."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def plain_ticks(axis: Axis) -> None:
    """Numbers as one reads them on a log axis, decades and, where there is room, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(_decimal))
    axis.set_minor_formatter(NullFormatter())


def _decimal(value: float, place: int | None = None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def say_nothing_yet(axis: Axes) -> None:
    """In place of data that is not there yet."""
    axis.text(0.5, 0.5, "no finished run yet", transform=axis.transAxes, ha="center", color=SOFT)
    axis.set_xticks([])
    axis.set_yticks([])


def save(
    figure: Figure,
    path: Path,
    heading: str,
    notes: Sequence[str],
    legend_columns: int = 4,
) -> None:
    """With a heading above, and below one legend for all panels and where the data come from."""
    from matplotlib import pyplot

    height = figure.get_figheight()
    characters = int(figure.get_figwidth() * _FOOTER_CHARACTERS)
    footer = [line for note in notes for line in textwrap.wrap(note, characters)]
    entries = _legend_entries(figure)
    columns = max(1, min(legend_columns, len(entries)))
    top = _FOOTER_LINE * (len(footer) + 1)  # of the footer, in inches
    below = top + _LEGEND_ROW * -(-len(entries) // columns) + 0.1
    rect = (0, below / height, 1, 1 - (below + _HEADING) / height)
    figure.set_layout_engine("constrained", rect=rect)
    figure.text(0.012, 1 - 0.1 / height, heading, va="top", fontsize=11.5, fontweight="bold")
    figure.text(0.012, top / height, "\n".join(footer), va="top", fontsize=6.5, color=SOFT)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="lower left",
        bbox_to_anchor=(0.0, top / height),
        ncols=columns,
        fontsize=8,
    )
    figure.savefig(path)
    pyplot.close(figure)
    print(f"figure: {path}")


def _legend_entries(figure: Figure) -> dict[str, Artist]:
    """Label and handle of all panels, each label once."""
    found: dict[str, Artist] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return found
