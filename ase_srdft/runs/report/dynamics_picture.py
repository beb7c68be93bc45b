"""A trajectory in one picture: energies, temperature, what answers are worth and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ase_srdft.runs.report.axes import legend, log_range, log_scale, value_range
from ase_srdft.runs.report.drawing import COLOURS
from ase_srdft.runs.report.dynamics_record import DynamicsRecord
from ase_srdft.runs.report.picture_file import write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_dynamics", "write_dynamics_picture"]

#: In points.
_SIZE = (900.0, 900.0)
#: So many bars of shares at most, markers on a line, and points of one.
_MOST_BARS, _MOST_MARKERS, _MOST_POINTS = 40, 60, 2000
_MEV_PER_EV = 1e3
#: Errors below it (meV, meV/Å) are rounding, and are drawn there.
_LEAST = 1e-6
_BLUE, _ORANGE, _TEXT = (COLOURS[name][0] for name in ("blue", "orange", "text"))
#: Of `ase_srdft.calculator.certificate.Certificate`, from cheap to dear.
_PATH_COLOURS = {
    "model": "green",
    "damped": "yellow",
    "guess": "violet",
    "corrected": "blue",
    "searched": "grey",
    "scf": "orange",
}
#: Patterns on them, for eyes to which two colours are one.
_PATH_HATCHES = {"damped": "//", "guess": "..", "corrected": "\\\\", "scf": "xx"}


def write_dynamics_picture(path: Path, record: DynamicsRecord) -> None:
    """Draw a trajectory.

    Args:
        path: of the picture (`ase_srdft.runs.report.picture_file.write_picture`).
        record: of the trajectory.

    Raises:
        BadInput: a name that is none of a picture.
    """
    write_picture(path, _SIZE, lambda figure: draw_dynamics(figure, record))


def draw_dynamics(figure: Figure, record: DynamicsRecord) -> None:
    """Six panels on a figure, with what was computed above them."""
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    nframes = f"{len(record.time):,} frames"
    words = [record.formula, nframes, record.level, record.model and f"model {record.model}"]
    figure.suptitle("  ·  ".join(filter(None, words)), x=0.012, ha="left", fontsize=13)
    panels = np.asarray(figure.subfigures(3, 2, wspace=0.02, hspace=0.02)).ravel()
    for panel, draw in zip(panels, _PANELS, strict=True):
        axes = panel.add_subplot()
        draw(axes, record)
        axes.set_xlabel("time in fs" if record.unit == "fs" else "frame")
        axes.set_xlim(_time_range(record))
        if axes.has_data():
            legend(axes, least=1, ncols=3)
        else:
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center")
            axes.set_yticks([])


def draw_energies(axes: Axes, record: DynamicsRecord) -> None:
    """Potential, kinetic and total energy (eV), the first two counted from the lowest potential."""
    known = record.potential_eV[np.isfinite(record.potential_eV)]
    zero = float(known.min()) if len(known) else 0.0
    _line(axes, record, record.potential_eV - zero, "potential", _BLUE)
    _line(axes, record, record.kinetic_eV, "kinetic", _ORANGE, "--")
    _line(axes, record, record.potential_eV - zero + record.kinetic_eV, "total", _TEXT)
    above = f"{zero:.4f}".replace("-", "−")
    axes.set_title(f"energy in eV (potential and total: above {above} eV)")


def draw_temperature(axes: Axes, record: DynamicsRecord) -> None:
    """Temperature (K) of the frames, and its mean."""
    known = record.temperature_K[np.isfinite(record.temperature_K)]
    _line(axes, record, record.temperature_K, "each frame", _BLUE)
    if len(known):
        mean = float(known.mean())
        axes.axhline(mean, color=_ORANGE, linestyle="--", label=f"mean: {mean:.0f} K")
        axes.set_ylim(value_range([*known.tolist(), mean]))
    axes.set_title("temperature in K")


def draw_brackets(axes: Axes, record: DynamicsRecord) -> None:
    """Widths of brackets (meV), logarithmic: of the answers, and of what they began from."""
    start, error = _MEV_PER_EV * record.start_error_eV, _MEV_PER_EV * record.error_eV
    _logarithmic(axes, record, {"the model alone": start, "the answer": error})
    axes.set_title("bracket width in meV")


def draw_force_errors(axes: Axes, record: DynamicsRecord) -> None:
    """Estimates of the largest error of a force (meV/Å), logarithmic."""
    error = _MEV_PER_EV * record.force_error_eV_per_A
    _logarithmic(axes, record, {"estimate": np.where(error > 0.0, error, np.nan)})
    axes.set_title("error of the forces in meV/Å")


def draw_paths(axes: Axes, record: DynamicsRecord) -> None:
    """How answers came about, in shares of the frames (%)."""
    axes.set_title("how answers came about, in % of the frames")
    if not any(record.paths):
        return
    paths, known = np.array(record.paths), list(_PATH_COLOURS)
    groups, step = _groups(record), _step(record)
    left = np.array([record.time[group[0]] - 0.5 * step for group in groups])
    width = np.array([step * len(group) for group in groups])
    bottom = np.zeros(len(groups))
    for path in sorted(set(paths) - {""}, key=lambda p: known.index(p) if p in known else 99):
        share = np.array([100.0 * np.mean(paths[group] == path) for group in groups])
        colour = COLOURS[_PATH_COLOURS.get(path, "grey")][0]
        label = f"{path}: {100.0 * np.mean(paths == path):.3g} %"
        bars = axes.bar(left, share, width, bottom, align="edge", color=colour, label=label)
        for bar in bars:
            bar.set(hatch=_PATH_HATCHES.get(path), edgecolor="white", linewidth=0.0)
        bottom += share
    axes.set_ylim(0.0, 100.0)


def draw_builds(axes: Axes, record: DynamicsRecord) -> None:
    """Fock matrices that each answer took, means over a few frames where there are many."""
    groups = _groups(record)
    time = [float(record.time[group].mean()) for group in groups]
    for values, name, colour, fmt in (
        (record.builds, "the level’s grid", _BLUE, "o-"),
        (record.coarse_builds, "coarse grid", _ORANGE, "s--"),
    ):
        if np.isfinite(values).any():
            means = [float(values[group].mean()) for group in groups]
            label = f"{name}: mean {np.nanmean(values):.2g}"
            axes.plot(time, means, fmt, color=colour, label=label, markersize=3.0)
    axes.set_title("Fock matrices of each answer")
    axes.set_ylim(bottom=0.0)


_PANELS: tuple[Callable[[Axes, DynamicsRecord], None], ...] = (
    draw_energies,
    draw_temperature,
    draw_brackets,
    draw_force_errors,
    draw_paths,
    draw_builds,
)


def _line(
    axes: Axes,
    record: DynamicsRecord,
    values: np.ndarray,
    label: str,
    colour: str,
    style: str = "-",
) -> None:
    """The frames that tell the value; of many, every so many."""
    known = np.flatnonzero(np.isfinite(values))[:: _stride(record)]
    if len(known):
        fmt = ("o" if len(values) <= _MOST_MARKERS else "") + style
        axes.plot(record.time[known], values[known], fmt, color=colour, label=label, markersize=3.0)


def _logarithmic(axes: Axes, record: DynamicsRecord, series: dict[str, np.ndarray]) -> None:
    """Dots on a logarithmic scale, of many frames the largest of every so many.

    What is not above zero is drawn at the least.
    """
    shown: list[float] = []
    marks = ((_ORANGE, "^"), (_BLUE, "o"))
    for (colour, mark), (label, values) in zip(marks, series.items(), strict=False):
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            continue
        first = np.arange(0, len(known), _stride(record))
        largest = np.maximum(np.maximum.reduceat(values[known], first), _LEAST)
        time = record.time[known[first]]
        axes.plot(time, largest, mark, color=colour, label=label, markersize=3.0)
        shown += largest.tolist()
    if shown:
        log_scale(axes, "y", *log_range(shown))


def _stride(record: DynamicsRecord) -> int:
    """How many frames share a point."""
    return -(-len(record.time) // _MOST_POINTS)


def _groups(record: DynamicsRecord) -> list[np.ndarray]:
    """The frames that share a bar; the last may have fewer."""
    count = len(record.time)
    size = -(-count // _MOST_BARS)
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def _step(record: DynamicsRecord) -> float:
    """Time between two frames."""
    return float(record.time[1] - record.time[0]) if len(record.time) > 1 else 1.0


def _time_range(record: DynamicsRecord) -> tuple[float, float]:
    half = 0.5 * _step(record)
    return float(record.time[0]) - half, float(record.time[-1]) + half
