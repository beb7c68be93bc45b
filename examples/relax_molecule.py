"""Relax any organic molecule.

    python examples/relax_molecule.py g2:CH3CONH2
    python examples/relax_molecule.py smiles:CC(=O)Oc1ccccc1C(=O)O --xc B3LYP --basis 6-31g*

The structure is a file, a name of ASE's collection, or a SMILES (``pip install
'ase_srdft[smiles]'``).  The optimiser is ASE's BFGS from a model Hessian: any other will do.
Nothing is trained: the general model begins, and every energy is corrected until it is that of the
SCF to 1 meV, or an exception says why it is not.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import write

from ase_srdft import ModelHessianBFGS, SRDFTCalculator
from ase_srdft.common.structures import read_frames


def relax(atoms: Atoms, calculator: Calculator, trajectory: str | None, fmax: float) -> bool:
    """Relax in place, to forces below ``fmax`` (eV/Å); whether it came to that."""
    atoms.calc = calculator
    with ModelHessianBFGS(atoms, logfile=None, trajectory=trajectory) as optimiser:
        return bool(optimiser.run(fmax=fmax, steps=200))


def plot(frames: list[Atoms], path: str) -> None:
    """Energy, largest force and bracket of each step."""
    energies = np.array([frame.get_potential_energy() for frame in frames])
    forces = [np.linalg.norm(frame.get_forces(), axis=1).max() for frame in frames]
    errors = [frame.info["srdft_error"] for frame in frames]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.semilogy(energies - energies[-1] + 1e-6, "o-", label="energy above the minimum / eV")
    axes.semilogy(forces, "s-", label="largest force / (eV/Å)")
    axes.semilogy(errors, "^:", label="error of the energy, at most / eV")
    axes.axhline(1e-3, color="grey", lw=0.8)
    axes.set(xlabel="step", title=frames[0].get_chemical_formula())
    axes.legend(loc=(0.04, 0.16))
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Relax any organic molecule.")
    parser.add_argument("structure", nargs="?", default="g2:CH3CONH2")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--fmax", type=float, default=0.01, help="largest force left, eV/Å")
    parser.add_argument("--trajectory", default="relax.traj")
    parser.add_argument("--picture", default="relax.png")
    options = parser.parse_args(arguments)

    atoms = read_frames(options.structure)[0]
    atoms.rattle(0.05, seed=0)
    calculator = SRDFTCalculator(xc=options.xc, basis=options.basis)
    converged = relax(atoms, calculator, options.trajectory, options.fmax)
    frames = read_frames(options.trajectory)
    print(f"{len(frames) - 1} steps to {atoms.get_potential_energy():.4f} eV.")
    print(atoms.calc.certificate)
    plot(frames, options.picture)
    write("relaxed.xyz", atoms)
    print(f"The geometry is in relaxed.xyz, the way there in {options.trajectory} (ase gui).")
    assert converged, "200 steps were not enough"
    assert max(frame.info["srdft_error"] for frame in frames) < 1e-3, "the promise is not kept"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
