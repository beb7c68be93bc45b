"""The paper's Fig. 3 for our models: error along simulations that the models drive themselves.

For each molecule and model two runs of training with the same budget, on given frames alone and
self-refining with the same frames.  Then overdamped Langevin dynamics at 500 K on each model's
energy, from several of the last 60 frames of the molecule's file; every third step the SCF is
converged for comparison.  Both models start from the same frames with the same noise.  Writes
figure3.csv, figure3.md and figure3.png into the output directory.

    python benchmarks/figure3.py --molecules ethanol --frames 100 --minutes 20 --walkers 4

The same command goes on where it stopped.  The frames are looked for in the folder that
ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from campaign import Task
from campaign_options import campaign_parser, conduct, given_frames
from figure2 import runs_of
from paper_numbers import SIMULATION_SOURCE, SIMULATION_RANGE_uEh
from plots import COLOURS, GREYS, panels, plain_ticks, save, say_nothing_yet
from results import Cell, notes_of, results_of, training_words, write_table
from runs import HELD_OUT, Campaign, Run
from simulate import Simulation

from ase_srdft.cli.common import positive

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADER = (
    "molecule",
    "model",
    "trained on",
    "step",
    "walkers",
    "mean error/µEh",
    "smallest/µEh",
    "largest/µEh",
    "mean bracket width/µEh",
)


@dataclass(frozen=True, kw_only=True)
class Walks:
    """The simulations of each run.

    Attributes:
        walkers: how many, from frames spread over the last ones.
        nsteps: of each.
        every: steps between two SCFs.
        temperature_K: of the dynamics.
    """

    walkers: int
    nsteps: int
    every: int
    temperature_K: float

    @property
    def frames(self) -> list[int]:
        """To start from, counted from the end of the file."""
        return [-1 - walker * HELD_OUT // self.walkers for walker in range(self.walkers)]

    def result(self, campaign: Campaign, run: Run, frame: int) -> Path:
        """The file of one walker."""
        name = f"walk{frame}-{self.nsteps}-{self.every}-{self.temperature_K:g}K.json"
        return campaign.directory(run) / name

    def tasks(self, campaign: Campaign, run: Run) -> list[Task]:
        """One for each walker."""
        return [self._task(campaign, run, frame) for frame in self.frames]

    def _task(self, campaign: Campaign, run: Run, frame: int) -> Task:
        program = Path(__file__).with_name("simulate.py")
        files = [campaign.directory(run) / "model.srdft", campaign.frames(run.molecule)]
        result = self.result(campaign, run, frame)
        command = [sys.executable, str(program), *map(str, files), f"--frame={frame}"]
        command += ["--steps", str(self.nsteps), "--every", str(self.every)]
        command += ["--temperature", repr(self.temperature_K), "--json", str(result)]
        command += ["--seed", str(campaign.seed - frame)]  # the same for every model
        return Task(name=f"walk{frame}", command=tuple(command), result=result)

    def finished(self, campaign: Campaign, run: Run) -> list[Simulation]:
        """Those that are there."""
        paths = [self.result(campaign, run, frame) for frame in self.frames]
        return [Simulation(**json.loads(path.read_text())) for path in paths if path.is_file()]


def rows_of(run: Run, simulations: Sequence[Simulation]) -> list[list[Cell]]:
    """Mean and spread over the walkers that came so far, step by step."""
    rows: list[list[Cell]] = []
    about: list[Cell] = [run.molecule, run.model, training_words(run.nframes, run.self_refine)]
    for step in sorted({step for walk in simulations for step in walk.steps}):
        there = [(walk, walk.steps.index(step)) for walk in simulations if step in walk.steps]
        errors = [walk.errors_uEh[index] for walk, index in there]
        width = statistics.fmean(walk.widths_uEh[index] for walk, index in there)
        spread = [statistics.fmean(errors), min(errors), max(errors), width]
        rows.append([*about, step, len(there), *spread])
    return rows


def _draw(axis: Axes, run: Run, rows: Sequence[Sequence[Cell]]) -> None:
    """Mean error with the range over walkers, and the mean width of the bracket."""
    steps, _, mean, low, high, width = zip(*(row[3:] for row in rows), strict=True)
    colour = COLOURS[run.model]
    line, words = ("-", "self-refining") if run.self_refine else ("--", "frames alone")
    axis.fill_between(steps, low, high, color=colour, alpha=0.28 if run.self_refine else 0.12, lw=0)
    axis.plot(steps, mean, line, c=colour, marker="o", label=f"{run.model}, {words}")
    axis.plot(
        steps, width, line, c=colour, lw=0.9, alpha=0.8, label=f"bracket of {run.model}, {words}"
    )


def report(walks: Walks, campaign: Campaign, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    molecules = list(dict.fromkeys(run.molecule for run in runs))
    notes = [*notes_of(campaign, runs, results_of(campaign, runs)), *_words(walks, campaign, runs)]
    figure, axes = panels(molecules, width=4.4, height=3.4, columns=min(3, len(molecules)))
    table: list[list[Cell]] = []
    for axis, molecule in zip(axes, molecules, strict=True):
        own = [run for run in runs if run.molecule == molecule]
        drawn = [(run, rows_of(run, walks.finished(campaign, run))) for run in own]
        drawn = [(run, rows) for run, rows in drawn if rows]
        for run, rows in drawn:
            _draw(axis, run, rows)
            table += rows
        _finish(axis, bool(drawn))
    title = "Errors along the models' own simulations"
    write_table(campaign.output / "figure3", title, _HEADER, table, notes)
    save(figure, campaign.output / "figure3.png", title, notes, 2)


def _words(walks: Walks, campaign: Campaign, runs: Sequence[Run]) -> list[str]:
    """How the simulations were made, which of them stopped early, and the paper's range."""
    notes = [
        f"{walks.walkers} walkers of {walks.nsteps} steps at {walks.temperature_K:g} K: lines are "
        "their mean, bands reach from the smallest to the largest; thin lines are the mean width "
        "of the model's bracket.",
        f"Paper: {SIMULATION_SOURCE}.",
    ]
    for run in runs:
        failures = [walk.failure for walk in walks.finished(campaign, run) if walk.failure]
        if failures:
            notes.append(f"{run.name}: {len(failures)} walkers stopped early ({failures[0]}).")
    return notes


