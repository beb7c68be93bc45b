"""Which model learns most in the same wall time, from one structure, few frames and many.

Every model gets the same minutes on one core and the same frames, or with 0 frames one structure,
around which it samples itself; for the supervised one the time that its labels took, on one core,
is taken from them.  Errors at the last 60 frames of the molecule's file.  Writes equal_time.md and
equal_time.png.

    python benchmarks/paper/equal_time.py --frames 25 250 --minutes 30
    python benchmarks/paper/equal_time.py --models fock potential fine-tuned --frames 0 25 340
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from plots import error_bars, figure
from rows import tabulate
from runs import MODELS, Run, Settings, conduct, paper_parser


def runs_of(options: argparse.Namespace) -> list[Run]:
    """For each molecule and number of frames all models."""
    return [
        Run(molecule=molecule, model=model, nframes=nframes, self_refine=nframes == 0)
        for molecule in options.molecules
        for nframes in options.frames
        for model in options.models
        if nframes or model != "supervised"
    ]


def report(options: argparse.Namespace, settings: Settings, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    rows = tabulate(settings, "equal_time", runs, paper=False)
    cases = [(molecule, nframes) for molecule in rows for nframes in options.frames]
    titles = [f"{name}, {f'{count} frames' if count else 'one structure'}" for name, count in cases]
    with figure(settings.output / "equal_time.png", titles, size=(7.6, 2.9)) as axes:
        for axis, (molecule, nframes) in zip(axes, cases, strict=True):
            error_bars(axis, [row for row in rows[molecule] if row.nframes == nframes])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = paper_parser(__doc__, "equal-time", models=MODELS)
    parser.set_defaults(labels_count=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[25, 250])
    return conduct(parser, arguments, runs_of, report)


if __name__ == "__main__":
    sys.exit(main())
