"""Training steps per minute with one rank and with several, in one run (ethanol, PBE/6-31G).

Both take turns; every rank has one thread of its own.  The first steps prepare new geometries
(integrals, coarse grid, guess), the later ones meet them again, mostly on the rank that has them.
Wall time says what this machine's cores, and what else runs on them, leave of a second rank; CPU
time says what it takes off the first.

    python benchmarks/ddp.py
    python benchmarks/ddp.py --ranks 4 --batch-size 16 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from _common import benchmark_parser, rattled, use_threads

from ase_srdft.parallel.ranks import Ranks
from ase_srdft.training.config import OptimiserConfig, TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.trainer import Trainer

_NEW = 4  # steps on new geometries


def measure(options: argparse.Namespace) -> None:
    """As one of the ranks: train, and let the lead print the rates."""
    use_threads(1)
    batch = options.batch_size
    frames = [rattled("CH3CH2OH", seed) for seed in range((1 + _NEW) * batch + 1)]
    config = TrainingConfig(
        self_refine=False,
        validation_frames=1,
        validate_every=10**9,
        optimiser=OptimiserConfig(batch_size=batch),
        steps=1 + _NEW + options.steps,
        device=options.device,
    )
    with Ranks.from_environment(timeout_seconds=600.0) as ranks:
        trainer = Trainer(config, Dataset.of([], frames), ranks=ranks)
        # the first step warms up
        ends = [
            (time.perf_counter(), time.process_time())
            for event in trainer.run()
            if event.training is not None
        ]
        if ranks.is_lead:
            (start, work), (middle, half), (end, whole) = ends[0], ends[_NEW], ends[-1]
            wall = [60.0 * _NEW / (middle - start), 60.0 * options.steps / (end - middle)]
            cpu = [1e3 * (half - work) / _NEW, 1e3 * (whole - half) / options.steps]
            print(json.dumps([*wall, *cpu]))


def rates(nranks: int, arguments: list[str]) -> list[float]:
    """Steps per minute on new geometries and on those met again; the lead's CPU ms a step."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(nranks)]
    run = subprocess.run(
        [sys.executable, *torchrun, __file__, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=3600,
    )
    found: list[float] = json.loads(run.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Take turns, print medians and ratios."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="on geometries met again")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    if "WORLD_SIZE" in os.environ:
        measure(options)
        return 0
    found: dict[int, list[list[float]]] = {1: [], options.ranks: []}
    for _ in range(options.rounds):
        for nranks, rounds in found.items():
            rounds.append(rates(nranks, list(sys.argv[1:] if arguments is None else arguments)))
    print(f"ethanol, batch of {options.batch_size}, {options.device}, torch {torch.__version__}")
    print("medians; new geometries, met again   steps per minute    CPU ms a step and rank")
    medians = {
        n: [statistics.median(r[i] for r in rs) for i in range(4)] for n, rs in found.items()
    }
    for nranks, row in medians.items():
        print(f"  {nranks} rank(s){'':<21}" + "".join(f"{value:11.1f}" for value in row))
    ratios = [several / one for one, several in zip(*medians.values(), strict=True)]
    print(f"  ratio{'':<25}" + "".join(f"{value:11.2f}" for value in ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
