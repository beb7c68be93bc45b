"""A level-free model on molecules that it has never seen, at levels that it may never have seen.

Thermal copies of each molecule, asked for hotter than 500 K, since harmonic copies spread less than
dynamics does; for each level of theory the mean and the largest bracket in mEh, beside that of the
guess alone, and with --scf the true error of the first copy.

    python benchmarks/organics/evaluate.py MODEL --levels PBE/def2-svp 'B3LYP/6-31g*'
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from jaxtyping import Float

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.structures import read_frames
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import model_path
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.sampling.thermal_copies import thermal_copies

#: Small molecules that no general model is trained on, by ASE's names.
KEPT_OUT = ("CH3OH", "CH3CHO", "CH3CONH2", "H3CNH2", "CH3OCH3", "OCHCHO")
UNSEEN = Path(__file__).with_name("unseen.smi")
#: Of energies (mEh), and what an SCF converges to.
ROUNDING = 1.0e-5


def unseen_molecules(elements: tuple[int, ...], largest: int) -> dict[str, Atoms]:
    """Those kept out and those of ``unseen.smi`` whose elements the model knows, by name."""
    atoms = {name: molecule(name) for name in KEPT_OUT}
    for each in read_frames(UNSEEN):
        atoms[each.info.get("name") or each.get_chemical_formula()] = each
    return {
        name: each
        for name, each in atoms.items()
        if set(each.numbers.tolist()) <= set(elements) and len(each) <= largest
    }


@torch.no_grad()
def guess_width(system: Molecule, positions: torch.Tensor) -> float:
    """Bracket (Hartree) of the guess alone."""
    geometry = prepare(system, positions)
    matrix = ElectronicState.aufbau(geometry, geometry.guess_fock).density_matrix
    terms, fock = kohn_sham(geometry, matrix)
    return float(energy_bracket(geometry, terms.total, matrix, fock).width)


@dataclass(frozen=True)
class Row:
    """One molecule at one level, in mEh; ``error``, if asked for, is that of the first copy."""

    natoms: int
    widths: Float[np.ndarray, "copies"]
    guess: float
    paths: str
    error: float | None

    @property
    def covered(self) -> bool:
        """Whether the SCF energy of the first copy is inside its bracket."""
        if self.error is None:
            return False
        return -ROUNDING <= self.error <= float(self.widths[0]) + ROUNDING

    def __str__(self) -> str:
        text = f"{self.natoms:5d} {self.widths.mean():9.3f} {self.widths.max():9.3f}"
        text += f" {self.guess:9.2f} {self.paths:12}"
        return text if self.error is None else f"{text} {self.error:9.3f}"


def row(
    model: ElectronicStateModel, atoms: Atoms, level: LevelOfTheory, options: argparse.Namespace
) -> Row:
    """Brackets of the model and of the guess, and the model's error where it is asked for."""
    nuclei = nuclei_of(atoms)
    level = replace(level, charge=nuclei.charge)
    system = molecule_of(model, nuclei.numbers, level)
    rng = np.random.default_rng(0)  # the same copies at every level
    copies = thermal_copies(system, nuclei.positions, options.copies, options.temperature, rng)
    results = [
        single_point(model, system, torch.as_tensor(one)[None], forces=False) for one in copies
    ]
    error = None
    if options.scf:
        error = 1e3 * (float(results[0].energy) - reference_scf(system, copies[0]).energy)
    return Row(
        natoms=system.natoms,
        widths=1e3 * np.array([float(result.bracket.width) for result in results]),
        guess=1e3 * guess_width(system, torch.as_tensor(copies[0])[None]),
        paths="/".join(sorted({path for result in results for path in result.paths})),
        error=error,
    )


def summary(rows: dict[str, Row]) -> str:
    """Means of the small molecules kept out, and of the others by size; how many SCFs agree."""
    groups: dict[str, list[float]] = {}
    for name, each in rows.items():
        size = "20 atoms and more" if each.natoms >= 20 else "up to 19 atoms"
        group = "kept out" if name in KEPT_OUT else size
        groups.setdefault(group, []).append(float(each.widths.mean()))
    text = "mean: " + ", ".join(
        f"{group} ({len(members)}): {np.mean(members):.3f}" for group, members in groups.items()
    )
    text += f"; widest: {max(each.widths.max() for each in rows.values()):.2f}"
    checked = [each for each in rows.values() if each.error is not None]
    if not checked:
        return text
    inside = sum(each.covered for each in checked)
    return f"{text}\nSCF energy inside the bracket: {inside} of {len(checked)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a .srdft file or a shipped model's name")
    parser.add_argument("--levels", nargs="+", default=["PBE/def2-svp", "B3LYP/6-31g*"])
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=850.0, help="of the copies (K)")
    parser.add_argument("--largest", type=int, default=40, help="atoms of a molecule at most")
    parser.add_argument("--scf", action="store_true", help="the true error of the first copy too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = load_model(model_path(options.model)).model
    molecules = unseen_molecules(model.elements, options.largest)
    for name in options.levels:
        xc, _, basis = name.partition("/")
        level = LevelOfTheory(xc=xc, basis=basis)
        print(f"\n{level}\n{'':24} atoms  mean/mEh   largest     guess path", flush=True)
        rows = {}
        for label, atoms in molecules.items():
            rows[label] = row(model, atoms, level, options)
            print(f"{label:24} {rows[label]}", flush=True)
        print(summary(rows), flush=True)


if __name__ == "__main__":
    main()
