"""Odd geometries against PySCF: is any answer of the calculator wrong without a word?

Molecules of ASE's collection, ions, zwitterions and notorious small gaps, rattled, stretched,
compressed or far apart, at levels from LDA/STO-3G to hybrids in def2-TZVP: each energy of
`SRDFTCalculator` is compared with the lowest SCF solution that PySCF finds from several starts.

    python benchmarks/odd_geometries.py
    python benchmarks/odd_geometries.py --count 60 --kinds "small gap" --details

What counts as wrong is an energy more than ``max_error`` above PySCF's that came without a warning
or an error, and an exception that is none of ASE's.  Below PySCF's an energy may lie: then PySCF
has ended at a higher solution.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import benchmark_parser, bohr, numbers_of
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.calculators.calculator import CalculationFailed, InputError, PropertyNotPresent
from ase.collections import g2
from ase.neighborlist import natural_cutoffs, neighbor_list

from ase_srdft import SRDFTCalculator
from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field, reference_scf
from ase_srdft.models.shipped_models import GENERAL_MODEL

#: Elements that it knows.
_OF_MODEL = {1, 6, 7, 8}
#: Of the calculator (eV), its default.
MAX_ERROR = 1.0e-3
#: Rounding of energies of both sides (eV).
_ROUNDING = 3.0e-5
#: (functional, basis, density fitting), the costly ones for small molecules alone.
LEVELS: tuple[tuple[str, str, bool], ...] = (
    ("LDA", "sto-3g", True),
    ("PBE", "sto-3g", True),
    ("PBE0", "sto-3g", True),
    ("PBE", "6-31g", True),
    ("B3LYP", "6-31g", True),
    ("PBE", "def2-svp", True),
    ("PBE0", "def2-svp", True),
    ("B3LYP", "6-31g*", True),
    ("BLYP", "6-31g*", True),
    ("PBE0", "6-31g", False),
    ("PBE", "def2-tzvp", True),
    ("B3LYP", "def2-tzvp", True),
)
#: Most atoms at a level of each basis.
_MOST_ATOMS = {"sto-3g": 8, "6-31g": 6, "6-31g*": 5, "def2-svp": 5, "def2-tzvp": 2}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to the calculator.

    Attributes:
        kind: of geometry.
        name: of the molecule, with what was done to it.
        atoms: structure, without charges.
        charge: (e).
        level: functional, basis, density fitting.
        general: whether the general model is asked, or an untrained one.
    """

    kind: str
    name: str
    atoms: Atoms
    charge: int
    level: tuple[str, str, bool]
    general: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a case.

    Attributes:
        error: energy minus PySCF's (eV); not a number without either.
        word: what was said: a warning or an error, or nothing.
        path: of the certificate.
        seconds: of the calculator.
        verdict: right, lower (than PySCF), warned, refused, no reference, WRONG or CRASH.
    """

    index: int
    kind: str
    name: str
    level: str
    error: float
    word: str
    path: str
    gap: float
    seconds: float
    verdict: str

    @property
    def is_bad(self) -> bool:
        """Whether it must not be."""
        return self.verdict.isupper()


def bare(name: str) -> Atoms:
    """A molecule of ASE's collection as if it were a closed shell."""
    atoms = ase_molecule(name)
    return Atoms(atoms.numbers, atoms.positions)


def _closed_shells(most: int) -> list[str]:
    return [n for n in g2.names if sum(g2[n].numbers) % 2 == 0 and 2 <= len(g2[n]) <= most]


