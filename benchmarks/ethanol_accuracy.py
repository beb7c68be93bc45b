"""How accurate a calculator for ethanol (PBE/6-31G) gets, from frames and from one structure.

Two runs of ``ase-srdft-train``, each followed by ``ase-srdft-eval`` on the same 60 frames, the
last ones of rMD17's ethanol file, which neither has trained on:

``data``       on all other frames of the file, without sampling;
``structure``  from one structure built by ASE and no data: self-refining.

    python benchmarks/ethanol_accuracy.py data --minutes 20
    python benchmarks/ethanol_accuracy.py structure --minutes 60

The frames (rmd17_ethanol_public.npz) are looked for in the folder that ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ase.build import molecule
from ase.io import write

from ase_srdft.cli.evaluate import main as evaluate
from ase_srdft.cli.train import main as train

HELD_OUT = 60


def main() -> int:
    """Train, evaluate, print the table; returns the exit code of what failed, or 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=("data", "structure"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--output", type=Path, default=Path("ethanol-run"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data"))
    frames = folder / "rmd17_ethanol_public.npz"
    if not frames.is_file():
        parser.error(f"no {frames}: name the folder of the frames in ASE_SRDFT_DATA")
    common = ["--minutes", str(options.minutes), "--steps", "1000000", "--seed", str(options.seed)]
    common += ["-o", str(options.output)]
    if options.case == "data":
        held_out = ["--validation-frames", str(HELD_OUT), "--batch-size", "4"]
        code = train(["--data", str(frames), "--no-self-refine", *held_out, *common])
    else:
        options.output.mkdir(parents=True, exist_ok=True)
        structure = options.output.parent / "ethanol.xyz"
        write(structure, molecule("CH3CH2OH"))
        code = train([str(structure), *common])
    if code:
        return code
    results = options.output / "accuracy.json"
    model = str(options.output / "model.srdft")
    return evaluate([model, str(frames), "--last", str(HELD_OUT), "--json", str(results)])


if __name__ == "__main__":
    sys.exit(main())
