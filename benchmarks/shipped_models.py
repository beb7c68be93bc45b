"""Train, evaluate and install the models that ship with the package.

Each is one run of ``ase-srdft-train`` on one core with seed 0: given frames and the model's own
samples beside them (water: one structure and no frames).  Sampling and training take turns, so
that what else the machine does changes the time and not the model.
Evaluated on the last 60 frames of the molecule's file.  Writes shipped.csv and shipped.md into
the output directory, the paper's numbers beside ours, and with --install copies the models to
where the package finds them by name.

    python benchmarks/shipped_models.py --names water-pbe-6-31g uracil-pbe-sto-3g --install

The same command goes on where it stopped.  The frames are looked for in the folder that
ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from campaign import carry_out, is_trained
from children import Children
from paper_numbers import SOURCE, published
from results import HEADER, Cell, Result, published_row, results_of, row_of, write_table
from runs import HELD_OUT, SYSTEMS, TRAINING_FRAMES, Campaign, CampaignError, Run

from ase_srdft.cli.common import Parser
from ase_srdft.common.atomic_files import replace_atomically
from ase_srdft.models.shipped_models import shipped_folder

#: Bytes that a model may have.
LARGEST = 2_000_000
#: Of every run.
TRAIN_ARGUMENTS = ("--batch-size", "4", "--memory-gb", "12")


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """How a model is made."""

    molecule: str
    nframes: int
    steps: int

    @property
    def run(self) -> Run:
        """Its training run."""
        return Run(molecule=self.molecule, model="fock", nframes=self.nframes, self_refine=True)


SHIPPED = {
    "water-pbe-6-31g": Shipped(molecule="water", nframes=0, steps=4_000),
    "ethanol-pbe-6-31g": Shipped(molecule="ethanol", nframes=TRAINING_FRAMES, steps=10_000),
    "malonaldehyde-pbe-6-31g": Shipped(
        molecule="malonaldehyde", nframes=TRAINING_FRAMES, steps=6_000
    ),
    "uracil-pbe-sto-3g": Shipped(molecule="uracil", nframes=TRAINING_FRAMES, steps=13_400),
}


def campaign_of(name: str, output: Path, data: Path) -> Campaign:
    """Everything but the run itself."""
    return Campaign(
        output=output,
        data=data,
        minutes=None,
        steps=SHIPPED[name].steps,
        seed=0,
        jobs=1,
        nevaluate=HELD_OUT,
        train_arguments=TRAIN_ARGUMENTS,
    )


def install(name: str, model: Path) -> None:
    """Copy a model to where the package finds it.

    Raises:
        CampaignError: it is too large to ship.
    """
    content = model.read_bytes()
    if len(content) > LARGEST:
        raise CampaignError(f"{model} has {len(content):,} bytes: at most {LARGEST:,} are shipped")
    target = shipped_folder() / f"{name}.srdft"
    target.parent.mkdir(exist_ok=True)

    def write(beside: Path) -> None:
        beside.write_bytes(content)

    replace_atomically(target, write)
    print(f"{target}: {len(content):,} bytes")


def report(output: Path, results: dict[str, Result]) -> None:
    """The table of all models that are there."""
    rows: list[list[Cell]] = []
    for name, result in results.items():
        rows += [published_row(row) for row in published(result.run.molecule)]
        rows.append([name, *row_of(result)[1:]])
    machines = "; ".join(dict.fromkeys(result.machine for result in results.values()))
    notes = [
        f"Seed 0, {' '.join(TRAIN_ARGUMENTS)}; mean absolute errors at the last {HELD_OUT} frames.",
        *([f"Machine: {machines}."] if machines else []),
        f"Paper: {SOURCE}.",
    ]
    write_table(output / "shipped", "Shipped models", HEADER, rows, notes)


def make(options: argparse.Namespace, data: Path) -> int:
    """Train, evaluate, report, install; returns the exit code."""
    results: dict[str, Result] = {}
    codes = [0]
    with Children() as children:
        for name in options.names:
            run, campaign = SHIPPED[name].run, campaign_of(name, options.output, data)
            if not options.report_only:
                codes.append(carry_out(campaign, [run], children))
            for result in results_of(campaign, [run]):
                results[name] = result
            model = campaign.directory(run) / "model.srdft"
            if options.install and is_trained(campaign.directory(run)):
                install(name, model)
    report(options.output, results)
    return max(codes)


def main() -> int:
    """Make what is missing; returns the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=SHIPPED, default=list(SHIPPED))
    parser.add_argument("--output", type=Path, default=Path("shipped"))
    parser.add_argument("--install", action="store_true", help="copy them into the package")
    parser.add_argument("--report-only", action="store_true", help="train and evaluate nothing")
    options = parser.parse_args()
    data = Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data"))
    missing = [s.file for s in SYSTEMS.values() if not (data / s.file).is_file()]
    if missing:
        parser.error(f"no {data / missing[0]}: name the folder of the frames in ASE_SRDFT_DATA")
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        return make(options, data)
    except (CampaignError, OSError) as err:
        print(f"{parser.prog}: error: {err}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
