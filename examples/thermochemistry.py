"""Energy, enthalpy and Gibbs energy of a reaction: ethanol to ethylene and water.

    python examples/thermochemistry.py

Each molecule is relaxed, its frequencies are computed, and ASE's ``IdealGasThermo`` does the rest
at 298.15 K and 1 bar.  Errors of energies do not add up to more than 1 meV for each molecule.
"""

import argparse
import tempfile
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS
from ase.thermochemistry import IdealGasThermo
from ase.vibrations import Vibrations

from ase_srdft import SRDFTCalculator

#: Name of each molecule in ASE's collection: its stoichiometric number, its symmetry number.
REACTION = {"CH3CH2OH": (-1, 1), "C2H4": (1, 4), "H2O": (1, 2)}
TEMPERATURE, PRESSURE = 298.15, 1.0e5  # K, Pa


def gas(atoms: Atoms, calculator: Calculator, symmetry: int) -> tuple[float, float, float]:
    """Energy of the minimum, enthalpy and Gibbs energy (eV)."""
    atoms.calc = calculator
    with BFGS(atoms, logfile=None) as optimiser:
        assert optimiser.run(fmax=0.005, steps=200), "not relaxed"
    with tempfile.TemporaryDirectory() as folder:
        vibrations = Vibrations(atoms, name=f"{folder}/vibrations")
        vibrations.run()
        energies = vibrations.get_energies()
    energy = atoms.get_potential_energy()
    thermo = IdealGasThermo(
        energies[6:].real, "nonlinear", energy, atoms=atoms, symmetrynumber=symmetry, spin=0
    )
    enthalpy = thermo.get_enthalpy(TEMPERATURE, verbose=False)
    return energy, enthalpy, thermo.get_gibbs_energy(TEMPERATURE, PRESSURE, verbose=False)


def reaction(calculator: Calculator) -> dict[str, float]:
    """Changes (eV) by name."""
    changes = dict.fromkeys(("energy", "enthalpy", "Gibbs energy"), 0.0)
    for name, (count, symmetry) in REACTION.items():
        values = gas(molecule(name), calculator, symmetry)
        for key, value in zip(changes, values, strict=True):
            changes[key] += count * value
    return changes


def plot(changes: Mapping[str, float], path: str) -> None:
    """A bar for each."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    bars = axes.bar(list(changes), list(changes.values()), color=["C0", "C1", "C2"])
    axes.bar_label(bars, fmt="%.3f")
    axes.margins(y=0.12)
    axes.set(ylabel="change / eV", title="ethanol to ethylene and water, 298 K")
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Thermochemistry of a reaction.")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--picture", default="thermochemistry.png")
    options = parser.parse_args(arguments)

    calculator = SRDFTCalculator(xc=options.xc, basis=options.basis, max_force_error=1e-3)
    changes = reaction(calculator)
    for name, value in changes.items():
        print(f"change of the {name:13s}{value:8.3f} eV {23.0605 * value:8.2f} kcal/mol")
    plot(changes, options.picture)
    assert changes["Gibbs energy"] < changes["enthalpy"], "one molecule becomes two"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
