"""What a certificate does not cover, in numbers: the grid and the density fit, beside their cost.

    python benchmarks/grid_and_fit.py
    python benchmarks/grid_and_fit.py --structures g2:CH3OH --levels B3LYP/6-31g* --fit

For each structure, level of theory and grid level: how far the energy moves when the molecule is
turned (largest minus smallest of --turns random rotations), how far the forces are from those of
grid level 5 (root mean square and largest component), and the time of energy and forces.  With
--frequencies the largest error of a harmonic frequency, from central differences of the forces.
With --fit, at grid level 3, density fitting against exact four-centre integrals: the energy,
changes of energy to rattled copies (root mean square), and the largest error of a force component.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from _common import benchmark_parser
from ase import Atoms, units

from ase_srdft import SRDFTCalculator
from ase_srdft.common.structures import read_frames

STRUCTURES = ("g2:H2O", "g2:CH3OH", "g2:CH3CHO")
LEVELS = ("PBE/def2-svp", "B3LYP/6-31g*")
GRIDS, FINEST = (0, 1, 2, 3, 4), 5
#: (eV, eV/Angstrom) of every answer: far below what is looked at.
MAX_ERROR, MAX_FORCE_ERROR = 1.0e-5, 2.0e-4
_STEP_ANGSTROM = 0.01
#: Rattled ones.
_COPIES = 5


def calculator(level: str, grid_level: int, fitting: bool = True) -> SRDFTCalculator:
    """Of a `functional/basis`."""
    xc, _, basis = level.partition("/")
    return SRDFTCalculator(
        xc=xc,
        basis=basis,
        grid_level=grid_level,
        density_fitting=fitting,
        max_error=MAX_ERROR,
        max_force_error=MAX_FORCE_ERROR,
    )


def energy_of(calc: SRDFTCalculator, atoms: Atoms) -> float:
    """Of a structure (eV)."""
    atoms.calc = calc
    return float(atoms.get_potential_energy())


def forces_of(calc: SRDFTCalculator, atoms: Atoms) -> np.ndarray:
    """On a structure (eV/Angstrom)."""
    atoms.calc = calc
    forces: np.ndarray = atoms.get_forces()
    return forces


def structure(name: str) -> Atoms:
    """Away from the minimum, without symmetry."""
    atoms = read_frames(name)[0]
    atoms.rattle(0.05, seed=0)
    return atoms


def rattled(atoms: Atoms, seed: int) -> Atoms:
    """A copy that is 0.05 Angstrom further off in each coordinate."""
    copy: Atoms = atoms.copy()
    copy.rattle(0.05, seed=seed + 1)
    return copy


def turned(atoms: Atoms, seed: int) -> Atoms:
    """The same in another direction."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    copy: Atoms = atoms.copy()
    copy.positions = atoms.positions @ (matrix * np.linalg.det(matrix))
    return copy


def spread_meV(atoms: Atoms, calc: SRDFTCalculator, turns: int) -> float:
    """Largest minus smallest energy of the turned molecule (meV)."""
    energies = [energy_of(calc, turned(atoms, seed)) for seed in range(turns)]
    return 1e3 * float(np.ptp(energies))


def frequencies(atoms: Atoms, calc: SRDFTCalculator) -> np.ndarray:
    """Harmonic ones (1/cm), ascending; imaginary as negative numbers."""
    masses = np.repeat(atoms.get_masses(), 3)
    rows = []
    for index in range(3 * len(atoms)):
        pair = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions[divmod(index, 3)] += sign * _STEP_ANGSTROM
            pair.append(forces_of(calc, moved).ravel())
        rows.append((pair[1] - pair[0]) / (2.0 * _STEP_ANGSTROM))
    hessian = 0.5 * (np.array(rows) + np.array(rows).T) / np.sqrt(np.outer(masses, masses))
    values = np.linalg.eigvalsh(hessian)
    to_energy = units._hbar * 1e10 / np.sqrt(units._e * units._amu)  # eV, of (eV/u)^1/2/Angstrom
    wavenumbers: np.ndarray = np.sign(values) * np.sqrt(np.abs(values)) * to_energy / units.invcm
    return wavenumbers


def grid_lines(name: str, level: str, turns: int, with_frequencies: bool) -> None:
    """A line for each grid level."""
    atoms = structure(name)
    finest = forces_of(calculator(level, FINEST), atoms)
    nmodes = 3 * len(atoms) - 6
    known = frequencies(atoms, calculator(level, FINEST))[-nmodes:] if with_frequencies else None
    for grid_level in GRIDS:
        calc = calculator(level, grid_level)
        forces_of(calc, turned(atoms, 99))  # tables of the molecule
        begun = time.process_time()
        off = 1e3 * (forces_of(calc, atoms) - finest)
        seconds = time.process_time() - begun
        spread = spread_meV(atoms, calc, turns)
        line = (
            f"{name:<11}{level:<14} grid {grid_level}: energy {spread:8.3f} meV by turning; "
            f"forces off by {np.sqrt(np.mean(off**2)):7.3f} rms, "
            f"{np.abs(off).max():7.3f} largest, net {np.abs(off.sum(0)).max():6.3f} meV/Å; "
            f"{seconds:6.2f} s CPU"
        )
        if known is not None:
            change = frequencies(atoms, calc)[-nmodes:] - known
            line += f"; frequencies off by {np.abs(change).max():5.2f} 1/cm"
        print(line, flush=True)


def fit_line(name: str, level: str) -> None:
    """Density fitting against exact integrals."""
    atoms = structure(name)
    answers = []
    for fitting in (True, False):
        calc = calculator(level, 3, fitting)
        begun = time.process_time()
        forces, energy = forces_of(calc, atoms), energy_of(calc, atoms)
        seconds = time.process_time() - begun
        changes = np.array(
            [energy_of(calc, rattled(atoms, seed)) - energy for seed in range(_COPIES)]
        )
        answers.append((energy, changes, forces, seconds))
    fitted, exact = answers
    change = 1e3 * np.sqrt(np.mean((fitted[1] - exact[1]) ** 2))
    print(
        f"{name:<11}{level:<14} fit: energy off by {1e3 * (fitted[0] - exact[0]):8.3f} meV, "
        f"changes of energy by {change:7.3f} meV, forces by "
        f"{1e3 * np.abs(fitted[2] - exact[2]).max():7.3f} meV/Å; {fitted[3]:.2f} and "
        f"{exact[3]:.2f} s CPU",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each grid level, or for each fit."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--structures", nargs="+", default=STRUCTURES)
    parser.add_argument("--levels", nargs="+", default=LEVELS, metavar="XC/BASIS")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--frequencies", action="store_true", help="as well")
    parser.add_argument("--fit", action="store_true", help="instead of grids")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for level in options.levels:
        for name in options.structures:
            if options.fit:
                fit_line(name, level)
            else:
                grid_lines(name, level, options.turns, options.frequencies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
