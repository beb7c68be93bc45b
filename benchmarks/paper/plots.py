"""How the figures look: one style, colours that every eye tells apart, logarithmic axes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rows import COMPARED, Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

#: Of Okabe and Ito (jfly.uni-koeln.de/color), one for each model; the paper's numbers are grey.
COLOURS = {
    "fock": "#0072B2",
    "potential": "#D55E00",
    "fine-tuned": "#56B4E9",
    "coefficient": "#E69F00",
    "qpt": "#009E73",
    "supervised": "#CC79A7",
    "paper": "#8C8C8C",
}
#: Solid for those that train on samples of their own, dashed for the others.
LINES = {True: "-", False: "--"}
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E8EC",
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "savefig.dpi": 200,
}


@contextmanager
def figure(
    path: Path, titles: Collection[str], size: tuple[float, float], columns: int = 1
) -> Iterator[list[Axes]]:
    """A file with a panel for each title, row by row, and one legend below for all of them.

    Args:
        path: of the file, written at the end.
        titles: of the panels.
        size: width and height of a panel, in inches.
        columns: panels beside each other.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, style

    nrows = -(-len(titles) // columns)
    whole = (size[0] * columns, size[1] * nrows + 0.6)  # with the legend
    with style.context(_STYLE):
        drawn, grid = pyplot.subplots(
            nrows, columns, figsize=whole, squeeze=False, layout="constrained"
        )
        for axis, title in zip(grid.flat, titles, strict=True):
            axis.set_title(title)
        yield list(grid.flat)
        entries: dict[str, Artist] = {}
        for axis in drawn.axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                entries.setdefault(label, handle)
        if entries:
            drawn.legend(entries.values(), entries, loc="outside lower left", ncols=2)
        drawn.savefig(path)
        pyplot.close(drawn)
    print(f"figure: {path}")


def error_bars(axis: Axes, rows: Sequence[Row]) -> None:
    """The errors of `COMPARED` of each row on a logarithmic axis, with their values above them."""
    if not rows:
        return
    values = [error for row in rows for error in row.errors if error]
    width, bottom = 0.84 / len(rows), 0.4 * min(values)
    models = [row.model for row in rows]
    for index, row in enumerate(rows):
        places = [group + (index - (len(rows) - 1) / 2) * width for group in range(len(COMPARED))]
        bars = axis.bar(
            places,
            [(error or bottom) - bottom for error in row.errors],
            0.92 * width,
            bottom,
            color=COLOURS[row.model],
            alpha=0.6 ** models[:index].count(row.model),
            label=f"{row.model}: {row.training}",
        )
        words = [f"{each:,.{0 if each >= 100 else 1}f}" if each else "" for each in row.errors]
        axis.bar_label(bars, words, padding=2, fontsize=6.5, rotation=90)
    axis.set_yscale("log")
    top = max(values)
    axis.set_ylim(bottom, top * max(3.0, (top / bottom) ** 0.22))  # with room for the words
    axis.set_xticks(range(len(COMPARED)), COMPARED)
    axis.set_ylabel("mean absolute error / µEh")
    plain_ticks(axis.yaxis)


def logarithmic(axis: Axes, x: str, y: str) -> None:
    """Both axes, with their labels."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    plain_ticks(axis.xaxis)
    plain_ticks(axis.yaxis)
    axis.set_xlabel(x)
    axis.set_ylabel(y)


def plain_ticks(axis: Axis) -> None:
    """Numbers as one reads them on a log axis, decades and, where there is room, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
