"""The energy of a molecule as a bond turns, everything else relaxed.

    python examples/torsion_scan.py                       # the OH group of ethanol
    python examples/torsion_scan.py g2:trans-butane --atoms 0 1 2 3

The angle is held by ASE's ``FixInternals``; each point begins from the one before.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixInternals
from ase.neighborlist import build_neighbor_list
from ase.optimize import BFGS

from ase_srdft import SRDFTCalculator
from ase_srdft.common.structures import read_frames


def scan(atoms: Atoms, calculator: Calculator, turned: list[int], angles: np.ndarray) -> np.ndarray:
    """Relaxed energies (eV) above the lowest at angles (degrees) of four atoms."""
    atoms, energies = atoms.copy(), []
    first, second, third, fourth = turned
    for angle in angles:
        atoms.set_constraint()
        # whatever hangs on the third atom turns along
        moving = _beyond(atoms, second, third)
        atoms.set_dihedral(first, second, third, fourth, angle, indices=moving)
        # ASE wants angles from 0 to 360, and has no derivative at the ends
        held = min(max(angle % 360.0, 1e-3), 359.999)
        atoms.set_constraint(FixInternals(dihedrals_deg=[[held, turned]]))
        atoms.calc = calculator
        with BFGS(atoms, logfile=None) as optimiser:
            optimiser.run(fmax=0.01, steps=100)
        energies.append(atoms.get_potential_energy())
    above: np.ndarray = np.array(energies) - min(energies)
    return above


def _beyond(atoms: Atoms, first: int, second: int) -> list[int]:
    """Atoms on the second one's side of a bond."""
    neighbours = build_neighbor_list(atoms, self_interaction=False, bothways=True)
    found, waiting = {second}, [second]
    while waiting:
        for other in neighbours.get_neighbors(waiting.pop())[0].tolist():
            if other not in found and other != first:
                found.add(other)
                waiting.append(other)
    return sorted(found - {second})


def plot(angles: np.ndarray, energies: np.ndarray, title: str, path: str) -> None:
    """Energy against angle."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(angles, 1e3 * energies, "o-")
    axes.set(xlabel="angle / degrees", ylabel="energy / meV", title=title)
    axes.set_xticks(np.arange(angles.min(), angles.max() + 1, 60))
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Torsion scan of a molecule.")
    parser.add_argument("structure", nargs="?", default="g2:CH3CH2OH")
    parser.add_argument("--atoms", type=int, nargs=4, default=[0, 1, 2, 3])
    parser.add_argument("--step", type=float, default=20.0, help="degrees")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--picture", default="torsion.png")
    options = parser.parse_args(arguments)

    atoms = read_frames(options.structure)[0]
    calculator = SRDFTCalculator(xc=options.xc, basis=options.basis)
    angles = np.arange(0.0, 181.0, options.step)
    energies = scan(atoms, calculator, options.atoms, angles)
    print("degrees    meV")
    for angle, energy in zip(angles, energies, strict=True):
        print(f"{angle:7.0f} {1e3 * energy:6.1f}")
    title = f"{atoms.get_chemical_formula()}, {options.xc}/{options.basis}"
    plot(angles, energies, title, options.picture)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
