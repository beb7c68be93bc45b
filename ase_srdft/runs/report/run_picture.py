"""A training run in one picture: bracket and energy against steps and against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ase_srdft.common.errors import BadInput
from ase_srdft.runs.report.axes import STEPS, elapsed_time
from ase_srdft.runs.report.history import History, read_history
from ase_srdft.runs.report.picture_file import write_picture
from ase_srdft.runs.report.plots import draw_bracket, draw_energy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_run", "write_run_picture"]

#: In points.
_SIZE = (860.0, 640.0)
_MOST_NAMES = 4


def write_run_picture(path: Path, directory: Path) -> None:
    """Draw what the ``metrics.jsonl`` of a run has logged.

    Args:
        path: of the picture (`ase_srdft.runs.report.picture_file.write_picture`).
        directory: of the run.

    Raises:
        BadInput: no run, one that has logged nothing, or a name that is none of a picture.
    """
    if not (directory / "metrics.jsonl").is_file():
        raise BadInput(
            f"{directory} is no folder of a training run, as it has no metrics.jsonl: give that "
            "of ase-srdft-train -o, or a trajectory"
        )
    history = read_history(directory)
    if not history.training and not history.validation:
        raise BadInput(f"the run in {directory} has logged no training yet: wait, and try again")
    names = history.start.molecules if history.start else ()
    write_picture(path, _SIZE, lambda figure: draw_run(figure, history, names))


def draw_run(figure: Figure, history: History, names: Sequence[str]) -> None:
    """Bracket above, energy below; steps to the left, time to the right."""
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    figure.suptitle(_title(history, names), x=0.012, ha="left", fontsize=13)
    panels = np.asarray(figure.subfigures(2, 2, wspace=0.02, hspace=0.02))
    for row, draw in zip(panels, (draw_bracket, draw_energy), strict=True):
        for panel, clock in zip(row, (STEPS, elapsed_time(history)), strict=True):
            axes = panel.add_subplot()
            caption = draw(axes, history, names, clock)
            if not axes.has_data():
                axes.set_axis_off()
                axes.text(0.5, 0.5, caption, ha="center", wrap=True)


def _title(history: History, names: Sequence[str]) -> str:
    """What was trained, and how far."""
    what = ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names):,} molecules"
    last = history.last
    steps = f"{last.step:,} steps" if last else ""
    level = history.start.level if history.start else ""
    return "  ·  ".join(filter(None, (what, level, steps)))
