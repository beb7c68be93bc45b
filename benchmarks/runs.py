"""The paper's molecules, the training runs of a campaign, and the commands that make them.

Every run is ``ase-srdft-train`` in a directory of its own below the campaign's, followed by
``ase-srdft-eval`` on the last frames of the molecule's file, which no run trains on; the model
that is evaluated is the one with the narrowest bracket there, for which nobody needs labels.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

#: Frames at the end of each file that no run trains on, and those before them.
HELD_OUT, TRAINING_FRAMES = 60, 340
MODELS = ("fock", "coefficient", "qpt", "supervised")
#: Runs that are limited by time have no limit of steps that they could reach.
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class System:
    """A molecule at the paper's level of theory: its file of frames, functional and basis."""

    file: str
    xc: str
    basis: str


SYSTEMS = {
    "ethanol": System(file="rmd17_ethanol_public.npz", xc="PBE", basis="6-31g"),
    "malonaldehyde": System(file="rmd17_malonaldehyde_public.npz", xc="PBE", basis="6-31g"),
    "uracil": System(file="rmd17_uracil_public.npz", xc="PBE", basis="sto-3g"),
    "water": System(file="h2o_gfn2md500k_mp2_public.npz", xc="PBE", basis="6-31g"),
}


class CampaignError(Exception):
    """What stands in the way of a campaign, in one line."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        molecule: one of `SYSTEMS`.
        model: one of `MODELS`; ``supervised`` is the Fock family trained on labels.
        nframes: given frames, evenly spread over those before the held-out ones; 0: no frames,
            one structure, which is the file's first frame.
        self_refine: whether the model's own samples are trained on, too.
    """

    molecule: str
    model: str
    nframes: int
    self_refine: bool = False

    def __post_init__(self) -> None:
        if self.nframes == 0 and not self.self_refine:
            raise CampaignError(f"{self.model} without frames: it must refine itself")
        if self.model == "supervised" and self.self_refine:
            raise CampaignError("supervised training has no samples of its own: drop self_refine")

    @property
    def name(self) -> str:
        """Of its directory."""
        kind = "refining" if self.self_refine else "fixed"
        return f"{self.molecule}-{self.model}-{self.nframes}-{kind}"

    @property
    def supervised(self) -> bool:
        """Whether it needs labels."""
        return self.model == "supervised"


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What all runs have in common.

    Attributes:
        output: directory of all runs.
        data: folder of the frames.
        minutes: of training for each run; None without a limit of time.
        steps: of training for each run; None without a limit of steps.
        seed: of every run.
        jobs: runs at the same time, each on one core.
        nevaluate: frames to evaluate at, the last ones.
        train_arguments: more of ``ase-srdft-train``, for every run.
        labels_count: whether the time for labels is taken from the minutes of training.
    """

    output: Path
    data: Path
    minutes: float | None
    steps: int | None
    seed: int
    jobs: int
    nevaluate: int
    train_arguments: tuple[str, ...] = ()
    labels_count: bool = False

    def directory(self, run: Run) -> Path:
        """Where a run's files are."""
        return self.output / run.name

    def frames(self, molecule: str) -> Path:
        """The file of a molecule's frames."""
        return self.data / SYSTEMS[molecule].file

    def labels(self, molecule: str) -> Path:
        """The file of a molecule's labels, made for the first supervised run."""
        return self.output / f"{molecule}-labels.h5"

    def evaluation(self, run: Run) -> Path:
        """The file of a run's errors."""
        return self.directory(run) / f"evaluation-{self.nevaluate}.json"

    def settings(self, run: Run) -> dict[str, object]:
        """What a run's files depend on, plain."""
        return asdict(run) | {
            "minutes": self.minutes,
            "steps": self.steps,
            "seed": self.seed,
            "train_arguments": list(self.train_arguments),
            "labels_count": self.labels_count and run.supervised,
        }


def label_minutes(campaign: Campaign, run: Run) -> float:
    """What the labels of a run's frames took, on one core; 0 where it needs none."""
    if not run.supervised:
        return 0.0
    seconds: list[np.ndarray] = []

    def collect(name: str, item: object) -> None:
        if name.split("/")[-1] == "seconds" and isinstance(item, h5py.Dataset):
            seconds.append(item[...])

    with h5py.File(campaign.labels(run.molecule)) as file:
        file.visititems(collect)
    return run.nframes * float(np.concatenate(seconds).mean()) / 60.0


def train_command(campaign: Campaign, run: Run) -> list[str]:
    """``ase-srdft-train`` for a run, on one core, sampling and training in turn."""
    system = SYSTEMS[run.molecule]
    command = [sys.executable, "-m", "ase_srdft.cli.train", "-o", str(campaign.directory(run))]
    command += ["--xc", system.xc, "--basis", system.basis, "--seed", str(campaign.seed)]
    command += ["--threads", "1", "--engine", "sync"]
    if run.supervised:
        command += ["--loss", "hamiltonian", "--labels", str(campaign.labels(run.molecule))]
    elif run.model != "fock":  # the default
        command += ["--model", run.model]
    if run.nframes == 0:
        command += [str(campaign.directory(run) / "structure.xyz")]
    else:
        if not run.supervised:
            command += ["--data", str(campaign.frames(run.molecule))]
        command += ["--validation-frames", str(HELD_OUT)]
        if run.nframes < TRAINING_FRAMES:
            command += ["--data-fraction", repr(run.nframes / TRAINING_FRAMES)]
    if not run.self_refine:
        command += ["--no-self-refine"]
    command += ["--steps", str(campaign.steps or _NO_LIMIT)]
    if campaign.minutes is not None:
        spent = label_minutes(campaign, run) if campaign.labels_count else 0.0
        command += ["--minutes", repr(campaign.minutes - spent)]
    return [*command, *campaign.train_arguments]


def label_command(campaign: Campaign, molecule: str) -> list[str]:
    """``ase-srdft-label`` for all frames of a molecule."""
    system = SYSTEMS[molecule]
    command = [sys.executable, "-m", "ase_srdft.cli.label", str(campaign.frames(molecule))]
    command += ["-o", str(campaign.labels(molecule)), "--xc", system.xc, "--basis", system.basis]
    return [*command, "--no-forces", "--workers", str(campaign.jobs)]


def evaluate_command(campaign: Campaign, run: Run) -> list[str]:
    """``ase-srdft-eval`` for a run's model."""
    command = [sys.executable, "-m", "ase_srdft.cli.evaluate"]
    command += [str(campaign.directory(run) / "model.srdft"), str(campaign.frames(run.molecule))]
    return [*command, "--last", str(campaign.nevaluate), "--json", str(campaign.evaluation(run))]
