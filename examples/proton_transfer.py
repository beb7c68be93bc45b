"""Proton transfer in malonaldehyde: the barrier by a nudged elastic band.

    python examples/proton_transfer.py

The enol of malonaldehyde has its proton at one oxygen or, mirrored, at the other.  All images share
one calculator, which remembers them, so that each is computed once for every step of the band.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.mep import NEB, NEBTools
from ase.optimize import BFGS

from ase_srdft import SRDFTCalculator

#: O=CH-CH=CH-O...H, planar: the proton is the last atom, and nearer to the second oxygen (Å).
ENOL = Atoms(
    "OCCCOHHHH",
    [
        [-1.29, -0.90, 0.0],
        [-1.22, 0.35, 0.0],
        [0.02, 1.06, 0.0],
        [1.18, 0.37, 0.0],
        [1.26, -0.96, 0.0],
        [-2.15, 0.95, 0.0],
        [0.03, 2.15, 0.0],
        [2.16, 0.87, 0.0],
        [0.34, -1.33, 0.0],
    ],
)
#: Where each atom goes in the mirror x -> -x.
MIRRORED = [4, 3, 2, 1, 0, 7, 6, 5, 8]


def band(calculator: Calculator, nimages: int, fmax: float) -> list[Atoms]:
    """The relaxed band, its top image climbing, from one enol to the other."""
    start = ENOL.copy()
    start.calc = calculator
    with BFGS(start, logfile=None) as optimiser:
        assert optimiser.run(fmax=0.01, steps=100), "not relaxed"
    end = start.copy()
    end.positions = (start.positions * [-1, 1, 1])[MIRRORED]
    images = [start, *(start.copy() for _ in range(nimages - 2)), end]
    for image in images:
        image.calc = calculator
    neb = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
    neb.interpolate("idpp")
    with BFGS(neb, logfile=None) as optimiser:  # type: ignore[arg-type]
        assert optimiser.run(fmax=fmax, steps=100), "the band is not relaxed"
    return images


def barrier_of(images: list[Atoms]) -> float:
    """Of the top image (eV)."""
    energies = [image.get_potential_energy() for image in images]
    return float(max(energies) - energies[0])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Proton transfer in malonaldehyde.")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--fmax", type=float, default=0.03, help="largest force left, eV/Å")
    parser.add_argument("--picture", default="proton_transfer.png")
    options = parser.parse_args(arguments)

    calculator = SRDFTCalculator(xc=options.xc, basis=options.basis)
    images = band(calculator, options.images, options.fmax)
    barrier = barrier_of(images)
    top = images[int(np.argmax([image.get_potential_energy() for image in images]))]
    print(f"barrier: {1e3 * barrier:.0f} meV")
    print(f"O-H there: {top.get_distance(0, 8):.3f} and {top.get_distance(4, 8):.3f} Å")
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    NEBTools(images).plot_band(axes)
    axes.set_title(f"malonaldehyde, {options.xc}/{options.basis}: {1e3 * barrier:.0f} meV")
    figure.savefig(options.picture, dpi=150)
    assert abs(top.get_distance(0, 8) - top.get_distance(4, 8)) < 0.05, "not in the middle"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
