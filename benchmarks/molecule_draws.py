"""Whether many molecules gain if those with wide brackets are drawn more often.

Sixteen molecules at two levels of theory are trained in one run, on rattled copies alone and
always the same ones, for the same number of steps: once for every exponent of a molecule's bracket
(``selection.molecule_exponent``; 0 draws from all alike) and every seed.  In the end, and twice
before, the averaged model's brackets are taken on copies that no step trains on.

    python benchmarks/molecule_draws.py --seeds 0 1 2 3 --exponents 0 1 --steps 1500
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from _common import benchmark_parser, use_threads
from ase.build import molecule

from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.sampling.config import EngineConfig
from ase_srdft.training.config import OptimiserConfig, SelectionConfig, TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.trainer import Trainer

NAMES = [
    *("H2O", "H2", "CH4", "NH3", "N2", "CO", "HCN", "CO2"),
    *("C2H2", "C2H4", "H2CO", "CH3OH", "N2H4", "H2O2", "CH3CN", "HCOOH"),
]
LEVELS = ("LDA/sto-3g", "PBE/6-31g")


def configuration(seed: int, exponent: float, steps: int) -> TrainingConfig:
    """A run without dynamics, on the coarse grid."""
    return TrainingConfig(
        level=LevelOfTheory(xc="PBE", basis="sto-3g", grid_level=0),
        levels=LEVELS,
        model="potential",
        model_config={"features": 32},
        engine=EngineConfig(name="sync"),
        selection=SelectionConfig(molecule_exponent=exponent),
        optimiser=OptimiserConfig(learning_rate=5e-3),
        pretraining_steps=steps,
        pretraining_frames=6,
        validation_frames=2 * len(NAMES) * len(LEVELS),
        validate_every=max(1, steps // 3),
        steps=steps,
        coarse_share=1.0,
        seed=seed,
    )


def rows(seed: int, exponent: float, steps: int) -> Iterator[str]:
    """A line for each validation."""
    config = configuration(seed, exponent, steps)
    trainer = Trainer(config, Dataset.of([molecule(name) for name in NAMES]))
    started = time.monotonic()
    for event in trainer.run():
        if event.validation is None:
            continue
        widths = 1e6 * np.array(event.validation.widths_of_molecules)
        name, _ = event.validation.worst[0]
        yield (
            f"{seed},{exponent:g},{event.step},{time.monotonic() - started:.0f},"
            f"{widths.mean():.1f},{np.median(widths):.1f},{widths.max():.1f},"
            f"{1e6 * event.validation.largest_width:.1f},{name}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--exponents", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args(arguments)
    use_threads(1)
    print("seed,exponent,step,seconds,mean_uEh,median_uEh,worst_uEh,largest_uEh,worst")
    for seed in options.seeds:
        for exponent in options.exponents:
            for row in rows(seed, exponent, options.steps):
                print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
