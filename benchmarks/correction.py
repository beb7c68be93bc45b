"""What correcting a state costs and is worth, and how far its forces are off for a given residual.

    python benchmarks/correction.py
    python benchmarks/correction.py --structures smiles:CCO aspirin --levels PBE0/def2-svp
    python benchmarks/correction.py --calibrate

For each structure and level, from a model's state and from the guess's: Fock matrices on the
level's grid and on the rough one, the bracket before and after, the true errors of energy and
forces, which are those against a much tighter promise, and the time of energies and of energies
with forces, in turn with PySCF's density-fitted SCF and gradient (--conv-tol, without the response
of the grid) from its minao guess and from the density of the time step before.

With --calibrate: the largest true error of a component of the forces (Hartree/Bohr) for each
Hartree of the residual's norm, of states after one, two and more Fock matrices at rattled,
compressed and stretched geometries.  ``FORCE_ERROR_PER_RESIDUAL`` must be above all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from _common import (
    add_conv_tol,
    bohr,
    numbers_of,
    pyscf_scf,
    timing_parser,
    untrained,
    use_threads,
)
from ase import Atoms
from side_by_side import medians
from throughput_bench import STRUCTURES, parsed_level, step_before

from ase_srdft.common.errors import BadInput
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.structures import read_frames
from ase_srdft.common.units import EV_PER_ANGSTROM_PER_ATOMIC_FORCE, EV_PER_HARTREE
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.certified_single_point import Promise, certified_single_point
from ase_srdft.models.corrected_state import FORCE_ERROR_PER_RESIDUAL
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import GENERAL_MODEL, model_path
from ase_srdft.models.single_point import molecule_of
from ase_srdft.models.single_point_result import SinglePointResult

#: 3 to 33 atoms.
NAMES: tuple[str, ...] = (
    "g2:H2O",
    "g2:CH3CH2OH",
    "smiles:NCC(=O)O",
    "smiles:O=c1cc[nH]c(=O)[nH]1",
    "aspirin",
)
NAMES += ("ibuprofen",)
LEVELS = ("PBE/def2-svp", "B3LYP/6-31g*", "PBE0/def2-svp")
#: Hartree, and Hartree/Bohr.
TRUTH = Promise(error=1.0e-9, force_error=3.0e-7)
#: (eV, eV/Angstrom) that times are taken to.
PROMISES = ((1.0e-3, 5.0e-3), (1.0e-4, 5.0e-4))

#: Geometries of the calibration, and levels beyond those of the table.
_CALIBRATED: tuple[str, ...] = (
    "g2:H2O",
    "g2:N2",
    "g2:LiF",
    "g2:H2CO",
    "g2:HCN",
    "g2:SO2",
    "g2:CH3Cl",
    "g2:SiH4",
)
_CALIBRATED += ("g2:NaCl",)
_CALIBRATED_LEVELS = ("LDA/sto-3g", "PBE/6-31g", "PBE0/sto-3g", *LEVELS)
_MOST_STATES = 5


@dataclass(frozen=True, kw_only=True)
class Question:
    """A structure at a level, and who begins.

    Attributes:
        model: of the state to begin with.
        molecule: of the model.
        positions: (1, natoms, 3), Bohr.
    """

    model: ElectronicStateModel
    molecule: Molecule
    positions: torch.Tensor

    @classmethod
    def of(cls, atoms: Atoms, level: LevelOfTheory, model: ElectronicStateModel | None) -> Question:
        """That of a model, or of the guess if there is none."""
        nuclei = nuclei_of(atoms)
        level = replace(level, charge=nuclei.charge)
        asked = untrained(level, atoms, "roothaan") if model is None else model.at_level(level)
        asked = asked.double().eval().requires_grad_(False)
        molecule = molecule_of(asked, numbers_of(atoms), level)
        return cls(model=asked, molecule=molecule, positions=bohr(atoms))

    def answer(self, promise: Promise, forces: bool = True) -> SinglePointResult:
        """What keeps a promise."""
        return certified_single_point(self.model, self.molecule, self.positions, promise, forces)


def structure(name: str) -> Atoms:
    """Of `benchmarks/structures/`, or what `read_frames` makes of the name; rattled a little."""
    path = STRUCTURES / f"{name}.xyz"
    atoms = read_frames(path if path.is_file() else name)[0]
    atoms.rattle(0.03, seed=0)
    return atoms


def promised(error_ev: float, force_error_ev: float) -> Promise:
    """In the units of ASE."""
    return Promise(
        error=error_ev / EV_PER_HARTREE,
        force_error=force_error_ev / EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
    )


def off_by(found: SinglePointResult, truth: SinglePointResult) -> float:
    """Largest error of a component of the forces (Hartree/Bohr)."""
    assert found.forces is not None
    assert truth.forces is not None
    return float((found.forces - truth.forces).abs().max())


def print_errors(name: str, who: str, asked: Question) -> None:
    """A line for each promise: matrices, brackets, true errors."""
    truth = asked.answer(TRUTH)
    for error, force_error in PROMISES:
        found = asked.answer(promised(error, force_error))
        (record,) = found.corrections
        true_error = float(found.energy - truth.energy)
        forces = EV_PER_ANGSTROM_PER_ATOMIC_FORCE * 1e3
        print(
            f"{name:<14}{len(asked.positions[0]):3d} atoms {1e3 * error:4.1f} meV {who:<6}"
            f"{record.builds:2d} + {record.coarse_builds:2d}  {found.paths[0]:<10}"
            f"bracket {1e3 * EV_PER_HARTREE * record.start_width:9.2f} ->"
            f"{1e3 * EV_PER_HARTREE * float(found.bracket.width):9.5f} meV, true "
            f"{1e3 * EV_PER_HARTREE * true_error:9.5f}; forces {forces * record.force_error:7.3f}, "
            f"true {forces * off_by(found, truth):7.3f} meV/Å",
            flush=True,
        )


def print_times(
    atoms: Atoms, asked: dict[str, Question], conv_tol: float, repeats: int, threads: int
) -> None:
    """Medians of energies, and of energies with forces, ours and PySCF's."""
    use_threads(threads)
    any_question = next(iter(asked.values()))
    molecule, positions = any_question.molecule, any_question.positions
    density = pyscf_scf(molecule, bohr(step_before(atoms)), conv_tol, forces=False).make_rdm1()
    for forces in (False, True):
        sides = {
            f"{name}, {1e3 * promise[0]:.1f} meV": partial(
                question.answer, promised(*promise), forces=forces
            )
            for name, question in asked.items()
            for promise in PROMISES
        }
        pyscf = partial(pyscf_scf, molecule, positions, conv_tol, forces=forces)
        sides |= {"PySCF, minao": pyscf, "PySCF, last density": partial(pyscf, density=density)}
        times = medians(sides, repeats)
        print("  energy + forces" if forces else "  energy")
        for side, seconds in times.items():
            print(f"    {side:<24}{seconds.cpu:8.2f} s CPU {seconds.wall:8.2f} s wall", flush=True)


