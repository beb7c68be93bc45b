"""How near a potential can bring the guess to the SCF, with exact exchange and without.

A network of the potential family adds sum_Q u_Q (mn|Q) to the guess.  Here u is not learned: for
one geometry after the other it is the one of lowest energy.  What is left is what no network of
the family can learn; the length of L^T u (M = L L^T the metric) is how far it has to go.

    python benchmarks/guess_for_hybrids.py
    python benchmarks/guess_for_hybrids.py --molecules C5H5N --levels PBE0/def2-svp
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase.build import molecule as molecule_of_ase
from torch import Tensor

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.units import MICROHARTREE
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.fitted_density import potential_matrix
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.models.electronic_state import ElectronicState

GUESSES = ("companion", "roothaan")
MOLECULES = ("CH3CH2OH", "C4H4NH", "CH3CONH2", "C5H5N", "CH3NO2")
LEVELS = ("PBE/6-31g*", "B3LYP/6-31g*", "PBE0/def2-svp")
#: Displacements of the nuclei (Angstrom), and iterations of L-BFGS.
RATTLE, ITERATIONS = 0.05, 80


@dataclass(frozen=True, kw_only=True)
class Best:
    """Brackets (Hartree) at the guess and in the best potential, and its length."""

    at_guess: float
    left: float
    length: float


def best_potential(geometry: Geometry) -> Best:
    """The potential of lowest energy for one geometry, by L-BFGS from none."""
    auxiliary = geometry.integrals.of_potential()
    assert auxiliary.metric_factor is not None
    upper = auxiliary.metric_factor.transpose(1, 2)
    scaled = torch.zeros(upper.shape[:2], dtype=torch.float64, requires_grad=True)

    def state() -> ElectronicState:
        u = torch.linalg.solve_triangular(upper, scaled[..., None], upper=True)[..., 0]
        added = potential_matrix(geometry.integrals, u)
        return ElectronicState.aufbau(geometry, geometry.guess_fock + added)

    def energy() -> Tensor:
        optimiser.zero_grad()
        total = kohn_sham(geometry, state().density_matrix)[0].total.sum()
        total.backward()
        return total

    @torch.no_grad()
    def width() -> float:
        matrix = state().density_matrix
        energies, fock = kohn_sham(geometry, matrix)
        return float(energy_bracket(geometry, energies.total, matrix, fock).width)

    optimiser = torch.optim.LBFGS(
        [scaled],
        max_iter=ITERATIONS,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_change=1e-14,
        tolerance_grad=1e-9,
    )
    at_guess = width()
    optimiser.step(energy)
    return Best(at_guess=at_guess, left=width(), length=float(scaled.detach().norm()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each level, molecule and guess."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--molecules", nargs="+", default=MOLECULES, help="names of ASE's g2")
    parser.add_argument("--levels", nargs="+", default=LEVELS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"{'':30s}{'bracket/uEh':>14s}{'with the best potential':>26s}{'its length':>12s}")
    for words in options.levels:
        xc, _, basis = words.partition("/")
        for name in options.molecules:
            atoms = molecule_of_ase(name)
            atoms.rattle(RATTLE, seed=1)
            nuclei = nuclei_of(atoms)
            for guess in GUESSES:
                molecule = Molecule(
                    numbers=nuclei.numbers,
                    level=LevelOfTheory(xc=xc, basis=basis),
                    guess=guess,
                    potential_basis="def2-universal-jfit",
                )
                best = best_potential(prepare(molecule, torch.as_tensor(nuclei.positions)[None]))
                print(
                    f"{words:14s}{name:9s}{guess:9s}{MICROHARTREE * best.at_guess:12.0f}"
                    f"{MICROHARTREE * best.left:26.1f}{best.length:12.2f}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
