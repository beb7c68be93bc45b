"""What a general model learns from more molecules and from more time.

Fresh networks, each trained for the same minutes on the same cores at one level of theory, on every
n-th molecule of H, C, N and O in molecules.smi, so that every family is there; two thermal copies
each, no dynamics.  Then all are asked about molecules that none has seen, up to 33 atoms.  The mean
brackets go into learning_curve.md, beside those of copies of a run's own molecules that it was not
trained on, and into learning_curve.png, beside what the stages of ``organics`` had (organics.md).

    python benchmarks/organics/learning_curve.py --molecules 25 100 400 1200 --minutes 15

With four cores a run, and where there is no RDKit, from structures that were made where there is
(train_organics.py --write-structures):

    python benchmarks/organics/learning_curve.py --molecules 50 150 450 1200 --minutes 9 \\
        --ranks 4 --batch-size 32 --structures molecules.xyz
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
from ase.io import write
from evaluate import KEPT_OUT, row, unseen_molecules
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from train_organics import NCHNO, SETTINGS, listed_molecules

from ase_srdft.common.structures import read_frames
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import load_model
from ase_srdft.runs.report.history import read_history

STAGES = Path(__file__).with_name("organics.md")
#: Atoms of an unseen molecule that is asked about, at most.
LARGEST = 33
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
        widths: at its validations (mEh), of copies of its own molecules.
    """

    nmolecules: int
    steps: int
    kept_out: float
    unseen: float
    widths: list[float]


def _as_extxyz_keeps(smiles: str) -> str:
    """Without the backslashes, which a file of that format loses."""
    return smiles.replace("\\", "")


def chosen_molecules(folder: Path, nmolecules: int, structures: Path | None) -> Path:
    """A file beside the folder with every n-th molecule: of SMILES, or of all its conformers."""
    lines = listed_molecules()[:NCHNO]
    places = np.linspace(0, len(lines) - 1, nmolecules).round().astype(int)
    chosen = [lines[place] for place in places]
    if structures is None:
        listed = folder.with_suffix(".smi")
        listed.write_text("\n".join(chosen) + "\n", encoding="utf-8")
        return listed
    smiles = {_as_extxyz_keeps(line.split()[0]) for line in chosen}
    frames = [each for each in read_frames(structures) if str(each.info["smiles"]) in smiles]
    missing = smiles - {str(each.info["smiles"]) for each in frames}
    if missing:
        raise SystemExit(f"{structures} has no structure of {', '.join(sorted(missing))}")
    listed = folder.with_suffix(".xyz")
    write(listed, frames, format="extxyz")
    return listed


def train_command(folder: Path, nmolecules: int, options: argparse.Namespace) -> list[str]:
    """``ase-srdft-train`` for one number of molecules; writes these beside the folder."""
    listed = chosen_molecules(folder, nmolecules, options.structures)
    words = ["-m", "ase_srdft.cli.train", str(listed), "-o", str(folder), "--level", options.level]
    words += ["--minutes", str(options.minutes), "--seed", str(options.seed), "--threads", "1"]
    words += ["--batch-size", str(options.batch_size)]
    settings = SETTINGS | {"--pretraining-frames": COPIES, "--validate-every": "100"}
    for flag, value in settings.items():
        words += [flag, value]
    words += ["--model-config", "features=96"]
    words += ["--optimiser.error-exponent", str(options.error_exponent)]
    if options.gradient_spike is not None:
        words += ["--optimiser.gradient-spike", str(options.gradient_spike)]
    if options.ranks == 1:
        return [sys.executable, *words]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--no-python"]
    torchrun += ["--nproc-per-node", str(options.ranks)]
    return [sys.executable, *torchrun, sys.executable, *words]


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
        widths=[each.bracket_width_uEh / 1e3 for each in history.validation],
    )


def stages() -> dict[str, Float[np.ndarray, "stages 2"]]:
    """Geometries and mean brackets (mEh) after each stage, for each column of organics.md's end."""
    lines = STAGES.read_text(encoding="utf-8").partition("## All stages")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    head, _, *rows = rows
    values = np.array([[float(cell.replace(",", "")) for cell in row] for row in rows])
    return {name: values[:, [1, 2 + i]] for i, name in enumerate(head[2:])}


def draw(points: Sequence[Point], path: Path, level: str) -> None:
    """Brackets against molecules, and along the stages of the model that ships."""
    mpl.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    figure = Figure(figsize=(8.2, 3.2), layout="constrained")
    by_number, by_time = figure.subplots(1, 2)
    counts = [point.nmolecules for point in points]
    for label, style, values in (
        ("held-out copies of its own", "^-", [min(point.widths) for point in points]),
        ("six small ones kept out", "o-", [point.kept_out for point in points]),
        (f"others, up to {LARGEST} atoms", "s-", [point.unseen for point in points]),
    ):
        by_number.loglog(counts, values, style, label=label)
    by_number.set(
        xlabel="molecules trained on",
        ylabel="mean bracket / mEh",
        title=f"fresh networks of equal time, {level}",
    )
    by_number.set_xticks(counts, [f"{count:,}" for count in counts])
    for (name, curve), colour in zip(stages().items(), COLOURS, strict=False):
        geometries, widths = np.log(curve).T
        slope, offset = np.polyfit(geometries, widths, 1)
        line = np.exp(offset + slope * geometries)
        by_time.loglog(*curve.T, "o", color=colour, label=f"{name}, power {slope:.2f}")
        by_time.loglog(curve[:, 0], line, color=colour)
        print(f"{name}: geometries to the power {slope:.2f}")
    ticks = (50_000, 70_000, 100_000)
    by_time.set(xlabel="geometries trained on", title="stages of organics, PBE/def2-SVP")
    by_time.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    for axes in (by_number, by_time):
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(frameon=False, fontsize=8)
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
    parser.add_argument("--ranks", type=int, default=1, help="cores of a run")
    parser.add_argument("--batch-size", type=int, default=8, help="geometries in a step")
    parser.add_argument("--structures", type=Path, help="of the molecules, instead of SMILES")
    parser.add_argument("--train-only", action="store_true", help="ask about nothing")
    parser.add_argument("--gradient-spike", type=float, help="shorten gradients")
    parser.add_argument("--error-exponent", type=float, default=0.0, help="scale losses")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.train_only:
        for nmolecules in options.molecules:
            trained(options.output / f"of-{nmolecules}", nmolecules, options)
        return 0
    points = []
    for nmolecules in options.molecules:
        points.append(measured(options.output / f"of-{nmolecules}", nmolecules, options))
        (options.output / "points.json").write_text(
            json.dumps([vars(point) for point in points], indent=1), encoding="utf-8"
        )
    lines = [
        f"| molecules | steps of batch {options.batch_size} "
        "| held-out copies | six kept out | others |",
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
