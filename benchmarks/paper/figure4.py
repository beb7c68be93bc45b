"""The paper's Fig. 4 for our models: error against all the time that it takes to get there.

Three ways to a model: from frames and labels (``supervised``), from frames alone, and from one
structure, self-refining.  What counts besides training is the generation of the frames by
molecular dynamics with the SCF (seconds of an SCF with its gradient, measured here from a
neighbouring geometry's density, times --md-steps for each frame), and the labels (as
ase-srdft-label has recorded them).  Curves are the certified error (mean bracket width) at the
validations of each run: those with frames validate on the last 60 frames of the file, those
without on samples of their own; the marks at their ends are the errors of the energy at the last
60 frames, for all.  Writes figure4.md and figure4.png.

    python benchmarks/paper/figure4.py --models fock supervised --minutes 20
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from plots import COLOURS, LINES, figure, logarithmic
from rows import HEADER, Row, finished, write_table
from runs import SYSTEMS, TRAINING_FRAMES, Run, Settings, conduct, paper_parser

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.structures import read_frames
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How far a step of molecular dynamics moves an atom, about (Angstrom), and steps that are timed.
_MOVE, _TIMED = 0.01, 3


def runs_of(options: argparse.Namespace) -> list[Run]:
    """For each molecule the supervised model, and each other one from frames and from none."""
    return [
        Run(molecule=molecule, model=model, nframes=nframes, self_refine=nframes == 0)
        for molecule in options.molecules
        for model in options.models
        for nframes in (options.frames, 0)
        if nframes or model != "supervised"
    ]


def dynamics_seconds(settings: Settings, molecule: str) -> float:
    """Seconds of a step of molecular dynamics with the SCF; measured once for an output folder."""
    path = settings.output / f"{molecule}-dynamics.txt"
    if not path.is_file():
        path.write_text(f"{_timed_step(settings, molecule)}\n")
    return float(path.read_text())


def _timed_step(settings: Settings, molecule: str) -> float:
    """Median time of SCF and gradient, one thread, each from the density of the step before."""
    from pyscf import lib

    _, xc, basis = SYSTEMS[molecule]
    frame = read_frames(settings.frames(molecule), 1)[0]
    numbers = tuple(frame.numbers.tolist())
    target = Molecule(numbers=numbers, level=LevelOfTheory(xc=xc, basis=basis))
    moves = np.random.default_rng(0).normal(scale=_MOVE, size=(_TIMED + 1, len(frame), 3))
    density, times = None, []
    with lib.with_omp_threads(1):
        for move in moves:
            frame.positions += move
            positions = nuclei_of(frame).positions
            start = time.perf_counter()
            scf = mean_field(target, positions)
            scf.kernel(dm0=density)
            scf.nuc_grad_method().kernel()
            times.append(time.perf_counter() - start)
            density = scf.make_rdm1()
    return statistics.median(times[1:])


def _draw(axis: Axes, row: Row, minutes_before: float) -> None:
    """The curve of certified errors, and a mark of the error in the end."""
    line = "-." if row.model == "supervised" else LINES[row.self_refine]
    colour, label = COLOURS[row.model], f"{row.model}: {row.training}"
    times = [minutes_before + minutes for minutes, _ in row.certified]
    axis.plot(times, [width for _, width in row.certified], line, color=colour, label=label)
    axis.plot(minutes_before + row.minutes, row.errors[0] or 0.0, "o", color=colour)


def report(options: argparse.Namespace, settings: Settings, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    rows = finished(settings, runs)
    seconds = {row.molecule: dynamics_seconds(settings, row.molecule) for row in rows}
    frames = [row.nframes * options.md_steps * seconds[row.molecule] / 60.0 for row in rows]
    before = [own + row.label_minutes for own, row in zip(frames, rows, strict=True)]
    cells = [
        [*row.cells, own, start + row.minutes]
        for row, own, start in zip(rows, frames, before, strict=True)
    ]
    words = ", ".join(f"{each:.2f} s for {molecule}" for molecule, each in seconds.items())
    note = f"A frame takes {options.md_steps} steps of molecular dynamics with the SCF, {words}."
    write_table(settings, "figure4", (*HEADER, "generation/min", "total/min"), cells, note)
    molecules = list(dict.fromkeys(run.molecule for run in runs))
    with figure(settings.output / "figure4.png", molecules, size=(7.0, 3.4)) as axes:
        for axis, molecule in zip(axes, molecules, strict=True):
            for row, start in zip(rows, before, strict=True):
                if row.molecule == molecule:
                    _draw(axis, row, start)
            x, y = "frames, labels and training / min", "certified error (marks: error) / µEh"
            logarithmic(axis, x, y)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = paper_parser(__doc__, "figure4", models=("fock", "supervised"))
    parser.add_argument("--frames", type=int, default=TRAINING_FRAMES, help="where given")
    parser.add_argument("--md-steps", type=int, default=10, help="of dynamics for a frame")
    return conduct(parser, arguments, runs_of, report)


if __name__ == "__main__":
    sys.exit(main())
