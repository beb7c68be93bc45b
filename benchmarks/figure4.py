"""The paper's Fig. 4 for our models: error against all the time that it takes to get there.

Three ways to a model: from frames and labels (``supervised``), from frames alone, and from one
structure, self-refining.  What counts besides training is the generation of the frames by
molecular dynamics with the SCF (seconds of an SCF with its gradient, measured here from a
neighbouring geometry's density, times --md-steps for each frame), and the labels (as
ase-srdft-label has recorded them).  Curves are the certified error (mean bracket width) at the
validations of each run: those with frames validate on the last 60 frames of the file, those
without on samples of their own; the marks at their ends are the errors of the energy at the last
60 frames, for all.  Writes figure4.csv, figure4.md and figure4.png into the output directory.

    python benchmarks/figure4.py --molecules ethanol --models fock supervised --minutes 20

The same command goes on where it stopped.  The frames are looked for in the folder that
ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from campaign import write_json
from campaign_options import campaign_parser, conduct, given_frames
from plots import COLOURS, panels, plain_ticks, save, say_nothing_yet
from results import (
    HEADER,
    Cell,
    Result,
    certified_curve,
    notes_of,
    results_of,
    row_of,
    training_words,
    write_table,
)
from runs import SYSTEMS, TRAINING_FRAMES, Campaign, Run

from ase_srdft.cli.common import positive
from ase_srdft.common.structures import read_frames
from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADER = (*HEADER, "generation/min", "total/min")
#: How far a step of molecular dynamics moves an atom, about (Angstrom), and steps that are timed.
_MOVE, _TIMED = 0.01, 3


@dataclass(frozen=True, kw_only=True)
class Total:
    """A finished run with the time for its frames.

    Attributes:
        result: of the run.
        generation_minutes: for its given frames.
        curve: minutes of training and certified error (microhartree).
    """

    result: Result
    generation_minutes: float
    curve: list[tuple[float, float]]

    @property
    def minutes_before(self) -> float:
        """Before training begins."""
        return self.generation_minutes + self.result.label_minutes

    @property
    def minutes(self) -> float:
        """All of it."""
        return self.minutes_before + self.result.minutes

    def row(self) -> list[Cell]:
        """The columns of the table."""
        return [*row_of(self.result), self.generation_minutes, self.minutes]


def runs_of(molecules: Sequence[str], models: Sequence[str], nframes: int) -> list[Run]:
    """For each molecule the supervised model, and each other one from frames and from none."""
    runs = []
    for molecule in molecules:
        for model in models:
            runs.append(Run(molecule=molecule, model=model, nframes=nframes))
            if model != "supervised":
                runs.append(Run(molecule=molecule, model=model, nframes=0, self_refine=True))
    return runs


def dynamics_seconds(campaign: Campaign, molecule: str) -> float:
    """Seconds of a step of molecular dynamics with the SCF; measured once for a campaign."""
    path = campaign.output / f"{molecule}-dynamics.json"
    if not path.is_file():
        seconds = _timed_steps(campaign, molecule)
        write_json(path, {"seconds_of_a_step": seconds})
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds_of_a_step"])


def _timed_steps(campaign: Campaign, molecule: str) -> float:
    """Median time of SCF and gradient, one thread, each from the density of the step before."""
    from pyscf import lib

    system = SYSTEMS[molecule]
    frame = read_frames(campaign.frames(molecule), 1)[0]
    level = LevelOfTheory(xc=system.xc, basis=system.basis)
    target = Molecule(numbers=tuple(frame.numbers.tolist()), level=level)
    moves = np.random.default_rng(0).normal(scale=_MOVE, size=(_TIMED + 1, len(frame), 3))
    density, times = None, []
    with lib.with_omp_threads(1):
        for positions in frame.positions + np.cumsum(moves, axis=0):
            start = time.perf_counter()
            scf = mean_field(target, positions / ANGSTROM_PER_BOHR)
            scf.kernel(dm0=density)
            scf.nuc_grad_method().kernel()
            times.append(time.perf_counter() - start)
            density = scf.make_rdm1()
    return statistics.median(times[1:])


def totals_of(campaign: Campaign, results: Sequence[Result], md_steps: int) -> list[Total]:
    """Results with the time for the frames that they were given."""
    return [
        Total(
            result=result,
            generation_minutes=result.nframes
            * md_steps
            * (dynamics_seconds(campaign, result.run.molecule) if result.nframes else 0.0)
            / 60.0,
            curve=certified_curve(campaign.directory(result.run)),
        )
        for result in results
    ]


def _style(run: Run) -> tuple[str, str]:
    if run.self_refine:
        return "-", "o"
    return ("-.", "D") if run.supervised else ("--", "s")


def _draw(axis: Axes, totals: Sequence[Total]) -> None:
    """Curves of certified errors, and marks of the errors in the end."""
    if not totals:
        say_nothing_yet(axis)
        return
    for total in totals:
        run, result = total.result.run, total.result
        line, marker = _style(run)
        label = f"{run.model}: {training_words(result.nframes, run.self_refine)}"
        times = [total.minutes_before + minutes for minutes, _ in total.curve]
        widths = [width for _, width in total.curve]
        axis.plot(times, widths, line, c=COLOURS[run.model], label=label)
        energy = result.accuracy.energy_mae_uEh
        axis.plot(total.minutes, energy, marker, c=COLOURS[run.model], ms=7, mec="white")
    axis.set_xscale("log")
    axis.set_yscale("log")
    plain_ticks(axis.xaxis)
    plain_ticks(axis.yaxis)
    axis.set_xlabel("frames, labels and training / min")
    axis.set_ylabel("certified error (marks: error) / µEh")


def report(md_steps: int, campaign: Campaign, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    molecules = list(dict.fromkeys(run.molecule for run in runs))
    results = results_of(campaign, runs)
    totals = totals_of(campaign, results, md_steps)
    notes = notes_of(campaign, runs, results)
    seconds = [
        f"{molecule} {dynamics_seconds(campaign, molecule):.2f} s"
        for molecule in dict.fromkeys(result.run.molecule for result in results)
    ]
    notes.append(
        f"A frame takes {md_steps} steps of molecular dynamics with the SCF, one step "
        f"{', '.join(seconds) or 'not timed yet'}. Curves: mean bracket width at validations; "
        "marks: mean error of the energy at the held-out frames."
    )
    title = "Errors against all the time that they take"
    rows = [total.row() for total in totals]
    write_table(campaign.output / "figure4", title, _HEADER, rows, notes)
    figure, axes = panels(molecules, width=4.4, height=3.4, columns=min(3, len(molecules)))
    for axis, molecule in zip(axes, molecules, strict=True):
        _draw(axis, [total for total in totals if total.result.run.molecule == molecule])
    save(figure, campaign.output / "figure4.png", title, notes, 2)


def main() -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = campaign_parser(__doc__, "figure4", ["ethanol"])
    parser.set_defaults(models=["fock", "supervised"])
    parser.add_argument("--frames", type=given_frames, default=TRAINING_FRAMES, help="where given")
    parser.add_argument("--md-steps", type=positive, default=10, help="of dynamics for a frame")
    options = parser.parse_args()
    runs = runs_of(options.molecules, options.models, options.frames)
    return conduct(parser, options, runs, partial(report, options.md_steps))


if __name__ == "__main__":
    sys.exit(main())
