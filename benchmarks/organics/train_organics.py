"""One stage of the training of the general model, by the command that users have.

Stage 1: the molecules of H, C, N and O in molecules.smi, four thermal copies each at every level
(asked for hotter than 500 K, since harmonic copies spread less than dynamics does), no dynamics.
Every further stage goes on from the weights of the one before, with a seed of its own.  What the
stages gave is in organics.md beside this file.  What this file has no flag for goes to
``ase-srdft-train`` as it is, and wins over what is set here.

    python benchmarks/organics/train_organics.py -o stage-1 --minutes 36 --seed 1
    python benchmarks/organics/train_organics.py -o stage-2 --minutes 50 --seed 2 --all-elements \\
        --start-from stage-1/model.srdft --levels 'PBE/6-31g*' PBE/def2-svp

Where there is no RDKit, from structures that were made where there is:

    python benchmarks/organics/train_organics.py --all-elements --write-structures molecules.xyz
    torchrun --nproc-per-node 16 --no-python python benchmarks/organics/train_organics.py \\
        --structures molecules.xyz --batch-size 64 -o stage-11 --minutes 9 --seed 11 --threads 1 ...
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ase.io import write

from ase_srdft.cli.train import main as train
from ase_srdft.common.structures import read_frames
from ase_srdft.training.config import TrainingConfig

MOLECULES = Path(__file__).with_name("molecules.smi")
#: Those of H, C, N and O, which come first in the file.
NCHNO = 1206
#: For the model's card, with the elements filled in.
SCOPE = (
    "closed-shell organic molecules and ions of {elements} with up to 13 atoms other than H: "
    "hydrocarbons, alcohols, ethers, carbonyl and carboxyl compounds, amines, imines, nitriles, "
    "nitro compounds, amino acids, arenes and heterocycles"
)
#: What no stage changes.
SETTINGS = {
    "--model": "potential",
    "--temperature": "850",
    "--pretraining-steps": "1000000",
    "--pretraining-frames": "4",
    "--buffer-size": "15000",
    "--validation-frames": "96",
    "--validate-every": "400",
    "--coarse-share": "1.0",
    "--memory-gb": "1.5",
    "--steps": "30000",
    "--engine": "sync",
}


def listed_molecules() -> list[str]:
    """A SMILES and a name each; those of H, C, N and O come first."""
    lines = MOLECULES.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def chosen_molecules(folder: Path, every: bool) -> Path:
    """A file of SMILES beside the run: those of H, C, N and O, or all."""
    lines = listed_molecules()
    path = folder.with_suffix(".smi")
    path.write_text("\n".join(lines if every else lines[:NCHNO]) + "\n", encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; returns the exit code of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("stage"), help="folder of the run"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", help="weights of the stage before")
    parser.add_argument("--guess", help="another than that of these weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--second-moment-decay", type=float, default=0.999)
    parser.add_argument("--gradient-spike", type=float)
    parser.add_argument("--error-exponent", type=float, default=0.0)
    parser.add_argument("--all-elements", action="store_true", help="with F, S and Cl")
    parser.add_argument(
        "--levels", nargs="+", default=["PBE/6-31g*", "PBE/def2-svp", "B3LYP/6-31g*"]
    )
    parser.add_argument("--structures", type=Path, help="of the molecules, instead of SMILES")
    parser.add_argument(
        "--write-structures", type=Path, metavar="FILE", help="and end: what --structures takes"
    )
    options, further = parser.parse_known_args(arguments)
    if options.write_structures is not None:
        with TemporaryDirectory() as folder:
            listed = chosen_molecules(Path(folder) / "molecules", options.all_elements)
            frames = read_frames(options.structures or listed, conformers=TrainingConfig.conformers)
        write(options.write_structures, frames, format="extxyz")
        return 0
    molecules = options.structures or chosen_molecules(options.output, options.all_elements)
    words = [str(molecules), "-o", str(options.output), "--level", *options.levels]
    words += ["--minutes", str(options.minutes), "--seed", str(options.seed)]
    words += ["--threads", str(options.threads), "--learning-rate", str(options.learning_rate)]
    words += ["--optimiser.second-moment-decay", str(options.second_moment_decay)]
    words += ["--optimiser.error-exponent", str(options.error_exponent)]
    if options.gradient_spike is not None:
        words += ["--optimiser.gradient-spike", str(options.gradient_spike)]
    elements = "H, C, N, O, F, S and Cl" if options.all_elements else "H, C, N and O"
    words += ["--scope", SCOPE.format(elements=elements)]
    for flag, value in SETTINGS.items():
        words += [flag, value]
    if options.start_from is None:
        words += ["--model-config", "features=96"]
    else:
        words += ["--start-from", options.start_from]
    if options.guess is not None:
        words += ["--guess", options.guess]
    return train([*words, *further])


if __name__ == "__main__":
    raise SystemExit(main())
