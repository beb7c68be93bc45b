"""The plots of a report, each with its heading, its legend and a sentence on what it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ase_srdft.common.units import EV_PER_HARTREE, MICROHARTREE
from ase_srdft.runs.report.history import History
from ase_srdft.runs.report.svg import Axis, Figure, Mark, number

__all__ = [
    "CHEMICAL_ACCURACY_UEH",
    "Plot",
    "bracket_plot",
    "energy_plot",
    "learning_rate_plot",
    "micro_and_milli",
    "temperature_plot",
    "why_no_samples",
]

#: 1 kcal/mol.
CHEMICAL_ACCURACY_UEH = 1593.6
_STEPS = "training steps"
#: Points of a line and tooltips on it: more would make the page slow and show nothing new.
_MOST_POINTS, _MOST_STRIPS = 500, 100
_TRAINING_LEGEND = (("training", "training batches"), ("validation", "held-out geometries"))

Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing and the words around it.

    Attributes:
        heading: what is plotted.
        legend: CSS class and name of each series.
        svg: the drawing; empty if there is nothing to draw yet.
        caption: how to read it, or why it is empty.
    """

    heading: str
    caption: str
    legend: tuple[tuple[str, str], ...] = ()
    svg: str = ""


def _finite(points: Points) -> Points:
    return [(x, y) for x, y in points if math.isfinite(y)]


def _thinned(points: Points, most: int) -> Points:
    """At most so many points, each the mean of its neighbours."""
    if len(points) <= most:
        return points
    groups = np.array_split(np.array(points), most)
    return [(float(group[:, 0].mean()), float(group[:, 1].mean())) for group in groups]


def _steps_axis(history: History) -> Axis:
    last = history.last
    return Axis(label=_STEPS, low=0.0, high=float(max(1, last.step if last else 1)))


def micro_and_milli(width_uEh: float) -> str:
    """An energy in microhartree and in meV."""
    return (
        f"{number(width_uEh)} µEh ({number(width_uEh / MICROHARTREE * EV_PER_HARTREE * 1e3)} meV)"
    )


def bracket_plot(history: History) -> Plot:
    """Bracket width against steps."""
    heading = "Certified error: width of the energy bracket"
    all_widths = [r.bracket_width_uEh for r in history.training]
    all_widths += [r.bracket_width_uEh for r in history.validation]
    widths = [width for width in all_widths if math.isfinite(width) and width > 0]
    if not widths:
        return Plot(heading=heading, caption="No bracket widths have been logged yet.")
    training = [(float(r.step), r.bracket_width_uEh) for r in history.training]
    training = [(x, y) for x, y in _finite(training) if y > 0]
    figure = Figure(
        "bracket",
        "Bracket width against training steps, logarithmic",
        x=_steps_axis(history),
        y=Axis.spanning(
            "bracket width (µEh, logarithmic)", [*widths, CHEMICAL_ACCURACY_UEH], log=True
        ),
    )
    figure.level(CHEMICAL_ACCURACY_UEH, "chemical accuracy: 1 kcal/mol = 1,594 µEh")
    figure.strips(
        [
            (x, f"training, step {number(x)}: {micro_and_milli(y)}")
            for x, y in _thinned(training, _MOST_STRIPS)
        ]
    )
    figure.line(_thinned(training, _MOST_POINTS), "training")
    certified = history.certified
    figure.marks(
        Mark(
            x=record.step,
            y=record.bracket_width_uEh,
            title=f"{'the saved model' if record is certified else 'held out'}, "
            f"step {number(record.step)}: {micro_and_milli(record.bracket_width_uEh)}"
            + _widest(record.bracket_width_max_uEh),
            style="validation saved" if record is certified else "validation",
        )
        for record in history.validation
    )
    legend = _TRAINING_LEGEND[: 2 if history.validation else 1]
    if certified:
        legend += (("validation saved", "the saved model"),)
    caption = (
        "How far the model's energy can be from the converged SCF energy, on average over "
        "geometries. Training batches are measured with the weights of the moment and on the "
        "training grid; held-out geometries with the averaged weights and on the grid of the "
        "level of theory."
    )
    if len(widths) < len(all_widths):
        caption += f" Not shown: {len(all_widths) - len(widths)} that are not above zero."
    return Plot(heading=heading, legend=legend, svg=figure.render(), caption=caption)


def _widest(width_uEh: float) -> str:
    return f", {number(width_uEh)} µEh at most" if math.isfinite(width_uEh) else ""