def _finish(axis: Axes, drawn: bool) -> None:
    if not drawn:
        say_nothing_yet(axis)
        return
    axis.axhspan(
        *SIMULATION_RANGE_uEh, color=GREYS[2], alpha=0.3, lw=0, label="paper, self-refined"
    )
    axis.set_yscale("log")
    plain_ticks(axis.yaxis)
    axis.set_xlabel("step of the simulation")
    axis.set_ylabel("E − E(SCF) / µEh")


def main() -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = campaign_parser(__doc__, "figure3", ["ethanol"])
    parser.add_argument("--frames", type=given_frames, default=340, help="to train on")
    parser.add_argument("--walkers", type=positive, default=4, help="simulations of each model")
    parser.add_argument("--simulation-steps", type=positive, default=30)
    parser.add_argument("--every", type=positive, default=3, help="steps between two SCFs")
    parser.add_argument("--temperature", type=float, default=500.0, help="in K")
    options = parser.parse_args()
    walks = _walks(options)
    runs = runs_of(options.molecules, options.models, [options.frames])
    return conduct(parser, options, runs, partial(report, walks), tasks=walks.tasks)


def _walks(options: argparse.Namespace) -> Walks:
    return Walks(
        walkers=min(options.walkers, HELD_OUT),
        nsteps=options.simulation_steps,
        every=options.every,
        temperature_K=options.temperature,
    )


if __name__ == "__main__":
    sys.exit(main())
