"""The plots of a report: each draws what a run has logged, and says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.runs.report.axes import (
    STEPS,
    Clock,
    against,
    finite,
    legend,
    level_line,
    line,
    log_range,
    log_scale,
    value_range,
)
from ase_srdft.runs.report.drawing import COLOURS, SERIES
from ase_srdft.runs.report.history import History, by_molecule
from ase_srdft.runs.report.words import CHEMICAL_ACCURACY_UEH, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "Plot", "draw_bracket", "draw_energy", "draw_sampled_energies", "draw_widths"]

_BLUE, _ORANGE, _TEXT = (COLOURS[name][0] for name in ("blue", "orange", "text"))


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


def draw_bracket(axes: Axes, history: History, names: Sequence[str], clock: Clock = STEPS) -> str:
    """Bracket width against training steps or time, logarithmic."""
    training = [(clock.read(r), r.bracket_width_uEh) for r in history.training]
    mean = [(clock.read(r), r.bracket_width_uEh) for r in history.validation]
    largest = [(clock.read(r), r.bracket_width_max_uEh) for r in history.validation]
    shown = [y for _, y in [*training, *mean, *largest] if math.isfinite(y) and y > 0]
    if not shown:
        return "No bracket widths have been logged yet."
    line(axes, [(x, y) for x, y in training if y > 0], "training batches", color=_BLUE)
    line(axes, mean, "held out: mean", fmt="o", color=_ORANGE)
    line(axes, largest, "held out: maximum", fmt="v", color=_TEXT, markersize=5)
    if history.certified is not None:
        saved = [(clock.read(history.certified), history.certified.bracket_width_uEh)]
        line(axes, saved, "the saved model", fmt="o", color=_TEXT, fillstyle="none", markersize=11)
    log_scale(axes, "y", *log_range([*shown, CHEMICAL_ACCURACY_UEH]))
    level_line(axes, CHEMICAL_ACCURACY_UEH, "chemical accuracy")
    against(axes, clock, history, "bracket width in microhartree (µEh)")
    odd = sum(1 for _, y in [*training, *mean] if not y > 0)
    return (
        "How far the model’s energy can be from the converged one. Batches: weights of the moment, "
        "coarser grid. Held out: averaged weights, the grid of the level of theory."
        + (f" Not shown: {odd} values that are not above zero." if odd else "")
    )


def draw_energy(axes: Axes, history: History, names: Sequence[str], clock: Clock = STEPS) -> str:
    """Mean energy against training steps or time, counted from the lowest held-out mean."""
    training = finite([(clock.read(r), r.energy_hartree) for r in history.training])
    held_out = finite([(clock.read(r), r.energy_hartree) for r in history.validation])
    caption = "The energy is what training lowers: without labels, and it cannot be too low."
    if held_out and len(names) > 1:
        training = []
        caption += " Batches are left out: their mean depends on which molecules they hold."
    if not training and not held_out:
        return "No energies have been logged yet."
    zero = min(y for _, y in held_out or training)
    batches, marks = ([(x, (y - zero) * 1e3) for x, y in points] for points in (training, held_out))
    highest = float(np.quantile([y for _, y in batches], 0.93)) if len(batches) >= 30 else math.inf
    low, high = value_range([y for _, y in batches if y <= highest] + [y for _, y in marks])
    line(axes, batches, "training batches", color=_BLUE)
    line(axes, marks, "held out", fmt="o", color=_ORANGE)
    axes.set_ylim(low, high)
    above = f"{zero:.5f}".replace("-", "−")
    against(axes, clock, history, f"millihartree (mEh) above {above} hartree")
    top = max((y for _, y in batches), default=0.0)
    return caption + (f" The first steps, up to {number(top)} mEh, are cut." if top > high else "")


def draw_widths(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Distribution of the bracket of the late samples, with its maximum."""
    widths = history.late_widths_uEh()
    pooled = [width for own in widths.values() for width in own]
    if not pooled:
        return _why_empty(history)
    largest, mean = max(pooled), sum(pooled) / len(pooled)
    low, high = log_range(pooled)
    _stack(axes, widths, np.geomspace(low, high, _nbins(len(pooled)) + 1), names)
    axes.axvline(largest, color=_TEXT, linestyle="--", label=f"maximum: {number(largest)} µEh")
    log_scale(axes, "x", low, high)
    axes.set_title("sampled geometries")
    axes.set_xlabel("bracket width in microhartree (µEh)")
    legend(axes)
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
    legend(axes)
    return "Each energy is the model’s own when it sampled, above the lowest of its molecule."


def draw_temperature(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Temperature of the walkers against training steps."""
    points = finite([(r.step, r.temperature_K) for r in history.sampling])
    if not points:
        return _why_empty(history)
    values = np.array([y for _, y in points])
    window = min(len(points), max(4, len(points) // 12))
    means = np.convolve(values, np.full(window, 1.0 / window), "valid")
    running = [(x, float(y)) for (x, _), y in zip(points[window - 1 :], means, strict=True)]
    line(axes, points, "each round", fmt="o", color=_BLUE, markersize=3.5, alpha=0.6)
    line(axes, running, f"mean of {window} rounds", color=_ORANGE, linewidth=2.2)
    target = history.setting("sampling", "temperature_K")
    known = [float(target)] if isinstance(target, (int, float)) else []
    axes.set_ylim(
        value_range([*np.quantile(values, [0.01, 0.99]).tolist(), *known, *means.tolist()])
    )
    for value in known:
        level_line(axes, value, f"wanted: {number(value)} K")
    against(axes, STEPS, history, "temperature in kelvin (K)")
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    spread = f" ± {number(float(error), 2)} K (standard error)" if math.isfinite(error) else " K"
    return f"Mean over the run: {number(float(values.mean()))}{spread}. Few walkers scatter widely."


def draw_acceptance(axes: Axes, history: History, names: Sequence[str]) -> str:
    """Share of accepted moves or kept samples, and the rounds in which walkers were reset."""
    points = finite([(r.step, 100.0 * r.acceptance) for r in history.sampling])
    if not points:
        return _why_empty(history)
    with_resets = [
        (r.step, 100.0 * r.acceptance) for r in history.sampling if any(r.resets.values())
    ]
    line(axes, points, "accepted", color=_BLUE)
    line(axes, with_resets, "with resets", fmt="o", color=_ORANGE)
    axes.set_ylim(0.0, 108.0)
    against(axes, STEPS, history, "accepted in each round, per cent (%)")
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
