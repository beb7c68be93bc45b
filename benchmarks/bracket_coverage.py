"""How often the energy bracket holds the SCF energy, and how tight it is, by kind of state.

    python benchmarks/bracket_coverage.py
    python benchmarks/bracket_coverage.py --states 2 --kinds equilibrium --functionals PBE

Molecules at equilibrium, stretched, charged, hetero-aromatic and with small gaps, each with LDA to
hybrids.  States: that of the guess, those between it and the SCF's, that of the coarse grid,
and the aufbau states of the SCF's Fock matrix with symmetric noise of several sizes (in Loewdin's
basis, Hartree).  The SCF energy is of the lowest solution that PySCF finds.

For each kind: how often the width covers the true error, error over width (median and most),
and how often the width fell short without what small gaps widen it by, and without the factor
1 + a of hybrids as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from _common import benchmark_parser, bohr, numbers_of
from ase import Atoms
from ase.build import molecule as ase_molecule

from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import on_grid, prepare
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.reference_scf import reference_scf

SIZES = (1e-3, 1e-2, 5e-2)
#: Shares of the SCF's Fock matrix in a mixture with the guess's.
SHARES = (0.3, 0.6, 0.9, 0.98)
FUNCTIONALS = ("LDA", "PBE", "BLYP", "PBE0", "B3LYP")
#: Errors (Hartree) that are rounding, not errors.
_ROUNDING = 2.0e-9


def scaled(name: str, factor: float) -> Atoms:
    """A molecule of ASE's collection, larger."""
    atoms = ase_molecule(name)
    return Atoms(atoms.numbers, factor * atoms.positions)


def diatomic(symbols: str, length: float) -> Atoms:
    """Two atoms at a distance (Angstrom)."""
    return Atoms(symbols, [[0.0, 0.0, 0.0], [0.0, 0.0, length]])


def twisted(angle: float) -> Atoms:
    """Ethylene with one half turned (degrees)."""
    atoms: Atoms = ase_molecule("C2H4")
    half = [i for i in range(6) if atoms.positions[i, 2] > 0]
    turned = atoms[half]
    turned.rotate(angle, "z")
    atoms.positions[half] = turned.positions
    return atoms


