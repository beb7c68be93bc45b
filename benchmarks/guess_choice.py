"""Which guess Fock matrix to correct: error at equal training cost, and the price of forces.

Trains one model from each guess on the same frames of rMD17 ethanol (PBE/6-31G) for the same
time, geometry preparation included, prints the certified error (mean bracket width on the last
60 frames, level-1 grid), and then times energy+forces of both, interleaved, in the same run.

    python benchmarks/guess_choice.py --minutes 5
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

from ase_srdft.models.evaluate import evaluate
from ase_srdft.structures import read_frames
from ase_srdft.training.config import OptimiserConfig, TrainingConfig
from ase_srdft.training.dataset import Dataset
from ase_srdft.training.trainer import Trainer

GUESSES = ("minao", "sap", "core")
HELD_OUT = 60


def train(dataset: Dataset, guess: str, minutes: float, threads: int) -> Trainer:
    """A model from one guess, trained for so long."""
    config = TrainingConfig(
        model_config={"guess": guess},
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
            width = 1e6 * event.validation.bracket_width
            print(f"  {guess}: step {event.step}, held out {width:.0f} uEh", flush=True)
    return trainer


def seconds(trainer: Trainer, positions: np.ndarray) -> float:
    """One evaluation of energy and forces on the level's own grid."""
    start = time.perf_counter()
    evaluate(trainer.best_model(), trainer.molecules[0], torch.as_tensor(positions)[None])
    return time.perf_counter() - start


def main() -> int:
    """Train, time, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--guesses", nargs="+", choices=GUESSES, default=["minao", "sap"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data"))
    dataset = Dataset.of([], read_frames(folder / "rmd17_ethanol_public.npz"))
    trainers = {g: train(dataset, g, options.minutes, options.threads) for g in options.guesses}
    times: dict[str, list[float]] = {guess: [] for guess in trainers}
    for repeat in range(options.repeats):
        for guess, trainer in trainers.items():
            times[guess].append(seconds(trainer, dataset.frames[-1 - repeat][1]))
    fastest = min(statistics.median(t) for t in times.values())
    print("guess    steps  certified error/uEh  energy+forces (relative)")
    for guess, trainer in trainers.items():
        width = 1e6 * trainer.counters.best_width
        relative = statistics.median(times[guess]) / fastest
        print(f"{guess:8s} {trainer.learner.step:5d}  {width:19.1f}  {relative:24.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
