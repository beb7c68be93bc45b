"""The paper's Fig. 3 for our models: error along simulations that the models drive themselves.

For each molecule and model two runs of training with the same budget, on given frames alone and
self-refining with the same frames.  Then overdamped Langevin dynamics at 500 K on each model's
energy, from several of the last 60 frames of the molecule's file; every third step the SCF is
converged for comparison.  Both models start from the same frames with the same noise.  Writes
figure3.md and figure3.png.

    python benchmarks/paper/figure3.py --frames 100 --minutes 20 --walkers 4
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import figure2
from paper_numbers import SIMULATION_SOURCE, SIMULATION_RANGE_uEh
from plots import COLOURS, LINES, figure, plain_ticks
from rows import write_table
from runs import HELD_OUT, Run, Settings, conduct, paper_parser
from simulate import Simulation, simulate

from ase_srdft.common.atomic_files import replace_atomically
from ase_srdft.common.structures import read_frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADER = (
    "molecule",
    "model",
    "own samples",
    "step",
    "walkers",
    "mean error/µEh",
    "smallest/µEh",
    "largest/µEh",
    "mean bracket width/µEh",
)
#: Step, number of walkers, mean, smallest and largest error, mean width of the bracket (uEh).
Point = tuple[int, int, float, float, float, float]


def start_frames(nwalkers: int) -> list[int]:
    """Frames to start from, counted from the end of the file and spread over the last ones."""
    return [-1 - walker * HELD_OUT // nwalkers for walker in range(nwalkers)]


def simulations_of(options: argparse.Namespace, settings: Settings, run: Run) -> list[Simulation]:
    """A run's simulations: those that are there, and with a trained model those that lack."""
    found = []
    for frame in start_frames(options.walkers):
        name = f"walk{frame}-{options.steps}-{options.every}-{options.temperature:g}K.json"
        path = settings.folder(run) / name
        if not (path.is_file() or options.report_only) and settings.evaluation(run).is_file():
            print(f"{run.name}: walk from frame {frame} ...", flush=True)
            _simulate(options, settings, run, frame, path)
        if path.is_file():
            found.append(Simulation(**json.loads(path.read_text(encoding="utf-8"))))
    return found


def _simulate(
    options: argparse.Namespace, settings: Settings, run: Run, frame: int, path: Path
) -> None:
    start = read_frames(settings.frames(run.molecule))[frame]
    model, seed = settings.folder(run) / "model.srdft", options.seed - frame  # as for every model
    result = simulate(model, start, options.temperature, options.steps, options.every, seed)

    def write(beside: Path) -> None:
        beside.write_text(json.dumps(asdict(result)), encoding="utf-8")

    replace_atomically(path, write)


def points_of(simulations: Sequence[Simulation]) -> list[Point]:
    """Mean and spread over the walkers that came so far, step by step."""
    points = []
    for step in sorted({point[0] for walk in simulations for point in walk.points}):
        there = [point[1:] for walk in simulations for point in walk.points if point[0] == step]
        errors, widths = zip(*there, strict=True)
        spread = (fmean(errors), min(errors), max(errors), fmean(widths))
        points.append((step, len(there), *spread))
    return points


def _draw(axis: Axes, points: dict[Run, list[Point]]) -> None:
    """Mean error with the range over walkers, and the mean width of the bracket."""
    for run, own in points.items():
        steps, _, mean, low, high, width = zip(*own, strict=True)
        label = f"{run.model}, {'self-refining' if run.self_refine else 'frames alone'}"
        line, colour = LINES[run.self_refine], COLOURS[run.model]
        axis.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(steps, mean, line, color=colour, marker="o", label=label)
        axis.plot(steps, width, line, color=colour, linewidth=0.9, label=f"bracket of {label}")
    axis.axhspan(*SIMULATION_RANGE_uEh, color="#E4E4E4", label="paper, self-refined")
    axis.set_yscale("log")
    plain_ticks(axis.yaxis)
    axis.set_xlabel("step of the simulation")
    axis.set_ylabel("E − E(SCF) / µEh")


def report(options: argparse.Namespace, settings: Settings, runs: Sequence[Run]) -> None:
    """Simulate what is missing; table and figure of what there is."""
    note = f"Walkers at {options.temperature:g} K. Paper: {SIMULATION_SOURCE}."
    points = {}
    for run in runs:
        simulations = simulations_of(options, settings, run)
        points[run] = points_of(simulations)
        if failures := [walk.failure for walk in simulations if walk.failure]:
            note += f" {run.name}: {len(failures)} walkers stopped early ({failures[0]})."
    about = {run: (run.molecule, run.model, "yes" if run.self_refine else "no") for run in runs}
    cells = [(*about[run], *point) for run, own in points.items() for point in own]
    write_table(settings, "figure3", _HEADER, cells, note)
    molecules = list(dict.fromkeys(run.molecule for run in runs))
    with figure(settings.output / "figure3.png", molecules, size=(7.0, 3.4)) as axes:
        for axis, molecule in zip(axes, molecules, strict=True):
            _draw(axis, {r: own for r, own in points.items() if own and r.molecule == molecule})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = paper_parser(__doc__, "figure3")
    parser.add_argument("--frames", type=int, nargs=1, default=[340], help="to train on")
    parser.add_argument("--walkers", type=int, default=4, help="simulations of each model")
    parser.add_argument("--steps", type=int, default=30, help="of a simulation")
    parser.add_argument("--every", type=int, default=3, help="steps between two SCFs")
    parser.add_argument("--temperature", type=float, default=500.0, help="in K")
    return conduct(parser, arguments, figure2.runs_of, report)


if __name__ == "__main__":
    sys.exit(main())
