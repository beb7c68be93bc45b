"""How often the lower bound of the energy bracket lies below the SCF energy.

States with random errors: the aufbau states of the SCF's Fock matrix with symmetric noise of
several sizes (in Loewdin's basis, Hartree).  For each functional the table gives in how many
states the width fell short of the true error, and by how much of it at most, for the bare
``-Tr F (P' - P)`` and for the bracket as it is, which hybrids widen by 1 + a.

    python benchmarks/bracket_coverage.py --states 20
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from _common import benchmark_parser, bohr, numbers_of
from ase.build import molecule as ase_molecule

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.reference_scf import reference_scf

SIZES = (1e-3, 1e-2, 5e-2)
NAMES = ("H2O", "H2CO")


def widths_over_errors(name: str, xc: str, nstates: int) -> list[float]:
    """Bracket width over true error of random states of one molecule."""
    atoms = ase_molecule(name)
    molecule = Molecule(numbers=numbers_of(atoms), level=LevelOfTheory(xc=xc, grid_level=0))
    positions = bohr(atoms)
    reference = reference_scf(molecule, positions[0].numpy())
    geometry = prepare(molecule, positions)
    converged = geometry.orthogonal(torch.tensor(reference.fock)[None])
    ratios = []
    for size in SIZES:
        for seed in range(nstates):
            noise = np.random.default_rng(seed).normal(scale=size, size=reference.fock.shape)
            fock = converged + torch.tensor(noise + noise.T)
            matrix = geometry.density_matrix(occupied_projector(fock, molecule.nocc)[0])
            energies, own_fock = kohn_sham(geometry, matrix)
            bracket = energy_bracket(geometry, energies.total, matrix, own_fock)
            ratios.append(float(bracket.width) / (float(energies.total) - reference.energy))
    return ratios


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--states", type=int, default=20, help="of each size and molecule")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("xc      states   bare: too narrow, worst   bracket: too narrow, worst")
    for xc in ("LDA", "PBE", "PBE0", "B3LYP"):
        ratios = np.concatenate([widths_over_errors(n, xc, options.states) for n in NAMES])
        bare = ratios / (1.0 + LevelOfTheory(xc=xc).functional.exact_exchange)
        columns = [f"{np.mean(r < 1):10.0%} {r.min():12.2f}" for r in (bare, ratios)]
        print(f"{xc:6s} {len(ratios):7d}   {columns[0]}   {columns[1]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
