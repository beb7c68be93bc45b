"""Do what is missing of a campaign's runs: labels, training, evaluation, several at a time.

What is finished is not repeated, and what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ase.io import write
from children import INTERRUPTED
from machine import machine_name
from runs import (
    Campaign,
    CampaignError,
    Run,
    evaluate_command,
    label_command,
    label_minutes,
    train_command,
)

from ase_srdft.common.atomic_files import replace_atomically
from ase_srdft.common.structures import read_frames
from ase_srdft.runs.report.history import read_history

#: Runs a command and gives its exit code; what it says goes to the file.
Execute = Callable[[Sequence[str], Path], int]


def is_trained(directory: Path) -> bool:
    """Whether a run came to its own end."""
    if not (directory / "model.srdft").is_file() or not (directory / "metrics.jsonl").is_file():
        return False
    end = read_history(directory).end
    return end is not None and end.reason != "interrupted"


def is_evaluated(campaign: Campaign, run: Run) -> bool:
    """Whether there are errors of all frames; ``ase-srdft-eval`` also keeps those of a few."""
    path = campaign.evaluation(run)
    return path.is_file() and "frames_asked" not in json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class Task:
    """A command to be run with a run's model: done where its result is there."""

    name: str
    command: tuple[str, ...]
    result: Path


def no_tasks(run: Run) -> list[Task]:
    """For campaigns that only train and evaluate."""
    return []


def carry_out(
    campaign: Campaign,
    runs: Sequence[Run],
    execute: Execute,
    tasks: Callable[[Run], list[Task]] = no_tasks,
) -> int:
    """Do what is missing of the runs.

    Args:
        campaign: what they have in common.
        runs: each in a directory of its own.
        execute: runs a command; called from several threads.
        tasks: of a run, after its training and evaluation.

    Returns:
        0, `INTERRUPTED`, or 1 where any run failed; the others have been done nevertheless.

    Raises:
        CampaignError: a run's directory holds one with other settings.
    """
    for run in runs:
        _claim(campaign, run)
    codes = [_label(campaign, molecule, execute) for molecule in _to_be_labelled(campaign, runs)]
    if INTERRUPTED not in codes:
        with ThreadPoolExecutor(campaign.jobs) as pool:
            futures = [pool.submit(_finish, campaign, run, execute, tasks(run)) for run in runs]
            codes += [future.result() for future in as_completed(futures)]
    return INTERRUPTED if INTERRUPTED in codes else int(any(codes))


def _to_be_labelled(campaign: Campaign, runs: Sequence[Run]) -> list[str]:
    """The molecules of supervised runs that are still to be trained."""
    supervised = [run for run in runs if run.supervised]
    untrained = [run for run in supervised if not is_trained(campaign.directory(run))]
    return list(dict.fromkeys(run.molecule for run in untrained))


def _label(campaign: Campaign, molecule: str, execute: Execute) -> int:
    """Make the labels, or make sure that they are complete; some frames may stay without."""
    log = campaign.output / f"{molecule}-labels.log"
    return _do(execute, label_command(campaign, molecule), log)


def _claim(campaign: Campaign, run: Run) -> None:
    """Make a run's directory, or make sure that it is of the same run."""
    directory, settings = campaign.directory(run), campaign.settings(run)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "run.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in settings.items() if kept.get(name) != value]
        if differing:
            raise CampaignError(
                f"{directory} was made with another {' and '.join(differing)}: "
                "choose another --output"
            )
        return
    write_json(path, settings | {"machine": machine_name()})


def write_json(path: Path, values: object) -> None:
    """Whole or not at all."""
    text = json.dumps(values, indent=2) + "\n"

    def write_text(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    replace_atomically(path, write_text)


def _finish(campaign: Campaign, run: Run, execute: Execute, tasks: Sequence[Task]) -> int:
    """Train, evaluate and whatever else, as far as that is not done."""
    directory = campaign.directory(run)
    if not is_trained(directory):
        if run.supervised and not campaign.labels(run.molecule).is_file():
            return 1  # the labelling has said why
        if has_no_time(campaign, run):
            print(f"{run.name}: the labels leave no time to train", flush=True)
            return 0
        if run.nframes == 0:
            _write_structure(campaign, run)
        if code := _do(execute, train_command(campaign, run), directory / "train.log"):
            return code
    evaluation = Task(
        name="evaluate",
        command=tuple(evaluate_command(campaign, run)),
        result=campaign.evaluation(run),
    )
    for task in (evaluation, *tasks):
        done = is_evaluated(campaign, run) if task is evaluation else task.result.is_file()
        if not done and (code := _do(execute, task.command, directory / f"{task.name}.log")):
            return code
    return 0


def has_no_time(campaign: Campaign, run: Run) -> bool:
    """Whether making its labels takes as long as the run may."""
    if campaign.minutes is None or not campaign.labels_count:
        return False
    if run.supervised and not campaign.labels(run.molecule).is_file():
        return False
    return label_minutes(campaign, run) >= campaign.minutes


def _write_structure(campaign: Campaign, run: Run) -> None:
    first = read_frames(campaign.frames(run.molecule), 1)[0]
    write(campaign.directory(run) / "structure.xyz", first, "extxyz")


def _do(execute: Execute, command: Sequence[str], log: Path) -> int:
    """Run a command; say so, and if it fails where to look."""
    what = f"{log.parent.name}: {log.stem}"
    print(f"{what} ...", flush=True)
    code = execute(command, log)
    if code not in (0, INTERRUPTED):
        words = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        last = words.strip().rpartition("\n")[2]
        print(
            f"{what} failed with exit code {code}, see {log}: {last}", file=sys.stderr, flush=True
        )
    return code