def energy_plot(history: History) -> Plot:
    """Mean energy against steps, counted from the lowest held-out mean."""
    heading = "Mean energy of the model"
    training = _finite([(float(r.step), r.energy_hartree) for r in history.training])
    held_out = _finite([(float(r.step), r.energy_hartree) for r in history.validation])
    if not training and not held_out:
        return Plot(heading=heading, caption="No energies have been logged yet.")
    zero = min(y for _, y in held_out or training)
    several = history.start is not None and len(history.start.molecules) > 1
    highest = _highest_shown([y for _, y in training], cut=not several)
    shown = [y for _, y in training if y <= highest] + [y for _, y in held_out]
    scale, unit = (1.0, "Eh") if max(shown) - min(shown) > 1.0 else (1e3, "mEh")
    figure = Figure(
        "energy",
        "Mean energy against training steps",
        x=_steps_axis(history),
        y=Axis.spanning(
            f"mean energy above {_hartree(zero)} ({unit})", [(y - zero) * scale for y in shown]
        ),
    )
    line = [(x, (y - zero) * scale) for x, y in training]
    figure.strips(
        [
            (x, f"training, step {number(x)}: {number(y)} {unit} above")
            for x, y in _thinned(line, _MOST_STRIPS)
        ]
    )
    figure.line(_thinned(line, _MOST_POINTS), "training")
    figure.marks(
        Mark(
            x=x,
            y=(y - zero) * scale,
            title=f"held out, step {number(x)}: {_hartree(y)}",
            style="validation",
        )
        for x, y in held_out
    )
    caption = (
        "The energy is the loss: no labels are used, and it can only be too high. Batches hold "
        "other geometries than the held-out set, so that the two need not meet."
    )
    top = max((y for _, y in line), default=0.0)
    if top > figure.y.high:
        caption += f" The first steps, up to {number(top)} {unit}, are above the plot."
    if several:
        caption += (
            " It is the mean over molecules of different energies: which of them a batch holds "
            "moves it more than the training does."
        )
    return Plot(
        heading=heading,
        legend=_TRAINING_LEGEND[: 2 if held_out else 1],
        svg=figure.render(),
        caption=caption,
    )


def _highest_shown(energies: list[float], cut: bool) -> float:
    """The top of the plot; the fall of the first steps would flatten all the rest."""
    if len(energies) < 30 or not cut:
        return math.inf
    return float(np.quantile(energies, 0.93))


def _hartree(energy: float) -> str:
    return f"{energy:.5f} Eh".replace("-", "−")


def why_no_samples(history: History) -> str:
    """A sentence for a plot that has no samples to show."""
    if history.setting("self_refine") is False:
        return "Nothing was sampled: this run trains on the given frames alone."
    safe = history.setting("safe_width_mEh")
    until = f" is below {number(float(safe) * 1e3)} µEh" if isinstance(safe, (int, float)) else ""
    return f"Nothing has been sampled yet: dynamics starts once the bracket{until or ' allows it'}."


def temperature_plot(history: History) -> Plot:
    """Temperature of the walkers against steps."""
    heading = "Temperature of the walkers"
    points = _finite([(float(r.step), r.temperature_K) for r in history.sampling])
    if not history.sampling:
        return Plot(heading=heading, caption=why_no_samples(history))
    if not points:
        return Plot(
            heading=heading,
            caption="There is no estimate of the temperature for this dynamics: "
            "its accepted moves sample the target temperature exactly.",
        )
    target = history.setting("sampling", "temperature_K")
    known = [float(target)] if isinstance(target, (int, float)) else []
    values = np.array([y for _, y in points])
    window = max(5, len(points) // 20)
    running = [
        (points[i][0], float(values[max(0, i + 1 - window) : i + 1].mean()))
        for i in range(min(window, len(points)) - 1, len(points))
    ]
    low, high = np.quantile(values, [0.01, 0.99]).tolist()
    figure = Figure(
        "temperature",
        "Temperature of the walkers against training steps",
        x=_steps_axis(history),
        y=Axis.spanning("temperature (K)", [low, high, *known, *(y for _, y in running)]),
    )
    figure.marks(
        Mark(x=x, y=y, title=f"step {number(x)}: {number(y)} K", style="round")
        for x, y in _thinned(points, _MOST_POINTS)
    )
    figure.line(_thinned(running, _MOST_POINTS), "running")
    if known:
        figure.level(known[0], f"target: {number(known[0])} K", at_left=True)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    spread = f" ± {number(error, 2)} K (standard error, rounds as independent)"
    return Plot(
        heading=heading,
        legend=(("round", "each round"), ("running", f"running mean of {window} rounds")),
        svg=figure.render(),
        caption=f"Mean over the run: {number(float(values.mean()))}"
        + (spread if math.isfinite(error) else " K")
        + ". From forces and their change along the noise for overdamped dynamics, from "
        "velocities otherwise; a round of few walkers scatters widely.",
    )


def learning_rate_plot(history: History) -> Plot:
    """Learning rate against steps."""
    heading = "Learning rate"
    points = _finite([(float(r.step), r.learning_rate) for r in history.training])
    if not points:
        return Plot(heading=heading, caption="No training steps have been logged yet.")
    figure = Figure(
        "learning-rate",
        "Learning rate against training steps",
        x=_steps_axis(history),
        y=Axis(label="learning rate", low=0.0, high=max(y for _, y in points) * 1.08 or 1.0),
        height=270.0,
    )
    figure.strips(
        [(x, f"step {number(x)}: {number(y)}") for x, y in _thinned(points, _MOST_STRIPS)]
    )
    figure.line(_thinned(points, _MOST_POINTS), "running")
    return Plot(
        heading=heading,
        svg=figure.render(),
        caption="A linear rise, then a cosine that follows whichever limit, steps or time, is "
        "nearer.",
    )
