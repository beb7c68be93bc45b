"""The training runs of the paper's scripts: their command line, and the commands that make them.

Every run is ``ase-srdft-train`` on one core in a folder of its own, followed by ``ase-srdft-eval``
on the last frames of the molecule's file, which no run trains on.  The model that is evaluated is
the one with the narrowest bracket there, which needs no labels.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean

from ase.io import write

from ase_srdft.common.structures import read_frames
from ase_srdft.reference.label_file import read_labels

#: Frames at the end of each file that no run trains on, and those before them.
HELD_OUT, TRAINING_FRAMES = 60, 340
MODELS = ("fock", "potential", "fine-tuned", "coefficient", "qpt", "supervised")
#: Where ``fine-tuned`` begins, and the highest learning rate of what has learned already.
GENERAL, GENTLE_RATE = "organics", "1.2e-3"
#: File of frames, functional and basis of each molecule.
SYSTEMS = {
    "ethanol": ("rmd17_ethanol_public.npz", "PBE", "6-31g"),
    "malonaldehyde": ("rmd17_malonaldehyde_public.npz", "PBE", "6-31g"),
    "uracil": ("rmd17_uracil_public.npz", "PBE", "sto-3g"),
    "water": ("h2o_gfn2md500k_mp2_public.npz", "PBE", "6-31g"),
}
_EPILOG = """\
Every run has a folder of its own below --output.  The same command goes on where it stopped, and
with nothing left to do it prints the table and draws the figure again."""


class RunError(Exception):
    """What stands in the way of the runs, in one line."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        molecule: one of `SYSTEMS`.
        model: one of `MODELS`; ``supervised`` is the Fock family trained on labels,
            ``fine-tuned`` the general model trained further.
        nframes: given frames, evenly spread over those before the held-out ones; 0: one structure.
        self_refine: whether the model's own samples are trained on, too.
        steps: of training; by default more than any limit of time allows.
        structure: file of the one structure; None for the first of the file of frames.  Beside
            given frames it is what the model's record has as the structure.
    """

    molecule: str
    model: str
    nframes: int
    self_refine: bool = False
    steps: int = 1_000_000
    structure: Path | None = None

    def __post_init__(self) -> None:
        if self.nframes not in (0, *range(2, TRAINING_FRAMES + 1)):
            raise RunError(f"{self.nframes} frames to train on: give 2 to {TRAINING_FRAMES}")
        if not (self.nframes or self.self_refine) or (self.supervised and self.self_refine):
            raise RunError(f"{self.name} cannot be: it needs frames, or samples without labels")

    @property
    def name(self) -> str:
        """Of its folder."""
        kind = "refining" if self.self_refine else "fixed"
        return f"{self.molecule}-{self.model}-{self.nframes}-{kind}"

    @property
    def has_structure(self) -> bool:
        """Whether a structure is given, alone or beside frames."""
        return self.structure is not None or self.nframes == 0

    @property
    def supervised(self) -> bool:
        """Whether it needs labels."""
        return self.model == "supervised"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs of a script have in common.

    Attributes:
        output: folder of all runs.
        data: folder of the frames.
        minutes: of training for each run; None without a limit of time.
        seed: of every run.
        jobs: runs at the same time, each on one core.
        train_arguments: more of ``ase-srdft-train``, for every run.
        labels_count: whether the time for labels is taken from the minutes of training.
    """

    output: Path
    data: Path
    minutes: float | None
    seed: int = 0
    jobs: int = 1
    train_arguments: Sequence[str] = ()
    labels_count: bool = False

    def folder(self, run: Run) -> Path:
        """Where a run's files are."""
        return self.output / run.name

    def frames(self, molecule: str) -> Path:
        """The file of a molecule's frames."""
        return self.data / SYSTEMS[molecule][0]

    def labels(self, molecule: str) -> Path:
        """The file of a molecule's labels, made for the first supervised run."""
        return self.output / f"{molecule}-labels.h5"

    def evaluation(self, run: Run) -> Path:
        """The file of a run's errors; it is there when the run is finished."""
        return self.folder(run) / "evaluation.json"


def label_minutes(settings: Settings, run: Run) -> float:
    """What the labels of a run's frames took, on one core; 0 where it needs none."""
    if not run.supervised:
        return 0.0
    labels = read_labels(settings.labels(run.molecule)).labels
    return run.nframes * fmean(label.seconds for label in labels) / 60.0


def train_command(settings: Settings, run: Run) -> list[str]:
    """``ase-srdft-train`` for a run, on one core, sampling and training in turn."""
    _, xc, basis = SYSTEMS[run.molecule]
    folder, frames = settings.folder(run), settings.frames(run.molecule)
    fine_tuned = ["--model", "potential", "--start-from", GENERAL, "--learning-rate", GENTLE_RATE]
    words = ["-m", "ase_srdft.cli.train", "-o", str(folder), "--xc", xc, "--basis", basis]
    words += ["--seed", str(settings.seed), "--threads", "1", "--engine", "sync"]
    words += ["--steps", str(run.steps)]
    if run.has_structure:
        words += [str(folder / "structure.xyz")]
    if run.nframes:
        words += ["--validation-frames", str(HELD_OUT)]
        words += ["--data-fraction", repr(run.nframes / TRAINING_FRAMES)]
    if run.supervised:
        words += ["--model", "fock", "--loss", "hamiltonian"]
        words += ["--labels", str(settings.labels(run.molecule))]
    else:
        words += ["--data", str(frames)] if run.nframes else []
        words += fine_tuned if run.model == "fine-tuned" else ["--model", run.model]
    if not run.self_refine:
        words += ["--no-self-refine"]
    if settings.minutes is not None:
        spent = label_minutes(settings, run) if settings.labels_count else 0.0
        words += ["--minutes", repr(settings.minutes - spent)]
    return [sys.executable, *words, *settings.train_arguments]


