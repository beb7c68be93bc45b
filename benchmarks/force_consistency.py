"""Whether a model's forces are the derivative of its own energy.

Central differences of fourth order of the calculator's energy along random directions, against
its forces, on some frames of a file.

    python benchmarks/force_consistency.py run/model.srdft frames.npz
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from ase_srdft import SRDFTCalculator
from ase_srdft.common.structures import read_frames

STEP = 2e-3  # Angstrom


def main() -> int:
    """Print both sides for every frame and direction, and the largest deviation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("frames")
    parser.add_argument("--count", type=int, default=3, help="frames, the last ones")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    calculator = SRDFTCalculator(options.model)
    largest = 0.0
    for atoms in read_frames(options.frames)[-options.count :]:
        atoms.calc = calculator
        forces, start = atoms.get_forces(), atoms.positions.copy()
        direction = rng.standard_normal(forces.shape)
        direction /= np.linalg.norm(direction)
        energies = []
        for multiple in (-2, -1, 1, 2):
            atoms.positions = start + multiple * STEP * direction
            energies.append(atoms.get_potential_energy())
        difference = -np.dot((1, -8, 8, -1), energies) / (12 * STEP)
        analytic = float((forces * direction).sum())
        largest = max(largest, abs(difference - analytic))
        print(f"differences {difference:15.9f}   forces {analytic:15.9f} eV/A")
    print(f"largest deviation {largest:.1e} eV/A")
    return 0


if __name__ == "__main__":
    sys.exit(main())
