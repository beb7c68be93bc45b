"""The paper's Fig. 2 for our models: error against the number of given frames.

For each molecule, model and number of frames two runs with the same budget: on the given frames
alone, and on the same frames and the model's own samples (self-refining).  Errors of the energy
and of the Hamiltonian at the last 60 frames of the molecule's file.  Writes figure2.md and
figure2.png, the paper's numbers (its Table 1) beside ours.

    python benchmarks/paper/figure2.py --frames 25 100 340 --minutes 20
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plots import COLOURS, LINES, figure, logarithmic
from rows import Row, tabulate
from runs import Run, Settings, conduct, paper_parser

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = ("energy", "Hamiltonian")  # the first two of the errors


def runs_of(options: argparse.Namespace) -> list[Run]:
    """For each number of frames with and without self-refining; supervised without."""
    return [
        Run(molecule=molecule, model=model, nframes=nframes, self_refine=self_refine)
        for molecule in options.molecules
        for model in options.models
        for nframes in sorted(options.frames)
        for self_refine in (False, True)
        if not (self_refine and model == "supervised")
    ]


def _draw(axis: Axes, rows: Sequence[Row], error: int) -> None:
    """A line for each model with samples and without."""
    for model, self_refine in dict.fromkeys((row.model, row.self_refine) for row in rows):
        own = [row for row in rows if (row.model, row.self_refine) == (model, self_refine)]
        axis.plot(
            [row.nframes for row in own],
            [row.errors[error] or 0.0 for row in own],
            LINES[self_refine],
            marker="o" if self_refine else "s",
            color=COLOURS[model],
            label=f"{model}, {'self-refining' if self_refine else 'frames alone'}",
        )
    logarithmic(axis, "given frames", "mean absolute error / µEh")


def report(options: argparse.Namespace, settings: Settings, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    rows = tabulate(settings, "figure2", runs)
    panels = [(molecule, error) for molecule in rows for error in range(len(_PANELS))]
    titles = [f"{molecule}: {_PANELS[error]}" for molecule, error in panels]
    path = settings.output / "figure2.png"
    with figure(path, titles, size=(3.8, 3.0), columns=len(_PANELS)) as axes:
        for axis, (molecule, error) in zip(axes, panels, strict=True):
            _draw(axis, rows[molecule], error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = paper_parser(__doc__, "figure2")
    parser.add_argument("--frames", type=int, nargs="+", default=[25, 100, 340])
    return conduct(parser, arguments, runs_of, report)


if __name__ == "__main__":
    sys.exit(main())
