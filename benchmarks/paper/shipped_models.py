"""Train, evaluate and install the models of one molecule that ship with the package.

Each is one run of ``ase-srdft-train`` with seed 0, of the family ``potential`` from one structure
of our own (benchmarks/structures); uracil's is of the family ``fock``, on given frames and its own
samples, and still the better one.  Sampling and training take turns, so that what else the machine
does changes the time and not the model.
Evaluated on the last 60 frames of the molecule's file.  Writes shipped.md, the paper's numbers
beside ours, and with --install copies the models to where the package finds them by name.

A model's card (ase_srdft.model_card) has the structure that its training began with.  Models that
were trained before this was in their own record have one in a file beside them: --structures makes
it, the model's own minimum below the first of the frames that it was trained on.

    python benchmarks/paper/shipped_models.py --molecules water uracil --install
    python benchmarks/paper/shipped_models.py --report-only --structures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms
from ase.io import write
from ase.optimize import BFGS
from rows import tabulate
from runs import SYSTEMS, TRAINING_FRAMES, Run, RunError, Settings, conduct, paper_parser

from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.common.atomic_files import replace_atomically, write_atomically
from ase_srdft.common.connectivity import bonded_groups, same_molecule
from ase_srdft.common.structures import read_frames
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import shipped_folder

#: Bytes that a model may have.
LARGEST = 2_000_000
#: Of a minimum (eV/Angstrom).
LARGEST_FORCE = 0.01
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
    Run(molecule="uracil", model="fock", nframes=TRAINING_FRAMES, self_refine=True, steps=13_400),
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
    target.with_suffix(".xyz").unlink(missing_ok=True)  # of the model that was there before
    print(f"{target}: {len(content):,} bytes")


def minimum(model: Path, frame: Atoms) -> Atoms:
    """The structure (Angstrom) that a model relaxes a frame to.

    Raises:
        RunError: it has other bonds than the frame.
    """
    atoms: Atoms = frame.copy()
    atoms.calc = SRDFTCalculator(model, grid_level=None, max_error=None)
    BFGS(atoms, logfile=None).run(fmax=LARGEST_FORCE, steps=1000)
    if not same_molecule(atoms, frame):
        raise RunError(f"{model}: the first frame relaxes to a molecule with other bonds")
    atoms.calc = None
    return atoms


def install_structure(settings: Settings, run: Run) -> None:
    """Write one beside an installed model whose own record lacks it."""
    model = shipped_folder() / f"{name_of(run.molecule)}.srdft"
    if load_model(model).training.get("structure") is not None:
        return
    atoms = minimum(model, read_frames(settings.frames(run.molecule), 1)[0])
    words = f"minimum of {model.stem} with the bonds of the frames that it was trained on"
    target = model.with_suffix(".xyz")
    replace_atomically(
        target, lambda beside: write(beside, atoms, "xyz", comment=words, fmt="%12.6f")
    )
    print(f"{target}: {bonded_groups(atoms)}")


def report(options: argparse.Namespace, settings: Settings, runs: Sequence[Run]) -> None:
    """The table of what there is; install it, and structures, where this is asked for."""
    tabulate(settings, "shipped", runs)
    for run in runs:
        if options.install and settings.evaluation(run).is_file():
            install(name_of(run.molecule), settings.folder(run) / "model.srdft")
        if options.structures:
            install_structure(settings, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing; returns the exit code."""
    parser = paper_parser(
        __doc__, "shipped", molecules=[run.molecule for run in SHIPPED], models=()
    )
    parser.set_defaults(minutes=None, train_arguments="--batch-size 4 --memory-gb 12")
    parser.add_argument("--install", action="store_true", help="copy them into the package")
    words = "write a structure beside installed models that lack one in their record"
    parser.add_argument("--structures", action="store_true", help=words)
    return conduct(parser, arguments, runs_of, report)


if __name__ == "__main__":
    sys.exit(main())
