"""Frequencies and infrared intensities of a molecule.

    python examples/infrared_spectrum.py g2:CH3OH

Relaxed first, then ASE's ``Infrared``: finite differences of forces and dipole moments, which the
calculator has to have right to a small part of a meV/Å: ``max_force_error`` is tightened.  The
lines are drawn 15 1/cm wide.
"""

import argparse
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS
from ase.vibrations import Infrared

from ase_srdft import SRDFTCalculator
from ase_srdft.common.structures import read_frames


def spectrum(atoms: Atoms, calculator: Calculator) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers (1/cm) and intensities (km/mol) of a relaxed copy, without rigid motions."""
    atoms = atoms.copy()
    atoms.calc = calculator
    with BFGS(atoms, logfile=None) as optimiser:
        assert optimiser.run(fmax=0.002, steps=200), "not relaxed"
    with tempfile.TemporaryDirectory() as folder:
        infrared = Infrared(atoms, name=f"{folder}/infrared")
        infrared.run()
        wavenumbers = infrared.get_frequencies()
        intensities = infrared.intensities * 42.255  # (D/Å)² u⁻¹ to km/mol
    return wavenumbers.real[6:], intensities[6:]


def plot(wavenumbers: np.ndarray, intensities: np.ndarray, title: str, path: str) -> None:
    """Lines and the spectrum that they make."""
    grid = np.linspace(0, 4000, 4000)
    lines = intensities[:, None] / (1 + ((grid - wavenumbers[:, None]) / 7.5) ** 2)
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(grid, lines.sum(0))
    axes.vlines(wavenumbers, 0, intensities, color="C3", lw=1)
    axes.set(xlabel="wave number / (1/cm)", ylabel="intensity / (km/mol)", title=title)
    axes.invert_xaxis()
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Infrared spectrum of a molecule.")
    parser.add_argument("structure", nargs="?", default="g2:CH3OH")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--picture", default="infrared.png")
    options = parser.parse_args(arguments)

    atoms = read_frames(options.structure)[0]
    calculator = SRDFTCalculator(xc=options.xc, basis=options.basis, max_force_error=2e-4)
    wavenumbers, intensities = spectrum(atoms, calculator)
    print("  1/cm   km/mol")
    for wavenumber, intensity in zip(wavenumbers, intensities, strict=True):
        print(f"{wavenumber:6.0f}  {intensity:7.1f}")
    title = f"{atoms.get_chemical_formula()}, {options.xc}/{options.basis}"
    plot(wavenumbers, intensities, title, options.picture)
    assert wavenumbers.min() > 0, "a saddle point"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