def rattled(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """Every atom moved by up to 0.6 Angstrom or so."""
    name, amplitude = str(rng.choice(_closed_shells(9))), rng.uniform(0.1, 0.6)
    atoms = bare(name)
    moves = rng.standard_normal((len(atoms), 3))
    atoms.positions += amplitude * moves / np.linalg.norm(moves, axis=1, keepdims=True)
    return f"{name} rattled {amplitude:.2f}", atoms, 0


def _one_side(atoms: Atoms, first: int, second: int) -> list[int]:
    """The atoms on the second one's side of a bond; all but the first in a ring."""
    neighbours = list(zip(*neighbor_list("ij", atoms, natural_cutoffs(atoms)), strict=True))
    side, front = {second}, [second]
    while front:
        at = front.pop()
        for i, j in neighbours:
            if i == at and j not in side and {i, j} != {first, second}:
                side.add(j)
                front.append(j)
    return sorted(side - {first})


def stretched(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """One bond drawn out to as much as 3 Angstrom."""
    name = str(rng.choice(_closed_shells(8)))
    atoms = bare(name)
    bonds = list(zip(*neighbor_list("ij", atoms, natural_cutoffs(atoms)), strict=True))
    first, second = bonds[int(rng.integers(len(bonds)))] if bonds else (0, 1)
    axis = atoms.positions[second] - atoms.positions[first]
    before, after = np.linalg.norm(axis), rng.uniform(1.5, 3.0)
    atoms.positions[_one_side(atoms, first, second)] += axis / before * (after - before)
    return f"{name} bond {first}-{second} {after:.2f}", atoms, 0


def compressed(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """All lengths three quarters of what they were, or up to 0.95."""
    name, factor = str(rng.choice(_closed_shells(9))), rng.uniform(0.75, 0.95)
    atoms = bare(name)
    atoms.positions *= factor
    return f"{name} times {factor:.2f}", atoms, 0


def far_apart(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """Two small molecules at 4 to 12 Angstrom."""
    names = [str(each) for each in rng.choice(_closed_shells(4), 2)]
    first, second = (bare(name) for name in names)
    distance = rng.uniform(4.0, 12.0)
    second.positions += np.array([0.3, 0.2, 1.0]) * distance
    return f"{' and '.join(names)} at {distance:.1f}", first + second, 0


def ion(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """A molecule without one of its protons, or without a hydride."""
    names = [name for name in _closed_shells(8) if 1 in g2[name].numbers and len(g2[name]) > 2]
    name, charge = str(rng.choice(names)), int(rng.choice([-1, 1]))
    atoms = bare(name)
    del atoms[int(rng.choice(np.flatnonzero(atoms.numbers == 1)))]
    atoms.rattle(0.05, rng=rng)
    return f"{name} less H{'-' if charge > 0 else '+'}", atoms, charge


_ATOMIC: tuple[tuple[str, int], ...] = (
    ("He", 0),
    ("Ne", 0),
    ("Ar", 0),
    ("Be", 0),
    ("Mg", 0),
    ("Li", 1),
    ("F", -1),
    ("Cl", -1),
)
_ATOMIC += (("Na", 1), ("C", 0), ("O", 0), ("Si", 0), ("S", 0), ("Al", 1), ("B", 1), ("N", 1))


def atom(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """An atom or its ion, shells open in truth among them."""
    name, charge = _ATOMIC[int(rng.integers(len(_ATOMIC)))]
    return f"{name} atom", Atoms(name, [rng.uniform(-1, 1, 3)]), charge


_ZWITTERIONS: tuple[str, ...] = (
    "[NH3+]CC(=O)[O-]",
    "C[N+](=O)[O-]",
    "[CH2-][N+]#N",
    "C[N+](C)(C)[O-]",
    "[C-]#[O+]",
)
_ZWITTERIONS += ("[O-][N+]#N", "C[NH+]=C[O-]", "[CH2-][NH3+]", "C[S+](C)[O-]", "[NH3+][O-]")


def zwitterion(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """Charges of both signs on neighbouring atoms, relaxed in a force field and rattled."""
    from ase_srdft.common.reading.smiles import atoms_of_smiles

    smiles = _ZWITTERIONS[int(rng.integers(len(_ZWITTERIONS)))]
    found = atoms_of_smiles(smiles)
    atoms = Atoms(found.numbers, found.positions)
    atoms.rattle(rng.uniform(0.0, 0.2), rng=rng)
    return smiles, atoms, 0


_LINEAR: tuple[str, ...] = (
    "CO2",
    "HCN",
    "C2H2",
    "N2",
    "CO",
    "HF",
    "HCl",
    "CS2",
    "LiH",
    "CS",
    "N2O",
    "P2",
    "ClF",
)
_LINEAR += ("OCS", "C2N2", "SiO", "NaCl", "LiF", "Li2", "F2")


def linear(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """Atoms in a row, all lengths 0.8 to 1.8 times what they were."""
    names = [name for name in _LINEAR if name in g2.names]
    name, factor = names[int(rng.integers(len(names)))], rng.uniform(0.8, 1.8)
    atoms = bare(name)
    atoms.positions *= factor
    return f"{name} times {factor:.2f}", atoms, 0


def _diatomic(symbols: str, low: float, high: float) -> Callable[[np.random.Generator], Atoms]:
    return lambda rng: Atoms(symbols, [[0.0, 0.0, 0.0], [0.0, 0.1, rng.uniform(low, high)]])


def _twisted_ethylene(rng: np.random.Generator) -> Atoms:
    atoms = bare("C2H4")
    half = [i for i in range(6) if atoms.positions[i, 2] > 0]
    turned = atoms[half]
    turned.rotate(rng.uniform(60.0, 90.0), "z")
    atoms.positions[half] = turned.positions
    return atoms


def _cyclobutadiene(rng: np.random.Generator) -> Atoms:
    corners = np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    scale = np.array([rng.uniform(0.70, 0.76), 0.72, 1.0])
    positions = np.concatenate([corners * scale, corners * (scale + 0.77)])
    return Atoms("C4H4", positions * [1, 1, 0])


def _p_benzyne(rng: np.random.Generator) -> Atoms:
    atoms = bare("C6H6")
    atoms.rattle(rng.uniform(0.0, 0.05), rng=rng)
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    first = hydrogens[0]
    opposite = max(hydrogens, key=lambda i: atoms.get_distance(first, i))
    del atoms[[int(first), int(opposite)]]
    return atoms


def _scaled(name: str, low: float, high: float) -> Callable[[np.random.Generator], Atoms]:
    def make(rng: np.random.Generator) -> Atoms:
        atoms = bare(name)
        atoms.positions *= rng.uniform(low, high)
        return atoms

    return make


_SMALL_GAPS: dict[str, Callable[[np.random.Generator], Atoms]] = {
    "ozone": _scaled("O3", 0.95, 1.5),
    "C2": _diatomic("C2", 1.1, 2.5),
    "BN": _diatomic("BN", 1.1, 2.5),
    "N2": _diatomic("N2", 1.8, 3.0),
    "F2": _diatomic("F2", 1.6, 3.0),
    "Be2": _diatomic("Be2", 1.8, 3.5),
    "Mg2": _diatomic("Mg2", 2.5, 4.5),
    "O2": _diatomic("O2", 1.1, 2.5),
    "S2": _diatomic("S2", 1.8, 3.0),
    "Si2": _diatomic("Si2", 2.0, 3.0),
    "B2": _diatomic("B2", 1.4, 2.5),
    "LiF": _diatomic("LiF", 1.5, 5.0),
    "NaCl": _diatomic("NaCl", 2.2, 6.0),
    "BeO": _diatomic("BeO", 1.2, 2.5),
    "MgO": _diatomic("MgO", 1.6, 3.0),
    "CO": _diatomic("CO", 1.6, 3.0),
    "twisted ethylene": _twisted_ethylene,
    "cyclobutadiene": _cyclobutadiene,
    "p-benzyne": _p_benzyne,
    "methylene": _scaled("CH2_s1A1d", 0.9, 1.8),
    "silylene": _scaled("SiH2_s1A1d", 0.9, 1.8),
    "SO2": _scaled("SO2", 1.0, 1.6),
    "water": _scaled("H2O", 1.5, 3.0),
    "butadiene": _scaled("butadiene", 1.1, 1.35),
}


def small_gap(rng: np.random.Generator) -> tuple[str, Atoms, int]:
    """Notorious ones, at lengths that make them worse."""
    name = list(_SMALL_GAPS)[int(rng.integers(len(_SMALL_GAPS)))]
    return name, _SMALL_GAPS[name](rng), 0


#: How many of ten or so geometries are of each kind.
KINDS: dict[str, tuple[Callable[[np.random.Generator], tuple[str, Atoms, int]], int]] = {
    "rattled": (rattled, 2),
    "stretched": (stretched, 3),
    "compressed": (compressed, 1),
    "far apart": (far_apart, 1),
    "ion": (ion, 2),
    "atom": (atom, 1),
    "zwitterion": (zwitterion, 1),
    "linear": (linear, 1),
    "small gap": (small_gap, 4),
}
_DRAWN = [kind for kind, (_, share) in KINDS.items() for _ in range(share)]


def case(index: int) -> Case:
    """The geometry and the level of a number, the same each time."""
    rng = np.random.default_rng(index)
    kind = _DRAWN[index % len(_DRAWN)]
    name, atoms, charge = KINDS[kind][0](rng)
    allowed = [level for level in LEVELS if len(atoms) <= _MOST_ATOMS[level[1]]]
    level = allowed[int(rng.integers(len(allowed)))] if allowed else LEVELS[0]
    general = bool(set(numbers_of(atoms)) <= _OF_MODEL) and index % 2 == 0
    return Case(kind=kind, name=name, atoms=atoms, charge=charge, level=level, general=general)


def _turned(scf: Any, seed: int) -> np.ndarray:
    """PySCF's guess with the orbitals near the gap turned into each other at random."""
    guess = scf.get_init_guess(key="minao")
    levels, orbitals = scf.eig(scf.get_fock(dm=guess), scf.get_ovlp())
    noise = 0.15 * np.random.default_rng(seed).standard_normal((len(levels), len(levels)))
    _, turned = np.linalg.eigh(np.diag(levels) + noise + noise.T)
    occupied = orbitals @ turned[:, : scf.mol.nelectron // 2]
    density_matrix: np.ndarray = 2.0 * occupied @ occupied.T
    return density_matrix


def lowest_reference(asked: Case, seed: int = 0) -> float:
    """The lowest SCF energy (eV) of two starts or more; not a number where none converges."""
    xc, basis, fitting = asked.level
    level = LevelOfTheory(
        xc=xc, basis=basis, density_fitting=fitting, grid_level=0, charge=asked.charge
    )
    molecule = Molecule(numbers=numbers_of(asked.atoms), level=level)
    positions = bohr(asked.atoms)[0].numpy()
    start = _turned(mean_field(molecule, positions), seed)
    try:  # which goes on to PySCF's own starts, until two agree
        found = reference_scf(molecule, positions, density_matrix=start)
    except ReferenceNotConverged:
        return np.nan
    return found.energy * EV_PER_HARTREE


def answered(asked: Case, forces: bool = False) -> tuple[float, str, str, float]:
    """Energy (eV), what was said, path of the certificate, gap (eV) of the calculator's answer."""
    xc, basis, fitting = asked.level
    calculator = SRDFTCalculator(
        GENERAL_MODEL if asked.general else "untrained",
        xc=xc,
        basis=basis,
        density_fitting=fitting,
        grid_level=0,
        charge=asked.charge,
        max_error=MAX_ERROR,
    )
    atoms = asked.atoms.copy()
    atoms.calc = calculator
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if forces:
                atoms.get_forces()
            energy = float(atoms.get_potential_energy())
        except (CalculationFailed, InputError) as err:
            return np.nan, f"{type(err).__name__}: {err}", "", np.nan
        try:
            gap = float(np.diff(calculator.get_homo_lumo())[0])
        except PropertyNotPresent:  # all orbitals are occupied, as of Ne in a minimal basis
            gap = np.inf
    return energy, "; ".join(str(each.message) for each in said), calculator.certificate.path, gap


def judged(index: int, reference: float | None = None, forces: bool = False) -> Verdict:
    """The calculator's answer to a case, held against PySCF's.

    Args:
        index: of the case.
        reference: PySCF's energy (eV), if known.
        forces: whether to ask for them first, whatever they are.
    """
    asked = case(index)
    begun = time.perf_counter()
    try:
        energy, word, path, gap = answered(asked, forces)
        crashed = "\n" in word
    except Exception as err:  # what this script looks for
        energy, word, path, gap = np.nan, f"{type(err).__name__}: {err}", "", np.nan
        crashed = True
    seconds = time.perf_counter() - begun
    if reference is None:
        reference = lowest_reference(asked) if np.isfinite(energy) else np.nan
    error = energy - reference
    xc, basis, fitting = asked.level
    return Verdict(
        index=index,
        kind=asked.kind,
        name=asked.name,
        level=f"{xc}/{basis}{'' if fitting else ' exact'}",
        error=error,
        word=word,
        path=path,
        gap=gap,
        seconds=seconds,
        verdict="CRASH" if crashed else _verdict(error, energy, word),
    )


def _verdict(error: float, energy: float, word: str) -> str:
    if word:
        return "warned" if np.isfinite(energy) else "refused"
    if np.isnan(error):
        return "no reference" if np.isfinite(energy) else "WRONG"
    if error > MAX_ERROR + _ROUNDING:
        return "WRONG"
    return "lower" if error < -_ROUNDING else "right"


def print_table(verdicts: Sequence[Verdict]) -> None:
    """How many of each kind are right, and how many are not."""
    columns = ("right", "lower", "warned", "refused", "no reference", "WRONG", "CRASH")
    print(f"{'kind':<12}" + "".join(f"{name:>14}" for name in columns) + "   most s")
    for kind in [*KINDS, "all"]:
        members = [each for each in verdicts if kind in (each.kind, "all")]
        counts = [sum(each.verdict == name for each in members) for name in columns]
        slowest = max((each.seconds for each in members), default=0.0)
        print(f"{kind:<12}" + "".join(f"{n:14d}" for n in counts) + f"{slowest:9.1f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print the table, and exit with 1 if something is wrong without a word."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--count", type=int, default=500, help="geometries")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--bases", nargs="+", choices=list(_MOST_ATOMS), default=list(_MOST_ATOMS))
    parser.add_argument("--forces", action="store_true", help="ask for forces as well")
    parser.add_argument("--details", action="store_true", help="a line for each case")
    parser.add_argument("--json", type=Path, help="file to add a line for each case to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    verdicts = []
    for index in range(options.first, options.first + options.count):
        if _DRAWN[index % len(_DRAWN)] not in options.kinds:
            continue
        if case(index).level[1] not in options.bases:
            continue
        found = judged(index, forces=options.forces)
        verdicts.append(found)
        if found.is_bad or options.details:
            print(
                f"{found.index:4d} {found.kind:<11}{found.name:<28}{found.level:<16}"
                f"{1e3 * found.error:12.3f} meV  {found.verdict:<6} {found.path:<10}"
                f"gap {found.gap:6.2f} eV {found.seconds:6.1f} s {found.word}",
                flush=True,
            )
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
    print_table(verdicts)
    return int(any(each.is_bad for each in verdicts))


if __name__ == "__main__":
    sys.exit(main())
