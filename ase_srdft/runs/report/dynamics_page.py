"""The summary of a run of dynamics: one HTML page that needs nothing but a browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.io.trajectory import TrajectoryReader

from ase_srdft.common.atomic_files import write_atomically
from ase_srdft.common.errors import BadInput
from ase_srdft.runs.report.axes import legend
from ase_srdft.runs.report.drawing import colour_variables, inline_svg
from ase_srdft.runs.report.dynamics_picture import (
    draw_brackets,
    draw_builds,
    draw_energies,
    draw_force_errors,
    draw_paths,
    draw_temperature,
)
from ase_srdft.runs.report.dynamics_record import DynamicsRecord, read_dynamics
from ase_srdft.runs.report.formula import chemists_formula, with_subscripts
from ase_srdft.runs.report.molecules import draw_molecule
from ase_srdft.runs.report.page_template import DYNAMICS_PAGE, card
from ase_srdft.runs.report.words import markup, number
from ase_srdft.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SUMMARY", "write_dynamics_page"]

SUMMARY = "summary.html"
#: In points: a column of the page on a phone.
_PLOT_SIZE, _DRAWING_SIZE = (360.0, 264.0), (190.0, 140.0)
_MEV_PER_EV, _FS_PER_PS = 1e3, 1e3
_PLOTS: tuple[tuple[str, str, Callable[[Axes, DynamicsRecord], None]], ...] = (
    ("energies", "Energies", draw_energies),
    ("temperature", "Temperature", draw_temperature),
    ("brackets", "What the energies are worth", draw_brackets),
    ("forces", "What the forces are worth", draw_force_errors),
    ("paths", "How the answers came about", draw_paths),
    ("builds", "What they took", draw_builds),
)


def write_dynamics_page(directory: Path) -> Path:
    """Make ``summary.html`` from ``md.traj`` and ``config.yaml`` in a folder.

    Returns:
        The path of the page, replaced in one go.

    Raises:
        BadInput: the trajectory cannot be read.
    """
    trajectory, path = directory / "md.traj", directory / SUMMARY
    record = read_dynamics(trajectory)
    with TrajectoryReader(trajectory) as reader:
        last = reader[-1]
    write_atomically(path, _page(record, last, _settings(directory)))
    return path


def _settings(directory: Path) -> str:
    try:
        return (directory / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise BadInput(f"{directory} holds no config.yaml that can be read ({err})") from err


def _page(record: DynamicsRecord, last: Atoms, settings: str) -> str:
    name = chemists_formula(record.formula, last)
    heading = markup(with_subscripts(name))
    drawing, _ = inline_svg(
        "molecule", f"Drawing of {name}", _DRAWING_SIZE, lambda figure: draw_molecule(figure, last)
    )
    return DYNAMICS_PAGE.substitute(
        light=colour_variables(dark=False),
        dark=colour_variables(dark=True),
        title=markup(f"{name}: molecular dynamics"),
        heading=heading,
        data=markup(f"{record.level}; model {record.model}"),
        state=_state(record),
        drawing=f"<figure>{drawing}<figcaption>{heading}, the last frame</figcaption></figure>",
        figures="".join(_key_figures(record)),
        plots="".join(_plot(*plot, record) for plot in _PLOTS if _is_known(plot[0], record)),
        settings=f"<pre>{markup(settings)}</pre>",
        version=markup(__version__),
    )


def _state(record: DynamicsRecord) -> str:
    """The promise in a sentence."""
    errors = _known(record.error_eV)
    if not len(errors):
        return "The trajectory does not tell what its energies are worth."
    words = (
        "No energy of the trajectory is further from that of a converged calculation (SCF) than "
        f"<b>{number(_MEV_PER_EV * errors.max(), 2)} meV</b>"
    )
    forces = _known(record.force_error_eV_per_A)
    if len(forces):
        words += (
            ", and by estimate no component of a force than "
            f"<b>{number(_MEV_PER_EV * forces.max(), 2)} meV/Å</b>"
        )
    return f"{words}."


def _key_figures(record: DynamicsRecord) -> Iterator[str]:
    nframes = f"{number(len(record.time))} frames"
    if record.unit == "fs":
        yield card("Simulated", f"{number(record.time[-1] / _FS_PER_PS)} ps", nframes)
    else:
        yield card("Frames", number(len(record.time)))
    if _is_known("temperature", record):
        temperatures = _known(record.temperature_K)
        spread = f"± {number(temperatures.std())} K from frame to frame"
        yield card("Mean temperature", f"{number(temperatures.mean())} K", spread)
    own = _known(record.start_error_eV)
    if len(own):
        largest = f"{number(_MEV_PER_EV * own.max())} meV at most"
        mean = f"{number(_MEV_PER_EV * own.mean())} meV"
        yield card("Model alone", mean, "mean bracket", largest)
    paths = Counter(path for path in record.paths if path)
    if paths:
        shares = [
            f"{markup(path)}: {number(100.0 * n / paths.total())} %"
            for path, n in paths.most_common()
        ]
        builds = _known(record.builds)
        mean = number(builds.mean()) if len(builds) else "not recorded"
        coarse = _known(record.coarse_builds)
        more = [f"and {number(coarse.mean())} on a coarse grid"] if len(coarse) else []
        yield card("Fock matrices a step", mean, *more, *shares)


def _known(values: np.ndarray) -> np.ndarray:
    """Those that are numbers."""
    known: np.ndarray = values[np.isfinite(values)]
    return known


def _is_known(name: str, record: DynamicsRecord) -> bool:
    """Whether there is anything to plot; without momenta there is no temperature."""
    return name != "temperature" or bool(np.any(_known(record.temperature_K) > 0.0))


def _plot(
    name: str,
    heading: str,
    draw: Callable[[Axes, DynamicsRecord], None],
    record: DynamicsRecord,
) -> str:
    """Empty where there is nothing to plot."""

    def on_figure(figure: Figure) -> bool:
        figure.set_layout_engine("constrained", h_pad=0.08)
        axes = figure.add_subplot()
        draw(axes, record)
        if name == "energies":  # no room for the number
            axes.set_title("eV above the lowest potential energy")
        axes.set_xlabel("time in fs" if record.unit == "fs" else "frame")
        legend(axes, least=1, ncols=2)
        return axes.has_data()

    svg, drawn = inline_svg(name, heading, _PLOT_SIZE, on_figure)
    return f'<figure class="card"><h2>{heading}</h2>{svg}</figure>' if drawn else ""
