"""What plots share: lines of many points, horizontal axes of steps or time, ranges and scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ase_srdft.runs.report.drawing import COLOURS
from ase_srdft.runs.report.history import End, History, Sampling, Start, Training, Validation
from ase_srdft.runs.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "STEPS",
    "Clock",
    "Points",
    "against",
    "elapsed_time",
    "finite",
    "legend",
    "level_line",
    "line",
    "log_range",
    "log_scale",
    "value_range",
]

#: Points of a line: more would make the page slow and show nothing new.
_MOST_POINTS = 400
Points = list[tuple[float, float]]
_Record = Start | Training | Sampling | Validation | End


@dataclass(frozen=True, kw_only=True)
class Clock:
    """What the horizontal axis of a run counts.

    Attributes:
        label: of the axis.
        read: where a record is on it.
        whole: whether it counts.
    """

    label: str
    read: Callable[[_Record], float]
    whole: bool = False


STEPS = Clock(label="training steps", read=lambda record: float(record.step), whole=True)


def elapsed_time(history: History) -> Clock:
    """The time that the training of a run has taken, in seconds, minutes or hours."""
    last = history.last
    total = last.elapsed_s if last else 0.0
    for unit, seconds in (("hours", 3600.0), ("minutes", 60.0)):
        if total >= 2.0 * seconds:
            return _time(unit, seconds)
    return _time("seconds", 1.0)


def _time(unit: str, seconds: float) -> Clock:
    return Clock(label=f"{unit} of training", read=lambda record: record.elapsed_s / seconds)


def finite(points: Iterable[tuple[float, float]]) -> Points:
    """The points with a finite height."""
    return [(float(x), float(y)) for x, y in points if math.isfinite(y)]


def line(
    axes: Axes, points: Iterable[tuple[float, float]], label: str, fmt: str = "-", **style: object
) -> None:
    """The finite points, of many the means of neighbours."""
    shown = finite(points)
    if not shown:
        return
    array = np.array(shown)
    if len(shown) > _MOST_POINTS:
        groups = np.array_split(array, _MOST_POINTS)
        array = np.array([group.mean(axis=0) for group in groups])
    style = {"markersize": 5.5} | style if fmt != "-" else style
    axes.plot(array[:, 0], array[:, 1], fmt, label=label, **style)  # type: ignore[arg-type]


def level_line(axes: Axes, value: float, label: str) -> None:
    """A dashed line across the axes."""
    axes.axhline(value, color=COLOURS["soft"][0], linewidth=1.2, linestyle="--", label=label)


def against(axes: Axes, clock: Clock, history: History, title: str) -> None:
    """Steps or time of a run as the horizontal axis, the quantity above it, and a legend."""
    from matplotlib.ticker import MaxNLocator

    last = history.last
    end = clock.read(last) if last else 0.0
    axes.set_xlim(0.0, 1.03 * (max(1.0, end) if clock.whole else end or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=clock.whole))
    axes.xaxis.set_major_formatter("{x:,.0f}" if clock.whole else "{x:g}")
    axes.set_xlabel(clock.label)
    axes.set_title(title)
    if axes.get_yscale() != "log":
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    legend(axes)


def legend(axes: Axes, least: int = 2, ncols: int | None = None) -> None:
    """A legend above the axes, if there are so many series at least."""
    nseries = len(axes.get_legend_handles_labels()[0])
    if nseries >= least:
        ncols = ncols or (2 if nseries < 6 else 3)
        axes.figure.legend(loc="outside upper left", ncols=ncols)


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """The values with a margin."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - room, high + room


def log_range(values: Sequence[float]) -> tuple[float, float]:
    """Positive values with a margin, at least a factor of six apart, for ticks at 1, 2 and 5."""
    low, high = min(values), max(values)
    room = max(1.15, (high / low) ** 0.06, math.sqrt(6.0 * low / high))
    return low / room, high * room


def log_scale(axes: Axes, axis: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, or at the decades."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low, high)})
    ticks = axes.xaxis if axis == "x" else axes.yaxis
    ticks.set_major_locator(LogLocator(subs=(1.0,) if high > 100.0 * low else (1.0, 2.0, 5.0)))
    ticks.set_minor_locator(NullLocator())
    ticks.set_major_formatter(lambda value, _: number(value))
