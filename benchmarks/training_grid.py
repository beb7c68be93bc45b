"""States converged on the coarse training grid are stationary on level 1 to a microhartree.

Training takes its energies on a grid of less than half the points of level 1.  What matters is
not that the two grids give the same energy, but that a state that minimises the one energy also
minimises the other: the error of the state is of second order in the difference of the two Fock
matrices.  So for each molecule PySCF converges an SCF on either grid, and the table gives

    coarse - 1   energy on the coarse grid less that on level 1, each converged on its own
    P(coarse)    what training on the coarse grid costs, E_1[P(coarse)] - E_1[P(1)] >= 0
    H, e         what it leaves in the Hamiltonian F[P] and in the occupied orbitals' energies, on
                 level 1: of first order, and why the end of a run trains on the level's own grid

and, since time is why, that of our energies and Fock matrices on either grid.

With --shares models of water are trained on frames of its dynamics, each for --steps steps of which
this share is on the coarse grid and the rest on level 1, and compared with the SCF on 20 others.

    python benchmarks/training_grid.py
    python benchmarks/training_grid.py --shares 1 0.9 0.7 0 --steps 1000

The frames are looked for in the folder that ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from _common import (
    as_numpy,
    bohr,
    ethanol,
    frames_of,
    numbers_of,
    rattled,
    timing_parser,
    use_threads,
)
from ase import Atoms
from side_by_side import median_seconds

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.common.units import MICROHARTREE
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.reference_scf import mean_field
from ase_srdft.reference.accuracy import Accuracy, average, frame_errors
from ase_srdft.training.config import OptimiserConfig, TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.trainer import Trainer

HELD_OUT = 20
CONV_TOL = 1e-11  # Hartree; what is shown is ten thousand times larger


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One molecule on both grids.

    Attributes:
        grids: E(coarse) - E(1), each of its own state (Hartree).
        state: E_1[P(coarse)] - E_1[P(1)] (Hartree).
        hamiltonian: mean difference of the elements of F[P] (Hartree).
        orbital_energies: mean difference of the occupied orbitals' energies (Hartree).
        npoints: of the coarse grid and of level 1.
        seconds: of an energy and Fock matrix on either, by label.
    """

    grids: float
    state: float
    hamiltonian: float
    orbital_energies: float
    npoints: tuple[int, int]
    seconds: dict[str, float]


def converged(molecule: Molecule, positions: torch.Tensor, coarse: bool) -> tuple[float, object]:
    """Energy (Hartree) and density matrix of PySCF's SCF on one of the grids."""
    scf = mean_field(molecule, as_numpy(positions))
    if coarse:
        # what atomic_grid says of COARSE_GRID, for the first three periods
        scf.grids.atom_grid = {
            chemical_symbols[z]: (20, 50) if z <= 2 else (25 if z <= 10 else 30, 110)
            for z in molecule.numbers
        }
    scf.conv_tol = CONV_TOL
    scf.kernel()
    if not scf.converged:
        raise RuntimeError(f"PySCF's SCF of {molecule.formula} did not converge")
    return float(scf.e_tot), scf.make_rdm1()


def compare(molecule: Molecule, positions: torch.Tensor, repeats: int) -> Comparison:
    """Both SCFs, the energy of the coarse state on level 1, and the time of either grid."""
    coarse_energy, coarse_state = converged(molecule, positions, coarse=True)
    fine_energy, fine_state = converged(molecule, positions, coarse=False)
    level = molecule.level.grid_level
    coarse, fine = (prepare(molecule, positions, grid) for grid in (COARSE_GRID, level))
    states = [torch.as_tensor(state)[None] for state in (coarse_state, fine_state)]
    ours = kohn_sham(coarse, states[0])[0].total
    if abs(float(ours) - coarse_energy) > 1e-8:
        raise RuntimeError(f"PySCF's coarse grid is not ours: {float(ours)} and {coarse_energy}")
    found = [kohn_sham(fine, state) for state in states]
    energies = [float(energy.total) for energy, _ in found]
    focks = [fine.orthogonal(fock) for _, fock in found]
    levels = [torch.linalg.eigvalsh(fock)[0, : molecule.nocc] for fock in focks]
    seconds = median_seconds(
        {
            "coarse": lambda: kohn_sham(coarse, states[0]),
            "level 1": lambda: kohn_sham(fine, states[1]),
        },
        repeats,
    )
    return Comparison(
        grids=coarse_energy - fine_energy,
        state=energies[0] - energies[1],
        hamiltonian=float((found[0][1] - found[1][1]).abs().mean()),
        orbital_energies=float((levels[0] - levels[1]).abs().mean()),
        npoints=(coarse.grid.weights.shape[1], fine.grid.weights.shape[1]),
        seconds=seconds,
    )


