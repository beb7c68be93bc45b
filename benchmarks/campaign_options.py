"""The command line that the benchmarks of campaigns share, and their way from it to the files."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from campaign import Task, carry_out, no_tasks
from children import Children
from runs import HELD_OUT, MODELS, SYSTEMS, TRAINING_FRAMES, Campaign, CampaignError, Run

from ase_srdft.cli.common import Parser, positive

#: Makes the tables and figures of a campaign from what there is.
Report = Callable[[Campaign, Sequence[Run]], None]


def campaign_parser(
    description: str | None, output: str, molecules: Sequence[str], minutes: float = 20.0
) -> Parser:
    """Options of every campaign; a script adds its own.

    Args:
        description: the script's docstring.
        output: default directory.
        molecules: default ones.
        minutes: default budget of a run.
    """
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", nargs="+", choices=SYSTEMS, default=list(molecules))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["fock"])
    parser.add_argument(
        "--minutes", type=_positive_number, help=f"of training a run (default {minutes:g})"
    )
    parser.add_argument(
        "--steps", type=positive, help="of training a run; without --minutes, alone"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=positive, default=1, help="runs at a time, a core each")
    parser.add_argument(
        "--evaluate", type=positive, default=HELD_OUT, help=f"frames, at most {HELD_OUT}"
    )
    parser.add_argument("--output", type=Path, default=Path(output), help="directory of all runs")
    parser.add_argument("--data", type=Path, help="folder of the frames; default: ASE_SRDFT_DATA's")
    parser.add_argument(
        "--train-arguments",
        default="--batch-size 4",
        metavar="'...'",
        help="more of ase-srdft-train, for every run (default: %(default)s)",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="run nothing: report what there is"
    )
    parser.set_defaults(default_minutes=minutes)
    return parser


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return number


def given_frames(text: str) -> int:
    """A number of frames to train on, for ``type=`` of an argument."""
    number = positive(text)
    if not 2 <= number <= TRAINING_FRAMES:
        raise argparse.ArgumentTypeError(f"{text} frames: the files give 2 to {TRAINING_FRAMES}")
    return number


def campaign_from(options: argparse.Namespace, labels_count: bool = False) -> Campaign:
    """The campaign of a command line.

    Raises:
        CampaignError: frames that are not there, or more to evaluate at than are held out.
    """
    data = options.data or Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data"))
    if options.evaluate > HELD_OUT:
        raise CampaignError(f"--evaluate {options.evaluate}: only {HELD_OUT} frames are held out")
    for molecule in options.molecules:
        path = data / SYSTEMS[molecule].file
        if not path.is_file():
            raise CampaignError(
                f"no {path}: name the folder of the frames in ASE_SRDFT_DATA or by --data"
            )
    minutes = options.minutes
    if minutes is None and options.steps is None:
        minutes = options.default_minutes
    return Campaign(
        output=options.output,
        data=data,
        minutes=minutes,
        steps=options.steps,
        seed=options.seed,
        jobs=options.jobs,
        nevaluate=options.evaluate,
        train_arguments=tuple(shlex.split(options.train_arguments)),
        labels_count=labels_count,
    )


def conduct(
    parser: Parser,
    options: argparse.Namespace,
    runs: Sequence[Run],
    report: Report,
    *,
    tasks: Callable[[Campaign, Run], list[Task]] | None = None,
    labels_count: bool = False,
) -> int:
    """Do what is missing of the runs and report what there is then; returns the exit code.

    Args:
        parser: its ``prog`` begins the line of an error.
        options: of `campaign_parser`.
        runs: of the campaign.
        report: called in any case, interrupted or not.
        tasks: of a run, after its training and evaluation.
        labels_count: as in `Campaign`.
    """
    try:
        campaign = campaign_from(options, labels_count)
        campaign.output.mkdir(parents=True, exist_ok=True)
        code = 0
        if not options.report_only:
            own = no_tasks if tasks is None else partial(tasks, campaign)
            with Children() as children:
                code = carry_out(campaign, runs, children, own)
        report(campaign, runs)
    except (CampaignError, OSError) as err:
        print(f"{parser.prog}: error: {err}", file=sys.stderr)
        return 2
    return code