def label_command(settings: Settings, molecule: str) -> list[str]:
    """``ase-srdft-label`` for all frames of a molecule."""
    _, xc, basis = SYSTEMS[molecule]
    words = ["-m", "ase_srdft.cli.label", str(settings.frames(molecule)), "--no-forces"]
    words += ["-o", str(settings.labels(molecule)), "--xc", xc, "--basis", basis]
    return [sys.executable, *words, "--workers", str(settings.jobs)]


def evaluate_command(settings: Settings, run: Run) -> list[str]:
    """``ase-srdft-eval`` for a run's model."""
    files = [str(settings.folder(run) / "model.srdft"), str(settings.frames(run.molecule))]
    words = ["-m", "ase_srdft.cli.evaluate", *files, "--last", str(HELD_OUT)]
    return [sys.executable, *words, "--json", str(settings.evaluation(run))]


def make(settings: Settings, runs: Sequence[Run]) -> int:
    """Label, train and evaluate what is not there yet, several runs at a time.

    Ctrl-C reaches the commands as well, which leave a checkpoint and go on the next time.

    Returns:
        0, or the exit code of a command that failed; the other runs have been done nevertheless.
    """
    for molecule in dict.fromkeys(run.molecule for run in runs if run.supervised):
        if not settings.labels(molecule).is_file():
            execute(label_command(settings, molecule), settings.output / f"{molecule}-labels.log")
    with ThreadPoolExecutor(settings.jobs) as pool:
        codes = list(pool.map(partial(_finish, settings), runs))
    return next((code for code in codes if code), 0)


def _finish(settings: Settings, run: Run) -> int:
    """Train and evaluate, as far as that is not done; the exit code of what failed, or 0."""
    folder = settings.folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    if run.supervised and not settings.labels(run.molecule).is_file():
        return 1
    train, record = train_command(settings, run), folder / "command.txt"
    command = shlex.join(train[1:])  # whichever Python runs it
    if record.is_file() and record.read_text(encoding="utf-8") != command:
        print(f"{folder} was made by another command, see {record}: use another --output")
        return 2
    record.write_text(command, encoding="utf-8")
    if settings.evaluation(run).is_file():
        return 0
    if run.has_structure:
        first = read_frames(run.structure or settings.frames(run.molecule), 1)[0]
        write(folder / "structure.xyz", first, "extxyz")
    return execute(train, folder / "train.log") or execute(
        evaluate_command(settings, run), folder / "evaluate.log"
    )


def execute(command: Sequence[str], log: Path) -> int:
    """Run a command on one core; say so, and where to look if it fails."""
    print(f"{log.parent.name}: {log.stem} ...", flush=True)
    with log.open("ab") as file:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        code = subprocess.run(command, stdout=file, stderr=file, env=environment).returncode
    if code:
        print(f"{log.parent.name}: {log.stem} ended with exit code {code}, see {log}", flush=True)
    return abs(code)  # negative where a signal ended it


def paper_parser(
    description: str | None,
    output: str,
    molecules: Sequence[str] = ("ethanol",),
    models: Sequence[str] = ("fock",),
) -> argparse.ArgumentParser:
    """Options of every script, which adds its own.

    Args:
        description: the script's docstring.
        output: default folder.
        molecules: default ones.
        models: default ones; where there are none, there is no choice.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--molecules", nargs="+", choices=SYSTEMS, default=list(molecules))
    if models:
        add("--models", nargs="+", choices=MODELS, default=list(models))
    add("--minutes", type=float, default=20.0, help="of training a run (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--jobs", type=int, default=1, help="runs at a time, a core each")
    add("--output", type=Path, default=Path(output), help="default: %(default)s")
    data = Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data"))
    add("--data", type=Path, default=data, help="folder of the frames (default: ASE_SRDFT_DATA)")
    arguments = "more of ase-srdft-train, for every run (default: %(default)s)"
    default = "--batch-size 4"
    add("--train-arguments", type=shlex.split, default=default, metavar="'...'", help=arguments)
    add("--report-only", action="store_true", help="run nothing, report what there is")
    parser.set_defaults(labels_count=False)
    return parser


def conduct(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    runs_of: Callable[[argparse.Namespace], Sequence[Run]],
    report: Callable[[argparse.Namespace, Settings, Sequence[Run]], None],
) -> int:
    """Do what is missing of a script's runs and report what there is then.

    Args:
        parser: of `paper_parser`; it says what is wrong with the options.
        arguments: of the command line; None for those of the process.
        runs_of: the runs that the options ask for.
        report: prints the table and draws the figure, whatever has failed.

    Returns:
        The exit code: of what failed, 75 after Ctrl-C, or 0.
    """
    options = parser.parse_args(arguments)
    settings = Settings(**{each.name: getattr(options, each.name) for each in fields(Settings)})
    try:
        runs = runs_of(options)
        for path in (settings.frames(run.molecule) for run in runs):
            if not path.is_file():
                raise RunError(f"no {path}: name the folder of the frames in ASE_SRDFT_DATA")
        settings.output.mkdir(parents=True, exist_ok=True)
        code = 0 if options.report_only else make(settings, runs)
        report(options, settings, runs)
    except RunError as err:
        parser.error(str(err))
    except KeyboardInterrupt:
        return 75
    return code