def structures(nframes: int) -> list[tuple[str, Atoms]]:
    """Frames of ethanol, then two small molecules."""
    frames = [(f"ethanol {i}", atoms) for i, atoms in enumerate(ethanol(nframes))]
    return [*frames, ("water", rattled("H2O", 0)), ("formaldehyde", rattled("H2CO", 0))]


def finished(share: float, frames: list[Atoms], steps: int) -> tuple[Accuracy, float]:
    """A model of water of which this share of training is on the coarse grid, and its seconds."""
    config = TrainingConfig(
        coarse_share=share,
        self_refine=False,
        validation_frames=HELD_OUT,
        steps=steps,
        optimiser=OptimiserConfig(batch_size=4),
    )
    trainer = Trainer(config, Dataset.of([], frames))
    for _ in trainer.run():
        pass
    model = trainer.best_model()
    return average(frame_errors(model, frames[-HELD_OUT:], forces=False)), trainer.elapsed


def compare_shares(shares: list[float], steps: int) -> None:
    """Print the errors of a model for each share."""
    frames = frames_of("water")
    print(f"water, 6-31G, PBE, {steps} steps of 4; microhartree, last {HELD_OUT} frames")
    print(f"{'coarse share':>12}{'E':>8}{'bracket':>9}{'H':>8}{'e':>8}{'HOMO':>8}{'time':>8}")
    first = 0.0
    for share in shares:
        found, seconds = finished(share, frames, steps)
        first = first or seconds
        print(
            f"{share:12g}{found.energy_mae_uEh:8.3f}{found.bracket_width_mean_uEh:9.3f}"
            f"{found.hamiltonian_mae_uEh:8.1f}{found.orbital_energy_mae_uEh:8.1f}"
            f"{found.homo_mae_uEh:8.1f}{seconds / first:8.2f}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print the table."""
    parser = timing_parser(__doc__)
    parser.add_argument("--frames", type=int, default=2, help="of ethanol")
    parser.add_argument("--shares", type=float, nargs="+", help="of training, coarse; trains")
    parser.add_argument("--steps", type=int, default=2000, help="of these trainings")
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    if options.shares:
        compare_shares(options.shares, options.steps)
        return 0
    print(f"6-31G, microhartree; times with {options.threads} thread(s)")
    print(f"{'':<22}{'coarse - 1':>12}{'P(coarse)':>12}{'H':>8}{'e':>8}{'points':>16}{'time':>8}")
    worst = 0.0
    for xc in ("PBE", "B3LYP"):
        for name, atoms in structures(options.frames):
            level = LevelOfTheory(xc=xc)
            molecule = Molecule(numbers=numbers_of(atoms), level=level, guess="sap")
            result = compare(molecule, bohr(atoms), options.repeats)
            worst = max(worst, result.state)
            points = f"{result.npoints[0]}/{result.npoints[1]}"
            ratio = result.seconds["coarse"] / result.seconds["level 1"]
            print(
                f"{f'{name} {xc}':<22}{MICROHARTREE * result.grids:12.1f}"
                f"{MICROHARTREE * result.state:12.3f}{MICROHARTREE * result.hamiltonian:8.1f}"
                f"{MICROHARTREE * result.orbital_energies:8.1f}{points:>16}{ratio:8.2f}",
                flush=True,
            )
    print(f"largest error of a coarse-grid state: {MICROHARTREE * worst:.2f} microhartree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
