"""What a general model learns from more molecules and from more time.

Fresh networks, each trained for the same minutes on one core at one level of theory, on every n-th
molecule of H, C, N and O in molecules.smi, so that every family is there; two thermal copies each,
no dynamics.  Then all are asked about molecules that none has seen, up to 14 atoms.  The mean
brackets go into learning_curve.md, and into learning_curve.png beside those that each run has had
on the way, on copies of its own molecules that it was not trained on.

    python benchmarks/organics/learning_curve.py --molecules 25 100 400 1200 --minutes 15
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from evaluate import KEPT_OUT, row, unseen_molecules
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from train_organics import MOLECULES, NCHNO, SETTINGS

from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import load_model
from ase_srdft.runs.report.history import read_history

#: Atoms of an unseen molecule that is asked about, at most.
LARGEST = 14
COPIES = "2"
COLOURS = ("#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#0072B2")


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one run has learned.

    Attributes:
        nmolecules: that it was trained on.
        steps: of training.
        kept_out: mean bracket (mEh) of the six small molecules that are kept out.
        unseen: likewise of the other unseen ones.
        minutes: of its validations.
        widths: its mean brackets there (mEh), of copies of its own molecules.
    """

    nmolecules: int
    steps: int
    kept_out: float
    unseen: float
    minutes: list[float]
    widths: list[float]


def train_command(folder: Path, nmolecules: int, options: argparse.Namespace) -> list[str]:
    """``ase-srdft-train`` for one number of molecules; writes their list beside the folder."""
    lines = MOLECULES.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")][:NCHNO]
    places = np.linspace(0, len(lines) - 1, nmolecules).round().astype(int)
    listed = folder.with_suffix(".smi")
    listed.write_text("\n".join(lines[place] for place in places) + "\n", encoding="utf-8")
    words = ["-m", "ase_srdft.cli.train", str(listed), "-o", str(folder), "--level", options.level]
    words += ["--minutes", str(options.minutes), "--seed", str(options.seed), "--threads", "1"]
    settings = SETTINGS | {"--pretraining-frames": COPIES, "--validate-every": "100"}
    for flag, value in settings.items():
        words += [flag, value]
    words += ["--model-config", "features=96"]
    words += ["--optimiser.error-exponent", str(options.error_exponent)]
    if options.gradient_spike is not None:
        words += ["--optimiser.gradient-spike", str(options.gradient_spike)]
    return [sys.executable, *words]


def trained(folder: Path, nmolecules: int, options: argparse.Namespace) -> Path:
    """The model of a run, made if it is not there."""
    model = folder / "model.srdft"
    command = train_command(folder, nmolecules, options)
    done = folder / "done.txt"
    if not done.is_file():
        print(f"{nmolecules} molecules: training ...", flush=True)
        with folder.with_suffix(".log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
        done.write_text(shlex.join(command[1:]), encoding="utf-8")
    return model


def measured(folder: Path, nmolecules: int, options: argparse.Namespace) -> Point:
    """Train, and ask about what was never seen."""
    model = load_model(trained(folder, nmolecules, options)).model
    xc, _, basis = options.level.partition("/")
    asked = argparse.Namespace(copies=int(COPIES), temperature=850.0, scf=False)
    widths: dict[bool, list[float]] = {True: [], False: []}
    for name, atoms in unseen_molecules(model.elements, LARGEST).items():
        found = row(model, atoms, LevelOfTheory(xc=xc, basis=basis), asked)
        widths[name in KEPT_OUT].append(float(found.widths.mean()))
        print(f"  {name:24} {found}", flush=True)
    history = read_history(folder)
    assert history.end is not None
    return Point(
        nmolecules=nmolecules,
        steps=history.end.step,
        kept_out=float(np.mean(widths[True])),
        unseen=float(np.mean(widths[False])),
        minutes=[each.elapsed_s / 60.0 for each in history.validation],
        widths=[each.bracket_width_uEh / 1e3 for each in history.validation],
    )


def draw(points: Sequence[Point], path: Path, level: str) -> None:
    """Brackets against molecules, and against minutes."""
    mpl.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    figure = Figure(figsize=(8.2, 3.2), layout="constrained")
    by_number, by_time = figure.subplots(1, 2, sharey=True)
    counts = [point.nmolecules for point in points]
    for label, marker, values in (
        ("six small ones kept out", "o-", [point.kept_out for point in points]),
        (f"others, up to {LARGEST} atoms", "s-", [point.unseen for point in points]),
    ):
        by_number.loglog(counts, values, marker, label=label)
    by_number.set(
        xlabel="molecules trained on",
        ylabel="mean bracket / mEh",
        title=f"never seen, {level}",
    )
    by_number.legend(frameon=False)
    for point, colour in zip(points, COLOURS, strict=False):
        by_time.loglog(
            point.minutes, point.widths, color=colour, label=f"{point.nmolecules} molecules"
        )
    by_time.set(xlabel="minutes of one core", title="held-out copies of its own")
    by_time.legend(frameon=False)
    for axis in (by_number.yaxis, by_time.yaxis, by_time.xaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
    by_number.set_xticks(counts, [f"{count:,}" for count in counts])
    for axes in (by_number, by_time):
        axes.minorticks_off()
    figure.savefig(path, dpi=200)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, then table and picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("learning-curve"))
    parser.add_argument("--molecules", type=int, nargs="+", default=[25, 100, 400, 1200])
    parser.add_argument("--minutes", type=float, default=15.0, help="of training a run")
    parser.add_argument("--level", default="PBE/6-31g")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gradient-spike", type=float, help="shorten gradients")
    parser.add_argument("--error-exponent", type=float, default=0.0, help="scale losses")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    points = []
    for nmolecules in options.molecules:
        points.append(measured(options.output / f"of-{nmolecules}", nmolecules, options))
        (options.output / "points.json").write_text(
            json.dumps([vars(point) for point in points], indent=1), encoding="utf-8"
        )
    lines = [
        "| molecules | steps of batch 8 | held-out copies | six kept out | others |",
        "| --- | --- | --- | --- | --- |",
    ]
    for point in points:
        values = f"{min(point.widths):.2f} | {point.kept_out:.2f} | {point.unseen:.2f}"
        lines.append(f"| {point.nmolecules:,} | {point.steps:,} | {values} |")
    text = "\n".join(lines)
    (options.output / "learning_curve.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    draw(points, options.output / "learning_curve.png", options.level)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
