"""Which guess Fock matrix to correct, and what the network's reading of it is worth.

First the guesses themselves: the bracket of the aufbau state of F0 + d (F[P0] - F0), F0 that of
superposed atoms, for several d, on held-out frames of the paper's molecules.  Then training: one
model from each guess, with and without the guess's matrices among the network's input, on the
same frames for the same time, geometry preparation included; the certified error (mean bracket
width on the last 60 frames, level-1 grid); and the time of energy and forces of all of them,
interleaved, in the same run.

    python benchmarks/guess_choice.py --minutes 5 --guesses roothaan minao minao-unread sap
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from runs import HELD_OUT, SYSTEMS

from ase_srdft.dft.certificate import energy_bracket
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.geometry import Geometry, prepare
from ase_srdft.dft.guess import DAMPING
from ase_srdft.dft.level import LevelOfTheory
from ase_srdft.dft.molecule import GUESSES
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.models.evaluate import evaluate
from ase_srdft.structures import read_frames
from ase_srdft.training.config import OptimiserConfig, TrainingConfig
from ase_srdft.training.dataset import Dataset
from ase_srdft.training.trainer import Trainer
from ase_srdft.units import MICROHARTREE

DAMPINGS = (0.0, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 1.0)
#: Frames of each molecule that the guesses alone are looked at.
FEW = 4


def widths_by_damping(molecule_name: str, folder: Path) -> list[float]:
    """Mean bracket (Hartree) of the damped Roothaan steps of a molecule, untrained."""
    system = SYSTEMS[molecule_name]
    level = LevelOfTheory(xc=system.xc, basis=system.basis)
    frames = read_frames(folder / system.file)[-HELD_OUT :: HELD_OUT // FEW]
    dataset = Dataset.of([], frames)
    (molecule,) = dataset.molecules(level, "roothaan")
    positions = torch.as_tensor(np.array([each for _, each in dataset.frames]))
    with torch.no_grad():
        geometry = prepare(molecule, positions)
        return [mean_width(geometry, damping) for damping in DAMPINGS]


def mean_width(geometry: Geometry, damping: float) -> float:
    """Mean bracket (Hartree) of one damping."""
    assert geometry.guess_step is not None
    fock = geometry.guess_fock + (damping - DAMPING) * geometry.guess_step
    projector, _, _ = occupied_projector(geometry.orthogonal(fock), geometry.molecule.nocc)
    density_matrix = geometry.density_matrix(projector)
    energies, matrix = kohn_sham(geometry, density_matrix)
    bracket = energy_bracket(geometry, energies.total, density_matrix, matrix)
    return float(bracket.width.mean())


def train(dataset: Dataset, choice: str, minutes: float, threads: int) -> Trainer:
    """A model from one guess, trained for so long."""
    guess, _, unread = choice.partition("-")
    config = TrainingConfig(
        model_config={"guess": guess, "reads_guess": not unread},
        self_refine=False,
        steps=1_000_000,
        minutes=minutes,
        validation_frames=HELD_OUT,
        optimiser=OptimiserConfig(batch_size=4),
        threads=threads,
    )
    trainer = Trainer(config, dataset)
    for event in trainer.run():
        if event.validation is not None:
            width = MICROHARTREE * event.validation.bracket_width
            print(f"  {choice}: step {event.step}, held out {width:.1f} uEh", flush=True)
    return trainer


def seconds(trainer: Trainer, positions: np.ndarray) -> float:
    """One evaluation of energy and forces on the level's own grid."""
    start = time.perf_counter()
    evaluate(trainer.best_model(), trainer.molecules[0], torch.as_tensor(positions)[None])
    return time.perf_counter() - start


def show_dampings(folder: Path) -> None:
    """The table of the guesses alone."""
    print("mean bracket/mEh of the untrained guess; columns: damping")
    print(f"{'':14s}" + "".join(f"{damping:8.2f}" for damping in DAMPINGS))
    for name in ("ethanol", "malonaldehyde", "uracil"):
        widths = (f"{1e3 * width:8.1f}" for width in widths_by_damping(name, folder))
        print(f"{name:14s}" + "".join(widths), flush=True)


def main() -> int:
    """Train, time, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    choices = [*GUESSES, *(f"{guess}-unread" for guess in GUESSES)]
    default = ["roothaan", "minao", "minao-unread", "sap"]
    parser.add_argument("--guesses", nargs="+", choices=choices, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data"))
    show_dampings(folder)
    dataset = Dataset.of([], read_frames(folder / SYSTEMS["ethanol"].file))
    trainers = {g: train(dataset, g, options.minutes, options.threads) for g in options.guesses}
    times: dict[str, list[float]] = {guess: [] for guess in trainers}
    for repeat in range(options.repeats):
        for guess, trainer in trainers.items():
            times[guess].append(seconds(trainer, dataset.frames[-1 - repeat][1]))
    fastest = min(statistics.median(t) for t in times.values())
    print("guess          steps  certified error/uEh  energy+forces (relative)")
    for guess, trainer in trainers.items():
        width = MICROHARTREE * trainer.counters.best_width
        relative = statistics.median(times[guess]) / fastest
        print(f"{guess:14s} {trainer.learner.step:5d}  {width:19.1f}  {relative:24.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
