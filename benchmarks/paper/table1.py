"""The paper's Table 1 for our models: errors of energy, Hamiltonian and orbital energies.

For each molecule and model one run of ``ase-srdft-train`` on given frames (and, with
--self-refine, one that also samples), evaluated on the last 60 frames of the molecule's file.
Writes table1.md and table1.png: our numbers beside the paper's, and the errors of the forces and
how often the bracket holds, which it does not give.

    python benchmarks/paper/table1.py --models fock --minutes 20
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from plots import error_bars, figure
from rows import tabulate
from runs import TRAINING_FRAMES, Run, Settings, conduct, paper_parser


def runs_of(options: argparse.Namespace) -> list[Run]:
    """One for each molecule and model, and one more that samples where this is asked for."""
    return [
        Run(molecule=molecule, model=model, nframes=options.frames, self_refine=self_refine)
        for molecule in options.molecules
        for model in options.models
        for self_refine in ((False, True) if options.self_refine else (False,))
        if not (self_refine and model == "supervised")
    ]


def report(options: argparse.Namespace, settings: Settings, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    rows = tabulate(settings, "table1", runs)
    with figure(settings.output / "table1.png", rows, size=(8.6, 2.9)) as axes:
        for axis, own in zip(axes, rows.values(), strict=True):
            error_bars(axis, own)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = paper_parser(__doc__, "table1", ["ethanol", "malonaldehyde", "uracil"])
    parser.add_argument("--frames", type=int, default=TRAINING_FRAMES, help="to train on")
    parser.add_argument("--self-refine", action="store_true", help="runs that also sample, too")
    return conduct(parser, arguments, runs_of, report)


if __name__ == "__main__":
    sys.exit(main())