#: (structure, charge, basis) by kind.
GEOMETRIES: dict[str, Callable[[], list[tuple[Atoms, int, str]]]] = {
    "equilibrium": lambda: [
        (scaled(name, 1.0), 0, "6-31g") for name in ("H2O", "H2CO", "CH3OH", "SiH4")
    ],
    "stretched": lambda: [
        (scaled("H2O", 1.4), 0, "6-31g"),
        (scaled("C2H4", 1.25), 0, "6-31g"),
        (diatomic("FH", 1.6), 0, "6-31g"),
        (diatomic("N2", 1.6), 0, "6-31g"),
        (diatomic("LiH", 2.8), 0, "6-31g"),
        (diatomic("LiH", 2.2), 0, "def2-svp"),
        (diatomic("Li2", 3.5), 0, "6-31g"),
        (diatomic("HCl", 2.1), 0, "def2-svp"),
        (diatomic("CO", 1.6), 0, "6-31g"),
    ],
    "charged": lambda: [
        (diatomic("OH", 0.97), -1, "6-31g"),
        (diatomic("CN", 1.18), -1, "6-31g"),
        (diatomic("NO", 1.06), 1, "6-31g"),
        (ase_molecule("CH4") + Atoms("H", [[1.4, 1.4, 1.4]]), 1, "6-31g"),
    ],
    "hetero-aromatic": lambda: [
        (scaled(name, 1.0), 0, "sto-3g") for name in ("C4H4NH", "C4H4O", "C5H5N", "C4H4S")
    ],
    "small gap": lambda: [
        (scaled("O3", 1.15), 0, "6-31g"),
        (diatomic("C2", 1.25), 0, "6-31g"),
        (diatomic("BN", 1.3), 0, "6-31g"),
        (diatomic("F2", 2.0), 0, "6-31g"),
        (twisted(75.0), 0, "6-31g"),
        (diatomic("O2", 1.2), 0, "6-31g"),
        (diatomic("BeO", 1.7), 0, "6-31g"),
        (diatomic("F2", 1.7), 0, "def2-svp"),
        (diatomic("N2", 2.0), 0, "6-31g"),
        (scaled("SO2", 1.2), 0, "sto-3g"),
    ],
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One state: what its bracket says, and what is true.

    Attributes:
        width: of the bracket (Hartree).
        error: E - E_SCF (Hartree).
        factor: 1 + a.
        bare: ``-Tr F (P' - P)`` (Hartree).
        gap: of F[P] (Hartree).
    """

    kind: str
    state: str
    xc: str
    molecule: str
    width: float
    error: float
    factor: float
    bare: float
    gap: float

    def is_covered_by(self, width: float) -> bool:
        """Whether a width (Hartree) covers the error."""
        return self.error <= width + _ROUNDING


def states(
    geometry: Geometry, converged: torch.Tensor, seeds: range
) -> Iterator[tuple[str, torch.Tensor]]:
    """Fock matrices (Loewdin's basis) whose aufbau states are looked at, and what they are."""
    guess = geometry.orthogonal(geometry.guess_fock)
    yield "guess", guess
    for share in SHARES:
        yield "mixed", guess + share * (converged - guess)
    coarse = on_grid(geometry, COARSE_GRID)
    projector = occupied_projector(converged, geometry.molecule.nocc)[0]
    for _ in range(2):  # nearly that of the coarse grid
        fock = coarse.orthogonal(kohn_sham(coarse, coarse.density_matrix(projector))[1])
        projector = occupied_projector(fock, geometry.molecule.nocc)[0]
    yield "coarse", fock
    for size in SIZES:
        for seed in seeds:
            noise = np.random.default_rng(seed).normal(scale=size, size=converged.shape[1:])
            yield f"noise {size:g}", converged + torch.tensor(noise + noise.T)


def points(kind: str, xc: str, seeds: range) -> Iterator[Point]:
    """All states of one kind and functional."""
    for atoms, charge, basis in GEOMETRIES[kind]():
        level = LevelOfTheory(xc=xc, basis=basis, grid_level=0, charge=charge)
        molecule = Molecule(numbers=numbers_of(atoms), level=level, guess="roothaan")
        positions = bohr(atoms)
        try:
            reference = reference_scf(molecule, positions[0].numpy())
        except ReferenceNotConverged as err:
            print(f"left out: {err}")
            continue
        geometry = prepare(molecule, positions)
        converged = geometry.orthogonal(torch.tensor(reference.fock)[None])
        for name, fock in states(geometry, converged, seeds):
            matrix = geometry.density_matrix(occupied_projector(fock, molecule.nocc)[0])
            energies, own_fock = kohn_sham(geometry, matrix)
            bracket = energy_bracket(geometry, energies.total, matrix, own_fock)
            projector = occupied_projector(geometry.orthogonal(own_fock), molecule.nocc)[0]
            change = geometry.density_matrix(projector) - matrix
            yield Point(
                kind=kind,
                state=name,
                xc=xc,
                molecule=molecule.formula,
                width=float(bracket.width),
                error=float(energies.total) - reference.energy,
                factor=1.0 + level.functional.exact_exchange,
                bare=-float((own_fock * change).sum()),
                gap=float(bracket.aufbau_gap),
            )


def line(name: str, members: Sequence[Point]) -> str:
    """A row of the table."""
    ratios = [each.error / each.width for each in members if each.error > 1e2 * _ROUNDING]
    held = np.mean([each.is_covered_by(each.width) for each in members])
    not_widened = np.mean([not each.is_covered_by(each.factor * each.bare) for each in members])
    bare = np.mean([not each.is_covered_by(each.bare) for each in members])
    return (
        f"{name:<18}{len(members):7d}{held:10.2%}{np.median(ratios):8.2f}{max(ratios):8.2f}"
        f"{not_widened:14.2%}{bare:14.1%}"
    )


def print_table(found: Sequence[Point]) -> None:
    """By kind of geometry, of state, and by functional."""
    print(
        f"\n{'':<18}{'states':>7}{'held':>10}{'median':>8}{'most':>8}{'not widened':>14}"
        f"{'nor by 1 + a':>14}"
    )
    for attribute in ("kind", "state", "xc"):
        for name in dict.fromkeys(getattr(each, attribute) for each in found):
            print(line(name, [each for each in found if getattr(each, attribute) == name]))
    print(line("all", found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and every state that is not held without widening."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--states", type=int, default=6, help="of each size of noise and molecule")
    parser.add_argument("--seed", type=int, default=0, help="of the first noise")
    parser.add_argument("--kinds", nargs="+", choices=list(GEOMETRIES), default=list(GEOMETRIES))
    parser.add_argument("--functionals", nargs="+", default=FUNCTIONALS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: list[Point] = []
    for kind in options.kinds:
        for xc in options.functionals:
            found += points(kind, xc, range(options.seed, options.seed + options.states))
    for each in found:
        if not each.is_covered_by(each.factor * each.bare):
            word = "widened" if each.is_covered_by(each.width) else "SHORT"
            print(
                f"{word}: {each.molecule} {each.xc} {each.kind}, {each.state}: "
                f"error {each.error:.2e}, width {each.width:.2e}, gap {each.gap:.3f} Hartree"
            )
    print_table(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
