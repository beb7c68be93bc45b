"""One training step on a batch of ethanol (PBE/6-31G) against as many SCFs of PySCF, in one run.

A step that learns from new geometries prepares them (integrals, coarse grid, guess), predicts
their states, and has loss and gradient from one Fock build each.  A geometry that comes back out
of the replay buffer keeps its integrals.  What a labelled method would need instead is a converged
SCF for each geometry (density-fitted, from minao, level-1 grid); training on the labels, the
regression of the Hamiltonian, comes on top.  All sides have the same threads and take turns.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --batch-size 8 --threads 2
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence

import torch
from _common import (
    add_conv_tol,
    as_numpy,
    bohr,
    ethanol,
    numbers_of,
    pyscf_scf,
    timing_parser,
    untrained,
    use_threads,
)
from side_by_side import Stopwatch, median_seconds, print_seconds

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import GUESSES, Molecule
from ase_srdft.models.single_point import molecule_of
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.reference.label_file import Label, LabelOrigin, Labels, frames_fingerprint
from ase_srdft.reference.label_workers import FrameTask, label_frame
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.losses import HamiltonianLoss
from ase_srdft.training.weight_updater import WeightUpdater


def filled_cache(
    molecule: Molecule, frames: list[torch.Tensor], workers: ThreadMap
) -> tuple[GeometryCache, list[int]]:
    """A cache of geometries with nothing prepared yet, and the keys of the frames."""
    cpu = torch.device("cpu")
    cache = GeometryCache([molecule], 2**31, coarse_grid=True, device=cpu, threads=workers)
    return cache, [cache.add(0, as_numpy(positions)) for positions in frames]


def pyscf(molecule: Molecule, frames: list[torch.Tensor], conv_tol: float) -> None:
    """Converged SCFs."""
    for positions in frames:
        pyscf_scf(molecule, positions, conv_tol, forces=False)


def labels_of(molecule: Molecule, frames: list[torch.Tensor]) -> Labels:
    """The converged states of the frames."""
    level = molecule.level
    arrays = [(molecule.numbers, as_numpy(positions)) for positions in frames]
    tasks = [
        FrameTask(frame=i, numbers=numbers, positions=positions, level=level, forces=False)
        for i, (numbers, positions) in enumerate(arrays)
    ]
    results = [result for result in map(label_frame, tasks) if isinstance(result, Label)]
    fingerprint = frames_fingerprint(arrays)
    origin = LabelOrigin(level=level, forces=False, nframes=len(tasks), fingerprint=fingerprint)
    return Labels(origin=origin, labels=tuple(results))


def split(updater: WeightUpdater, molecule: Molecule, frames: list[torch.Tensor]) -> Stopwatch:
    """One step on new geometries, in pieces, on the calling thread."""
    cache, keys = filled_cache(molecule, frames, ThreadMap())
    watch = Stopwatch()
    (geometry,) = cache.batches(keys)
    watch.lap("integrals, grids, guesses (new geometries)")
    state = updater.model([geometry])[0]
    watch.lap("network and diagonalisation")
    energies, _ = kohn_sham(geometry, state.density_matrix)
    watch.lap("energies and Fock matrices")
    updater.optimiser.zero_grad(set_to_none=True)
    energies.total.mean().backward()
    watch.lap("backward through the network")
    updater.optimiser.step()
    watch.lap("optimiser")
    return watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both sides, print the ratios and where our time goes."""
    parser = timing_parser(__doc__)
    add_conv_tol(parser)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--guess", choices=GUESSES, default="roothaan")
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    structures = ethanol(options.batch_size)
    frames = [bohr(atoms) for atoms in structures]
    model = untrained(LevelOfTheory(basis="6-31g"), structures[0], options.guess)
    molecule = molecule_of(model, numbers_of(structures[0]))
    workers = ThreadMap(options.threads)
    # A rate this small leaves the weights in place: every step is the same work.
    optimiser = OptimiserConfig(learning_rate=1e-9, final_learning_rate=1e-9)
    updater = WeightUpdater(model, optimiser, workers)
    loss = HamiltonianLoss(labels_of(molecule, frames))
    supervised = WeightUpdater(copy.deepcopy(model), optimiser, workers, loss=loss)
    buffer, known = filled_cache(molecule, frames, workers)

    def new() -> None:
        cache, keys = filled_cache(molecule, frames, workers)
        updater.update(cache.batches(keys), 0.0)

    sides = {
        f"PySCF, {options.batch_size} SCFs": lambda: pyscf(molecule, frames, options.conv_tol),
        "a step, new geometries": new,
        "a step, geometries revisited": lambda: updater.update(buffer.batches(known), 0.0),
        "a step on labels, revisited": lambda: supervised.update(buffer.batches(known), 0.0),
    }
    seconds = median_seconds(sides, options.repeats)
    print(
        f"{molecule.formula}, {molecule.level}, guess {molecule.guess}, batch of "
        f"{options.batch_size}, {options.threads} thread(s), medians"
    )
    theirs = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:<30}{1e3 * value:9.0f} ms {theirs / value:7.1f} times PySCF's speed")
    watches = [split(updater, molecule, frames) for _ in range(options.repeats)]
    fastest = min(watches, key=lambda watch: sum(watch.seconds.values()))
    print_seconds("where the time of a step goes (one worker)", fastest.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
