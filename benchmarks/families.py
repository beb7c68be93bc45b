"""The families of models side by side on ethanol at PBE/6-31G.

For each family: the number of weights, the time of a training step against the Fock family's,
how orthonormal its orbitals are, how far its energy is from a converged SCF at the same level
(never below it), and by how much the energy changes when the molecule is turned.  Models are
untrained, but for those named with --model.

    python benchmarks/families.py --frames 50 --model run/model.srdft
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _common import benchmark_parser, bohr, ethanol, numbers_of, use_threads
from ase import Atoms
from side_by_side import median_seconds

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.electronic_state import FAMILIES, ElectronicStateModel
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.orbital_tokens.rotated_axes import random_rotations
from ase_srdft.models.single_point import molecule_of
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.weight_updater import WeightUpdater


def models(files: list[Path]) -> dict[str, ElectronicStateModel]:
    """A fresh model of every family, and those of files."""
    result: dict[str, ElectronicStateModel] = {}
    for name in FAMILIES:
        torch.manual_seed(0)
        result[f"{name}, untrained"] = build_model(
            name, LevelOfTheory(basis="6-31g"), (1, 6, 8), {}
        )
    for file in files:
        model = load_model(file).model
        result[f"{model.family}, {file}"] = model
    return result


@torch.no_grad()
def geometry_of(model: ElectronicStateModel, positions: torch.Tensor, atoms: Atoms) -> Geometry:
    """Ready for a model, in its level of theory."""
    return prepare(molecule_of(model, numbers_of(atoms)), positions)


@torch.no_grad()
def energy_and_deviation(model: ElectronicStateModel, geometry: Geometry) -> tuple[float, float]:
    """E (Hartree) and the largest element of C^T S C - 1."""
    state = model([geometry])[0]
    products = state.mo_coeff.mT @ geometry.integrals.overlap @ state.mo_coeff
    deviation = (products - torch.eye(products.shape[-1])).abs().max()
    return float(kohn_sham(geometry, state.density_matrix)[0].total), float(deviation)


def spread_over_rotations(model: ElectronicStateModel, atoms: Atoms, count: int) -> float:
    """Standard deviation of E (Hartree) when one geometry is turned at random.

    Integrals and grid are made anew, so the grid's own dependence on the axes is in it.
    """
    turned = bohr(atoms) @ random_rotations(count, seed=1).mT
    energies = [
        energy_and_deviation(model, geometry_of(model, one, atoms))[0] for one in turned.split(1)
    ]
    return statistics.pstdev(energies)


def step_seconds(
    candidates: dict[str, ElectronicStateModel], frames: list[Atoms], repeats: int
) -> dict[str, float]:
    """Median seconds of a training step on a batch of prepared geometries."""
    rate = OptimiserConfig(learning_rate=1e-9, final_learning_rate=1e-9)  # the weights stay
    positions = torch.cat([bohr(atoms) for atoms in frames])
    sides = {}
    for name, model in candidates.items():
        updater = WeightUpdater(model, rate, ThreadMap())
        geometry = geometry_of(model, positions, frames[0])
        sides[name] = lambda updater=updater, geometry=geometry: updater.update([geometry], 0.0)
    seconds = median_seconds(sides, repeats)
    for model in candidates.values():
        model.double().eval().requires_grad_(False)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a block for each model."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--frames", type=int, default=50, help="for errors against the SCF")
    parser.add_argument("--rotations", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", nargs="+", default=[], type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    use_threads(1)
    frames = ethanol(max(options.frames, options.batch_size))
    candidates = models(options.model)
    seconds = step_seconds(candidates, frames[: options.batch_size], options.repeats)
    references: dict[tuple[LevelOfTheory, int], float] = {}
    print(f"ethanol, one thread, training steps of {options.batch_size} prepared geometries")
    for name, model in candidates.items():
        errors, deviations = [], []
        for index, atoms in enumerate(frames[: options.frames]):
            geometry = geometry_of(model, bohr(atoms), atoms)
            key = (model.level, index)
            if key not in references:
                scf = reference_scf(geometry.molecule, geometry.positions[0].numpy())
                references[key] = scf.energy
            energy, deviation = energy_and_deviation(model, geometry)
            errors.append(energy - references[key])
            deviations.append(deviation)
        spread = spread_over_rotations(model, frames[0], options.rotations)
        own, fock = seconds[name], seconds["fock, untrained"]
        print(f"\n{name}, {model.level}")
        print(f"  weights                    {sum(p.numel() for p in model.parameters()):12d}")
        print(
            f"  training step              {1e3 * own:12.0f} ms, fock {1e3 * fock:.0f} ms,", end=""
        )
        print(f" ratio {own / fock:.2f}")
        print(f"  largest of |C^T S C - 1|   {max(deviations):12.1e}")
        print(f"  E - E_SCF, {len(errors):3d} frames      {np.mean(errors):12.6f} Eh mean,", end="")
        print(f" {min(errors):.2e} least, {max(errors):.2e} largest")
        print(f"  std of E over {options.rotations} rotations {spread:12.2e} Eh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
