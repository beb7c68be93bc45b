"""Optimise the geometry of water with a trained calculator.

    ase-srdft-train water.xyz -o run
    python examples/optimise_water.py run/model.srdft

The start is a distorted molecule; BFGS is ASE's own.  The calculator corrects what the model
predicts until the energy is the SCF's to 1 meV, so that the minimum is the SCF's with any model,
without a model file: the corrections then begin with the general model.
"""

import argparse

import numpy as np
import torch
from ase.build import molecule
from ase.optimize import BFGS

from ase_srdft import SRDFTCalculator


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Optimise the geometry of water.")
    parser.add_argument("model", nargs="?", help="model.srdft of a training run")
    parser.add_argument("--basis", help="without a model file (def2-SVP)")
    parser.add_argument("--fmax", type=float, default=0.01, help="largest force left, eV/Å")
    options = parser.parse_args(arguments)

    atoms = molecule("H2O")  # the oxygen comes first
    atoms.set_distance(0, 1, 1.05, fix=0)
    atoms.set_angle(1, 0, 2, 98.0)
    atoms.calc = SRDFTCalculator(options.model, basis=options.basis)
    energy_before = atoms.get_potential_energy()

    converged = BFGS(atoms).run(fmax=options.fmax, steps=100)

    lengths = atoms.get_distances(0, [1, 2])
    angle = atoms.get_angle(1, 0, 2)
    force = np.linalg.norm(atoms.get_forces(), axis=1).max()
    energy = atoms.get_potential_energy()
    lower, upper = atoms.calc.energy_bracket
    certificate = atoms.calc.certificate
    print(f"At the minimum the O-H bonds are {lengths[0]:.4f} and {lengths[1]:.4f} Å long,")
    print(f"the H-O-H angle is {angle:.2f} degrees, and no force exceeds {force:.4f} eV/Å.")
    print(f"The energy there is {energy:.5f} eV, {energy_before - energy:.4f} eV below the start.")
    print(f"An SCF would converge to between {lower:.5f} and {upper:.5f} eV:")
    print(f"the energy is off by {1000 * certificate.error:.1e} meV at most,")
    print(f"and that of the model alone would be by {1000 * certificate.start_error:.1e} meV.")

    assert converged
    assert force < options.fmax
    assert energy < energy_before
    assert certificate.error < 1e-3, "the promise is not kept"
    assert abs(lengths[0] - lengths[1]) < 0.01, "the molecule has lost its symmetry"


if __name__ == "__main__":
    torch.set_num_threads(1)  # the molecule is small: threads would get in each other's way
    main()
