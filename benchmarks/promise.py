"""A promise kept, beside PySCF: Fock matrices and time of twelve molecules of 3 to 33 atoms.

    python benchmarks/promise.py
    python benchmarks/promise.py --structures g2:CH3OH --levels PBE0/def2-tzvp --rounds 5

The general model and its correction, energies to 1 meV with forces to 5 meV/Å and to 0.1 meV with
0.5 meV/Å, against PySCF's density-fitted SCF and gradient (--conv-tol) on the same grid, from its
minao guess and from the density of half a femtosecond earlier at 500 K.  In turn in one process;
seconds of the processor, of which the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from _common import add_conv_tol, as_numpy, benchmark_parser, bohr, use_threads
from correction import Question, promised, structure
from throughput_bench import parsed_level, step_before

from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.dft.level_of_theory import ANSWER_GRID_LEVEL
from ase_srdft.dft.reference_scf import mean_field
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import GENERAL_MODEL, model_path

#: Names by structure.
STRUCTURES = {
    "g2:H2O": "water",
    "g2:CH3OH": "methanol",
    "g2:CH3CH2OH": "ethanol",
    "g2:CH3CONH2": "acetamide",
    "smiles:NCC(=O)O": "glycine",
    "g2:C5H5N": "pyridine",
    "smiles:O=c1cc[nH]c(=O)[nH]1": "uracil",
    "smiles:CC(N)C(=O)O": "alanine",
    "smiles:CC(=O)Nc1ccc(O)cc1": "paracetamol",
    "aspirin": "aspirin",
    "smiles:Cn1cnc2c1c(=O)n(C)c(=O)n2C": "caffeine",
    "ibuprofen": "ibuprofen",
}
LEVELS = ("PBE/def2-svp", "B3LYP/6-31g*")
#: (eV, eV/Å) that times are taken to, the promise of the table's ratios first.
PROMISES = ((1.0e-3, 5.0e-3), (1.0e-4, 5.0e-4))
#: Molecules from so many atoms on are timed once.
_LARGE = 20


@dataclass(frozen=True, kw_only=True)
class Row:
    """One molecule at one level.

    Attributes:
        name: and number of atoms.
        alone: bracket of the model by itself (meV).
        builds: Fock matrices of the level's grid, and of the rough one, for each promise.
        cycles: PySCF's, from minao and from the last density.
        energy: seconds for each promise, and of PySCF's two starts.
        forces: likewise, with forces.
    """

    name: str
    alone: float
    builds: tuple[tuple[int, int], ...]
    cycles: tuple[int, int]
    energy: tuple[float, ...]
    forces: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, float, float, float]:
        """PySCF's seconds over ours, cold and warm, of energies and of energies with forces."""
        ours, theirs = self.energy[0], self.energy[-2:]
        with_forces = [each / self.forces[0] for each in self.forces[-2:]]
        return theirs[0] / ours, theirs[1] / ours, with_forces[0], with_forces[1]

    def __str__(self) -> str:
        builds = " | ".join(f"{fine} + {rough}" for fine, rough in self.builds)
        seconds = " | ".join(f"{each:.2f}" for each in (self.forces[0], *self.forces[-2:]))
        ratios = " | ".join(f"{each:.1f}" for each in self.ratios)
        return (
            f"| {self.name} | {self.alone:.1f} | {builds} | {self.cycles[0]}, {self.cycles[1]} | "
            f"{seconds} | {self.forces[1]:.2f} | {ratios} |"
        )


HEAD = (
    "| molecule, atoms | model alone / meV | Fock matrices to 1 meV, fine + rough | to 0.1 meV | "
    "PySCF's cycles, cold, warm | energy + forces / s | PySCF cold | PySCF warm | to 0.1 meV / s | "
    "times faster: energy, cold | warm | with forces, cold | warm |\n" + 13 * "| --- " + "|"
)


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Of the processor, and what came of it."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