def table(options: argparse.Namespace) -> None:
    """Errors and times of all structures and levels."""
    model = load_model(model_path(options.model)).model
    for text in options.levels:
        print(f"\n{text}")
        for name in options.structures:
            atoms = structure(name)
            asked = {}
            for who, given in (("model", model), ("guess", None)):
                try:
                    asked[who] = Question.of(atoms, parsed_level(text), given)
                except BadInput as err:
                    print(f"{name}, {who}: {err}")
                    continue
                print_errors(name.split(":")[-1], who, asked[who])
            if not options.no_times:
                print_times(atoms, asked, options.conv_tol, options.repeats, options.threads)


def _variants(name: str) -> Iterator[tuple[str, Atoms]]:
    """A structure, rattled, compressed and stretched."""
    atoms = structure(name)
    rattled = atoms.copy()
    rattled.rattle(0.1, seed=1)
    yield "rattled", rattled
    for factor, word in ((0.85, "compressed"), (1.2, "stretched")):
        scaled = atoms.copy()
        scaled.positions *= factor
        yield word, scaled


def ratios(asked: Question) -> Iterator[tuple[int, float, float]]:
    """Fock matrices, residual (Hartree) and error of forces over it, for tighter promises."""
    truth = asked.answer(TRUTH)
    allowed = np.inf
    for _ in range(_MOST_STATES):
        found = asked.answer(Promise(error=np.inf, force_error=allowed))
        (record,) = found.corrections
        residual = record.force_error / FORCE_ERROR_PER_RESIDUAL
        if found.paths != ("corrected",) or record.force_error < 30.0 * TRUTH.force_error:
            return
        yield record.builds, residual, off_by(found, truth) / residual
        allowed = 0.5 * record.force_error


def calibrate(options: argparse.Namespace) -> None:
    """The largest ratio of each level and number of matrices, and where it was."""
    every = []
    for text in options.levels or _CALIBRATED_LEVELS:
        rows: list[tuple[float, int, str]] = []
        for name in options.structures or _CALIBRATED:
            for variant, atoms in _variants(name):
                asked = Question.of(atoms, parsed_level(text), None)
                try:
                    rows += [(r, n, f"{name} {variant}") for n, _, r in ratios(asked)]
                except RuntimeError as err:
                    print(f"{name} {variant}, {text}: {err}")
        every += rows
        by_builds = {
            n: max(r for r, m, _ in rows if m == n) for n in sorted({m for _, m, _ in rows})
        }
        worst = max(rows)
        print(
            f"{text:<14}{len(rows):4d} states, median {np.median([r for r, *_ in rows]):.3f}, "
            f"largest {worst[0]:.3f} ({worst[2]}); by Fock matrices "
            + ", ".join(f"{n}: {value:.3f}" for n, value in by_builds.items()),
            flush=True,
        )
    largest = max(every)[0]
    print(
        f"all {len(every)} states: largest {largest:.3f} per Bohr, used "
        f"{FORCE_ERROR_PER_RESIDUAL:.2f}, {FORCE_ERROR_PER_RESIDUAL / largest:.2f} times as much"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked for."""
    parser = timing_parser(__doc__)
    add_conv_tol(parser)
    parser.add_argument("--structures", nargs="+", help="g2:NAME, smiles:..., a file, aspirin, ...")
    parser.add_argument("--levels", nargs="+", metavar="XC/BASIS")
    parser.add_argument("--model", default=GENERAL_MODEL, help="beside the guess alone")
    parser.add_argument("--no-times", action="store_true", help="errors alone")
    parser.add_argument("--calibrate", action="store_true", help="forces against residuals")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.calibrate:
        calibrate(options)
        return 0
    options.structures, options.levels = options.structures or NAMES, options.levels or LEVELS
    table(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
