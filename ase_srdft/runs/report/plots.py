"""The plots of a report: each draws what a run has logged, and says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np

from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.runs.report.drawing import COLOURS, SERIES
from ase_srdft.runs.report.history import History, by_molecule
from ase_srdft.runs.report.words import CHEMICAL_ACCURACY_UEH, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "Plot"]

_BLUE, _ORANGE, _TEXT, _SOFT = (COLOURS[name][0] for name in ("blue", "orange", "text", "soft"))
#: Points of a line: more would make the page slow and show nothing new.
_MOST_POINTS = 400
Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot by its function.

    Attributes:
        name: unique on the page.
        heading: what is plotted.
        draw: puts the data on axes, of the molecules by their names, and gives the caption; leaves
            the axes empty where there is nothing to show, and says why.
    """

    name: str
    heading: str
    draw: Callable[[Axes, History, Sequence[str]], str]

    def draw_on(self, figure: Figure, history: History, names: Sequence[str]) -> tuple[str, bool]:
        """Draw on an empty figure; the caption, and whether there was anything to draw."""
        figure.set_layout_engine("constrained", h_pad=0.08)
        axes = figure.add_subplot()
        caption = self.draw(axes, history, names)
        return caption, axes.has_data()


def draw_bracket(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Bracket width against training steps, logarithmic."""
    training = [(r.step, r.bracket_width_uEh) for r in history.training]
    mean = [(r.step, r.bracket_width_uEh) for r in history.validation]
    largest = [(r.step, r.bracket_width_max_uEh) for r in history.validation]
    shown = [y for _, y in [*training, *mean, *largest] if math.isfinite(y) and y > 0]
    if not shown:
        return "No bracket widths have been logged yet."
    _line(axes, [(x, y) for x, y in training if y > 0], "training batches", color=_BLUE)
    _line(axes, mean, "held out: mean", fmt="o", color=_ORANGE)
    _line(axes, largest, "held out: maximum", fmt="v", color=_TEXT, markersize=5)
    if history.certified is not None:
        saved = [(history.certified.step, history.certified.bracket_width_uEh)]
        _line(axes, saved, "the saved model", fmt="o", color=_TEXT, fillstyle="none", markersize=11)
    _log_scale(axes, "y", *_log_range([*shown, CHEMICAL_ACCURACY_UEH]))
    _level(axes, CHEMICAL_ACCURACY_UEH, "chemical accuracy")
    _against_steps(axes, history, "bracket width in microhartree (µEh)")
    odd = sum(1 for _, y in [*training, *mean] if not y > 0)
    return (
        "How far the model’s energy can be from the converged one. Batches: weights of the moment, "
        "coarser grid. Held out: averaged weights, the grid of the level of theory."
        + (f" Not shown: {odd} values that are not above zero." if odd else "")
    )


def draw_energy(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Mean energy against training steps, counted from the lowest held-out mean."""
    training = _finite([(r.step, r.energy_hartree) for r in history.training])
    held_out = _finite([(r.step, r.energy_hartree) for r in history.validation])
    caption = "The energy is what training lowers: without labels, and it cannot be too low."
    if held_out and len(names) > 1:
        training = []
        caption += " Batches are left out: their mean depends on which molecules they hold."
    if not training and not held_out:
        return "No energies have been logged yet."
    zero = min(y for _, y in held_out or training)
    line, marks = ([(x, (y - zero) * 1e3) for x, y in points] for points in (training, held_out))
    highest = float(np.quantile([y for _, y in line], 0.93)) if len(line) >= 30 else math.inf
    low, high = _range([y for _, y in line if y <= highest] + [y for _, y in marks])
    _line(axes, line, "training batches", color=_BLUE)
    _line(axes, marks, "held out", fmt="o", color=_ORANGE)
    axes.set_ylim(low, high)
    above = f"{zero:.5f}".replace("-", "−")
    _against_steps(axes, history, f"millihartree (mEh) above {above} hartree")
    top = max((y for _, y in line), default=0.0)
    return caption + (f" The first steps, up to {number(top)} mEh, are cut." if top > high else "")


def draw_widths(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Distribution of the bracket of the late samples, with its maximum."""
    widths = history.late_widths_uEh()
    pooled = [width for own in widths.values() for width in own]
    if not pooled:
        return _why_empty(history)
    largest, mean = max(pooled), sum(pooled) / len(pooled)
    low, high = _log_range(pooled)
    _stack(axes, widths, np.geomspace(low, high, _nbins(len(pooled)) + 1), names)
    axes.axvline(largest, color=_TEXT, linestyle="--", label=f"maximum: {number(largest)} µEh")
    _log_scale(axes, "x", low, high)
    axes.set_title("sampled geometries")
    axes.set_xlabel("bracket width in microhartree (µEh)")
    _legend(axes)
    return (
        f"Of the last {number(len(pooled))} samples (a quarter of the rounds), each by the model "
        f"that sampled it: mean {number(mean)} µEh, maximum {number(largest)} µEh."
    )


def draw_sampled_energies(axes: Axes, history: History, names: Sequence[str]) -> str:
    """How often which energy was sampled."""
    energies = by_molecule(history.sampling, "energies_hartree")
    nsamples = sum(map(len, energies.values()))
    if not nsamples:
        return _why_empty(history)
    lowest = {molecule: min(own) for molecule, own in energies.items()}
    above = {
        molecule: [(energy - lowest[molecule]) * EV_PER_HARTREE for energy in own]
        for molecule, own in energies.items()
    }
    top = max(map(max, above.values())) or 1e-6
    _stack(axes, above, np.linspace(0.0, top, _nbins(nsamples) + 1), names)
    axes.set_title("sampled geometries")
    axes.set_xlabel("energy above the lowest, electronvolt (eV)")
    _legend(axes)
    return "Each energy is the model’s own when it sampled, above the lowest of its molecule."


def draw_temperature(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Temperature of the walkers against training steps."""
    points = _finite([(r.step, r.temperature_K) for r in history.sampling])
    if not points:
        return _why_empty(history)
    values = np.array([y for _, y in points])
    window = min(len(points), max(4, len(points) // 12))
    means = np.convolve(values, np.full(window, 1.0 / window), "valid")
    running = [(x, float(y)) for (x, _), y in zip(points[window - 1 :], means, strict=True)]
    _line(axes, points, "each round", fmt="o", color=_BLUE, markersize=3.5, alpha=0.6)
    _line(axes, running, f"mean of {window} rounds", color=_ORANGE, linewidth=2.2)
    target = history.setting("sampling", "temperature_K")
    known = [float(target)] if isinstance(target, (int, float)) else []
    axes.set_ylim(_range([*np.quantile(values, [0.01, 0.99]).tolist(), *known, *means.tolist()]))
    for value in known:
        _level(axes, value, f"wanted: {number(value)} K")
    _against_steps(axes, history, "temperature in kelvin (K)")
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    spread = f" ± {number(float(error), 2)} K (standard error)" if math.isfinite(error) else " K"
    return f"Mean over the run: {number(float(values.mean()))}{spread}. Few walkers scatter widely."


def draw_acceptance(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Share of accepted moves or kept samples, and the rounds in which walkers were reset."""
    points = _finite([(r.step, 100.0 * r.acceptance) for r in history.sampling])
    if not points:
        return _why_empty(history)
    with_resets = [
        (r.step, 100.0 * r.acceptance) for r in history.sampling if any(r.resets.values())
    ]
    _line(axes, points, "accepted", color=_BLUE)
    _line(axes, with_resets, "with resets", fmt="o", color=_ORANGE)
    axes.set_ylim(0.0, 108.0)
    _against_steps(axes, history, "accepted in each round, per cent (%)")
    mean = sum(y for _, y in points) / len(points)
    resets = history.resets
    reasons = ", ".join(f"{reason}: {number(count)}" for reason, count in resets.most_common())
    return (
        f"Moves accepted, or samples kept: {number(mean)} % on average. Walkers reset or samples "
        f"refused: {number(resets.total())}{f' ({reasons})' if reasons else ''}."
    )


PLOTS = (
    Plot(name="bracket", heading="Certified error over training", draw=draw_bracket),
    Plot(name="widths", heading="Certified error of the samples", draw=draw_widths),
    Plot(name="energy", heading="Mean energy over training", draw=draw_energy),
    Plot(name="temperature", heading="Temperature of the samples", draw=draw_temperature),
    Plot(name="energies", heading="Energies of the samples", draw=draw_sampled_energies),
    Plot(name="acceptance", heading="Acceptance", draw=draw_acceptance),
)


def _why_empty(history: History) -> str:
    """A sentence for a plot that has nothing of samples to show."""
    if history.sampling:
        return "The dynamics of this run has logged no such values."
    if history.setting("self_refine") is False:
        return "Nothing was sampled: this run trains on the given frames alone."
    safe = history.setting("safe_width_mEh")
    until = f" is below {number(float(safe) * 1e3)} µEh" if isinstance(safe, (int, float)) else ""
    return f"Nothing was sampled yet: dynamics starts once the bracket{until or ' is narrow'}."


def _nbins(nvalues: int) -> int:
    return int(np.clip(round(1.5 * nvalues**0.4), 5, 36))


def _stack(
    axes: Axes, values: dict[int, list[float]], bins: np.ndarray, names: Sequence[str]
) -> None:
    """A histogram of several molecules, one on top of the other; late ones share a colour."""
    own = list(values.values())
    labels = [names[m] if 0 <= m < len(names) else f"molecule {m + 1}" for m in values]
    if len(own) > len(SERIES):
        kept = len(SERIES) - 1
        own[kept:], labels[kept:] = [list(chain(*own[kept:]))], ["others"]
    axes.hist(own, bins.tolist(), stacked=True, color=SERIES[: len(own)], label=labels, rwidth=0.94)


def _finite(points: Iterable[tuple[float, float]]) -> Points:
    return [(float(x), float(y)) for x, y in points if math.isfinite(y)]


def _line(
    axes: Axes, points: Iterable[tuple[float, float]], label: str, fmt: str = "-", **style: object
) -> None:
    """The finite points, of many the means of neighbours."""
    shown = _finite(points)
    if not shown:
        return
    array = np.array(shown)
    if len(shown) > _MOST_POINTS:
        groups = np.array_split(array, _MOST_POINTS)
        array = np.array([group.mean(axis=0) for group in groups])
    style = {"markersize": 5.5} | style if fmt != "-" else style
    axes.plot(array[:, 0], array[:, 1], fmt, label=label, **style)  # type: ignore[arg-type]


def _level(axes: Axes, value: float, label: str) -> None:
    axes.axhline(value, color=_SOFT, linewidth=1.2, linestyle="--", label=label)


def _against_steps(axes: Axes, history: History, title: str) -> None:
    """Training steps as the horizontal axis, the quantity above it, and a legend."""
    from matplotlib.ticker import MaxNLocator

    last = history.last
    axes.set_xlim(0.0, 1.03 * max(1, last.step if last else 1))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("training steps")
    axes.set_title(title)
    if axes.get_yscale() != "log":
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    _legend(axes)


def _legend(axes: Axes) -> None:
    """A legend above the axes, if there is more than one series."""
    nseries = len(axes.get_legend_handles_labels()[0])
    if nseries > 1:
        axes.figure.legend(loc="outside upper left", ncols=2 if nseries < 6 else 3)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The values with a margin."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - room, high + room


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    """Positive values with a margin, at least a factor of six apart, for ticks at 1, 2 and 5."""
    low, high = min(values), max(values)
    room = max(1.15, (high / low) ** 0.06, math.sqrt(6.0 * low / high))
    return low / room, high * room


def _log_scale(axes: Axes, axis: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, or at the decades."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low, high)})
    ticks = axes.xaxis if axis == "x" else axes.yaxis
    ticks.set_major_locator(LogLocator(subs=(1.0,) if high > 100.0 * low else (1.0, 2.0, 5.0)))
    ticks.set_minor_locator(NullLocator())
    ticks.set_major_formatter(lambda value, _: number(value))
