"""Energy, enthalpy and Gibbs energy of a reaction: ethanol to ethylene and water, or your own.

    python examples/thermochemistry.py
    python examples/thermochemistry.py g2:CO g2:H2O to g2:CO2 g2:H2
    python examples/thermochemistry.py smiles:CCO to smiles:C=C g2:H2O --symmetry 1 4 2

A structure is a file, a name of ASE's collection, or a SMILES (``pip install
'ase_srdft[smiles]'``); one that stands there twice counts twice.  Symmetry numbers, in the same
order, are 1 if nobody says; each factor of two is 18 meV of the Gibbs energy.

Each molecule is relaxed, its frequencies are computed, and ASE's ``IdealGasThermo`` does the rest
at 298.15 K and 1 bar.  Errors of energies do not add up to more than 1 meV for each molecule.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS
from ase.thermochemistry import IdealGasThermo
from ase.vibrations import Vibrations

from ase_srdft import SRDFTCalculator
from ase_srdft.common.structures import read_frames

TO = "to"
Shape = Literal["monatomic", "linear", "nonlinear"]
#: Motions of the whole, which are no vibrations.
RIGID: dict[Shape, int] = {"monatomic": 3, "linear": 5, "nonlinear": 6}
REACTION, SYMMETRY = ["g2:CH3CH2OH", TO, "g2:C2H4", "g2:H2O"], [1, 4, 2]
TEMPERATURE, PRESSURE = 298.15, 1.0e5  # K, Pa


@dataclass(frozen=True)
class Partner:
    """A molecule of a reaction, its stoichiometric number (-1 or 1) and its symmetry number."""

    atoms: Atoms
    count: int
    symmetry: int


def partners_of(words: Sequence[str], symmetry: Sequence[int] | None) -> list[Partner]:
    """What stands before 'to' goes, what stands behind it comes."""
    if TO not in words[1:-1] or words.count(TO) > 1:
        raise SystemExit(f"give a reaction: g2:CO g2:H2O {TO} g2:CO2 g2:H2")
    names = [word for word in words if word != TO]
    counts = [-1] * words.index(TO) + [1] * (len(names) - words.index(TO))
    numbers = [1] * len(names) if symmetry is None else list(symmetry)
    if len(numbers) != len(names):
        raise SystemExit(f"{len(numbers)} symmetry numbers for {len(names)} structures: give all")
    structures = [read_frames(name)[0] for name in names]
    partners = [Partner(*each) for each in zip(structures, counts, numbers, strict=True)]
    balance: Counter[str] = Counter()
    for partner in partners:
        for symbol in partner.atoms.symbols:
            balance[symbol] += partner.count
    if any(balance.values()):
        raise SystemExit(f"the reaction is not balanced: {' '.join(words)}")
    return partners


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
    shape = shape_of(atoms)
    thermo = IdealGasThermo(
        energies[RIGID[shape] :].real,
        shape,
        energy,
        atoms=atoms,
        symmetrynumber=symmetry,
        spin=0,
    )
    enthalpy = thermo.get_enthalpy(TEMPERATURE, verbose=False)
    return energy, enthalpy, thermo.get_gibbs_energy(TEMPERATURE, PRESSURE, verbose=False)


def shape_of(atoms: Atoms) -> Shape:
    """As ``IdealGasThermo`` has it: of a linear molecule one moment of inertia (u Å²) is zero."""
    if len(atoms) == 1:
        return "monatomic"
    return "linear" if min(atoms.get_moments_of_inertia()) < 1e-3 else "nonlinear"


def reaction(calculator: Calculator, partners: Sequence[Partner] | None = None) -> dict[str, float]:
    """Changes (eV) by name, of the first reaction above if none is given."""
    partners = partners or partners_of(REACTION, SYMMETRY)
    changes = dict.fromkeys(("energy", "enthalpy", "Gibbs energy"), 0.0)
    for partner in partners:
        values = gas(partner.atoms, calculator, partner.symmetry)
        for key, value in zip(changes, values, strict=True):
            changes[key] += partner.count * value
    return changes


def plot(changes: Mapping[str, float], title: str, path: str) -> None:
    """A bar for each."""
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    bars = axes.bar(list(changes), list(changes.values()), color=["C0", "C1", "C2"])
    axes.bar_label(bars, fmt="%.3f")
    axes.margins(y=0.12)
    axes.set(ylabel="change / eV", title=title)
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Thermochemistry of a reaction.")
    parser.add_argument(
        "reaction", nargs="*", default=REACTION, metavar="STRUCTURE", help="and 'to' between them"
    )
    parser.add_argument("--symmetry", type=int, nargs="+", help="number of each structure")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--picture", default="thermochemistry.png")
    options = parser.parse_args(arguments)

    default = SYMMETRY if options.reaction == REACTION else None
    partners = partners_of(options.reaction, options.symmetry or default)
    calculator = SRDFTCalculator(xc=options.xc, basis=options.basis, max_force_error=1e-3)
    changes = reaction(calculator, partners)
    for name, value in changes.items():
        print(f"change of the {name:13s}{value:8.3f} eV {23.0605 * value:8.2f} kcal/mol")
    sides = [
        "  +  ".join(p.atoms.get_chemical_formula() for p in partners if p.count == sign)
        for sign in (-1, 1)
    ]
    plot(changes, f"{sides[0]}  →  {sides[1]}, 298 K", options.picture)
    if options.reaction == REACTION:
        assert changes["Gibbs energy"] < changes["enthalpy"], "one molecule becomes two"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
