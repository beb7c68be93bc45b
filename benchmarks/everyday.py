"""What chemists do every day, with this calculator and with PySCF: numbers and time side by side.

    python benchmarks/everyday.py
    python benchmarks/everyday.py --xc B3LYP --basis '6-31g*' --tasks torsion infrared

Geometry optimisation, frequencies and infrared intensities, thermochemistry, the barrier of a
proton transfer, a relaxed torsion scan: the functions of `examples/`, with the general model and
nothing trained, and with PySCF at the same level, grid and fit from the density of the step before,
as a calculator of ASE's that remembers geometries as ours does.  In turn in one process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from _common import add_conv_tol, benchmark_parser, use_threads
from _pyscf_calculator import PySCFCalculator
from ase.build import molecule
from ase.calculators.calculator import Calculator

from ase_srdft import SRDFTCalculator
from ase_srdft.dft.level_of_theory import ANSWER_GRID_LEVEL, LevelOfTheory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import infrared_spectrum
import proton_transfer
import relax_molecule
import thermochemistry
import torsion_scan

#: What a task gives: numbers by name and unit.
Numbers = Mapping[str, float]


def relaxation(calculator: Calculator) -> Numbers:
    """Of rattled acetamide."""
    atoms = molecule("CH3CONH2")
    atoms.rattle(0.05, seed=0)
    assert relax_molecule.relax(atoms, calculator, None, fmax=0.01)
    return {
        "energy / eV": atoms.get_potential_energy(),
        "C=O / Å": atoms.get_distance(0, 1),
        "C-N / Å": atoms.get_distance(1, 2),
    }


def infrared(calculator: Calculator) -> Numbers:
    """Of methanol: three of its lines."""
    wavenumbers, intensities = infrared_spectrum.spectrum(molecule("CH3OH"), calculator)
    return {
        "O-H stretch / (1/cm)": wavenumbers[-1],
        "its intensity / (km/mol)": intensities[-1],
        "C-O stretch / (1/cm)": wavenumbers[2],
        "its intensity / (km/mol) ": intensities[2],
        "torsion / (1/cm)": wavenumbers[0],
    }


def reaction(calculator: Calculator) -> Numbers:
    """Ethanol to ethylene and water."""
    return {f"{name} / eV": value for name, value in thermochemistry.reaction(calculator).items()}


def barrier(calculator: Calculator) -> Numbers:
    """Of malonaldehyde."""
    return {"barrier / eV": proton_transfer.barrier_of(proton_transfer.band(calculator, 5, 0.03))}


def torsion(calculator: Calculator) -> Numbers:
    """Of ethanol's OH group."""
    angles = np.arange(0.0, 181.0, 30.0)
    energies = torsion_scan.scan(molecule("CH3CH2OH"), calculator, [0, 1, 2, 3], angles)
    return {
        f"{angle:.0f} degrees / eV": e for angle, e in zip(angles, energies, strict=True) if e > 0
    }


#: Each with the tightest force error (eV/Å) that it needs.
TASKS: dict[str, tuple[Callable[[Calculator], Numbers], float]] = {
    "relaxation": (relaxation, 5e-3),
    "infrared": (infrared, 2e-4),
    "reaction": (reaction, 1e-3),
    "barrier": (barrier, 5e-3),
    "torsion": (torsion, 5e-3),
}


def timed(task: Callable[[Calculator], Numbers], calculator: Calculator) -> tuple[Numbers, float]:
    """What a task gives, and the seconds of the processor that it takes."""
    started = time.process_time()
    numbers = task(calculator)
    return numbers, time.process_time() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    add_conv_tol(parser)
    options = parser.parse_args(arguments)
    use_threads(1)
    level = LevelOfTheory(xc=options.xc, basis=options.basis, grid_level=ANSWER_GRID_LEVEL)
    print(f"{level}, one thread, seconds of the processor\n")
    for name in options.tasks:
        task, force_error = TASKS[name]
        ours = SRDFTCalculator(xc=options.xc, basis=options.basis, max_force_error=force_error)
        theirs = PySCFCalculator(level, options.conv_tol)
        found, seconds = timed(task, ours)
        expected, their_seconds = timed(task, theirs)
        print(f"| {name} | this calculator | PySCF | difference |")
        print("| --- | --- | --- | --- |")
        for key, value in found.items():
            print(f"| {key} | {value:.4f} | {expected[key]:.4f} | {value - expected[key]:+.4f} |")
        ratio = their_seconds / seconds
        print(
            f"| seconds | {seconds:.1f} | {their_seconds:.1f} | {ratio:.1f} times |\n", flush=True
        )


if __name__ == "__main__":
    main()