class PySCF:
    """Its SCF and gradient of one geometry, from two starts.

    Args:
        asked: geometry and level.
        before: its positions half a femtosecond earlier.
        conv_tol: Hartree.
    """

    def __init__(self, asked: Question, before: Any, conv_tol: float) -> None:
        self.asked, self.conv_tol = asked, conv_tol
        self.cycles: dict[bool, int] = {}
        self.density = None
        self.density = self._solved(as_numpy(before), warm=False).make_rdm1()

    def _solved(self, positions: np.ndarray, warm: bool) -> Any:
        scf = mean_field(self.asked.molecule, positions)
        scf.conv_tol = self.conv_tol
        scf.kernel(dm0=self.density if warm else None)
        assert scf.converged
        self.cycles[warm] = scf.cycles
        return scf

    def times(self, warm: bool) -> tuple[float, float]:
        """Seconds of the SCF, and of SCF and gradient."""
        energy, scf = seconds_of(lambda: self._solved(as_numpy(self.asked.positions), warm))
        gradient, _ = seconds_of(lambda: scf.nuc_grad_method().kernel())
        return energy, energy + gradient


def measured(name: str, level: str, model: ElectronicStateModel, options: Any) -> Row:
    """All of one molecule at a level."""
    atoms = structure(name)
    asked = Question.of(atoms, replace(parsed_level(level), grid_level=ANSWER_GRID_LEVEL), model)
    theirs = PySCF(asked, bohr(step_before(atoms)), options.conv_tol)
    promises = [promised(*promise) for promise in PROMISES]
    found = [asked.answer(promise) for promise in promises]
    records = [each.corrections[0] for each in found]
    rounds: list[list[tuple[float, float]]] = []
    for _ in range(1 if len(atoms) >= _LARGE else options.rounds):
        ours = [
            (
                seconds_of(partial(asked.answer, promise, forces=False))[0],
                seconds_of(partial(asked.answer, promise))[0],
            )
            for promise in promises
        ]
        rounds.append([*ours, theirs.times(False), theirs.times(True)])
    median = [
        [statistics.median(each[side][kind] for each in rounds) for side in range(len(rounds[0]))]
        for kind in (0, 1)
    ]
    return Row(
        name=f"{STRUCTURES.get(name, name)}, {len(atoms)}",
        alone=1e3 * EV_PER_HARTREE * records[0].start_width,
        builds=tuple((each.builds, each.coarse_builds) for each in records),
        cycles=(theirs.cycles[False], theirs.cycles[True]),
        energy=tuple(median[0]),
        forces=tuple(median[1]),
    )


def summary(rows: Sequence[Row]) -> str:
    """Medians."""
    builds = [statistics.median(row.builds[i][0] for row in rows) for i in range(len(PROMISES))]
    cycles = [statistics.median(row.cycles[i] for row in rows) for i in (0, 1)]
    ratios = [statistics.median(row.ratios[i] for row in rows) for i in range(4)]
    return (
        f"medians: {builds[0]:g} and {builds[1]:g} Fock matrices of the level's grid, PySCF's "
        f"cycles {cycles[0]:g} and {cycles[1]:g}; energies {ratios[0]:.1f} and {ratios[1]:.1f} "
        f"times as fast as from minao and from the last density, with forces {ratios[2]:.1f} and "
        f"{ratios[3]:.1f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--structures", nargs="+", default=list(STRUCTURES))
    parser.add_argument("--levels", nargs="+", default=list(LEVELS))
    parser.add_argument("--rounds", type=int, default=3, help="of molecules below 20 atoms")
    add_conv_tol(parser)
    options: argparse.Namespace = parser.parse_args(arguments)
    use_threads(options.threads)
    model = load_model(model_path(GENERAL_MODEL)).model
    for level in options.levels:
        print(f"\n{level}, grid level 2\n\n{HEAD}", flush=True)
        rows = []
        for name in options.structures:
            rows.append(measured(name, level, model, options))
            print(rows[-1], flush=True)
        print(f"\n{summary(rows)}", flush=True)


if __name__ == "__main__":
    main()
