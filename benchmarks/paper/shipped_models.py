"""Train, evaluate and install the models of one molecule that ship with the package.

Each is one run of ``ase-srdft-train`` with seed 0, of the family ``potential`` from one structure
of our own (benchmarks/structures); uracil's has given frames as well, as its model is asked about
geometries that its minimal basis would not lead to.  Sampling and training take turns, so that
what else the machine does changes the time and not the model.
Evaluated on the last 60 frames of the molecule's file.  Writes shipped.md, the paper's numbers
beside ours, and with --install copies the models to where the package finds them by name.

    python benchmarks/paper/shipped_models.py --molecules water uracil --install
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rows import tabulate
from runs import SYSTEMS, TRAINING_FRAMES, Run, RunError, Settings, conduct, paper_parser

from ase_srdft.common.atomic_files import write_atomically
from ase_srdft.models.shipped_models import shipped_folder

#: Bytes that a model may have.
LARGEST = 2_000_000
STRUCTURES = Path(__file__).parents[1] / "structures"


def _from_one_structure(molecule: str, steps: int) -> Run:
    return Run(
        molecule=molecule,
        model="potential",
        nframes=0,
        self_refine=True,
        steps=steps,
        structure=STRUCTURES / f"{molecule}.xyz",
    )


#: A run for each molecule, of so many steps, whatever they take.
SHIPPED = (
    _from_one_structure("water", 6_000),
    _from_one_structure("ethanol", 20_000),
    _from_one_structure("malonaldehyde", 20_000),
    Run(
        molecule="uracil",
        model="potential",
        nframes=TRAINING_FRAMES,
        self_refine=True,
        steps=30_000,
        structure=STRUCTURES / "uracil.xyz",
    ),
)


def name_of(molecule: str) -> str:
    """Of a shipped model: molecule, functional and basis."""
    _, xc, basis = SYSTEMS[molecule]
    return f"{molecule}-{xc.lower()}-{basis}"


def runs_of(options: argparse.Namespace) -> list[Run]:
    """Those of the molecules that are asked for."""
    return [run for run in SHIPPED if run.molecule in options.molecules]


def install(name: str, model: Path) -> None:
    """Copy a model to where the package finds it.

    Raises:
        RunError: it is too large to ship.
    """
    content = model.read_bytes()
    if len(content) > LARGEST:
        raise RunError(f"{model} has {len(content):,} bytes: at most {LARGEST:,} are shipped")
    target = shipped_folder() / f"{name}.srdft"
    target.parent.mkdir(exist_ok=True)

    write_atomically(target, content)
    print(f"{target}: {len(content):,} bytes")


def report(options: argparse.Namespace, settings: Settings, runs: Sequence[Run]) -> None:
    """The table of what there is; install it where this is asked for."""
    tabulate(settings, "shipped", runs)
    for run in runs:
        if options.install and settings.evaluation(run).is_file():
            install(name_of(run.molecule), settings.folder(run) / "model.srdft")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing; returns the exit code."""
    parser = paper_parser(
        __doc__, "shipped", molecules=[run.molecule for run in SHIPPED], models=()
    )
    parser.set_defaults(minutes=None, train_arguments="--batch-size 4 --memory-gb 12")
    parser.add_argument("--install", action="store_true", help="copy them into the package")
    return conduct(parser, arguments, runs_of, report)


if __name__ == "__main__":
    sys.exit(main())
