"""Whether training gains where the bracket is wide: steps to 0.1 mEh, with selection and without.

For each seed ethanol (PBE/6-31G) is trained from the one structure that ASE builds and no data,
as ``ase-srdft-train`` would in one process, for the same number of steps twice: with uniform
draws, and with draws by the width of the bracket.  Both begin with the same weights, the same
rattled copies and the same schedule.  Every few steps the averaged model's mean error,
E - E_SCF, is taken on the level's own grid at some of the last frames of rMD17's ethanol, which
no run has seen; the reference SCFs are made once and kept beside the output.

    python benchmarks/selection.py --seeds 0 1 2 --steps 1500 --output selection.csv

An arm is written when it is done; the same command skips the arms that are there.  A file made
with other settings is refused.  The frames (rmd17_ethanol_public.npz) are looked for in the
folder that ASE_SRDFT_DATA names, unless --frames says where they are.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from _common import FILES, HELD_OUT, benchmark_parser, use_threads
from ase.build import molecule

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.structures import read_frames
from ase_srdft.common.units import MICROHARTREE
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.training.config import SelectionConfig, TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.trainer import Trainer
from ase_srdft.training.weight_updater import mean_bracket

#: What has to be reached: 0.1 millihartree, in microhartree.
TARGET_uEh = 100.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """The averaged model at one step of one arm.

    Attributes:
        seed: of the run.
        exponent: of the selection; 0 without.
        uniform_share: of the selection.
        buffer_size: geometries kept at most.
        steps: of the whole run: they decide the schedule.
        nframes: how many the means are over.
        step: now.
        nsamples: geometries sampled so far.
        seconds: of training so far, the evaluations not counted.
        error_uEh: mean E - E_SCF (microhartree).
        width_uEh: mean E - E_lower (microhartree).
    """

    seed: int
    exponent: float
    uniform_share: float
    buffer_size: int
    steps: int
    nframes: int
    step: int
    nsamples: int
    seconds: float
    error_uEh: float
    width_uEh: float

    @property
    def arm(self) -> tuple[int, float]:
        """Which run it belongs to."""
        return self.seed, self.exponent


class Yardstick:
    """The mean error of averaged models at fixed frames (Bohr), on the level's own grid."""

    def __init__(self, trainer: Trainer, positions: np.ndarray, cache: Path) -> None:
        self.reference = float(np.mean(references_of(trainer, positions, cache)))
        self.cache = GeometryCache(
            trainer.molecules, 4_000_000_000, False, trainer.device, trainer.threads
        )
        self.keys = [self.cache.add(0, each) for each in positions]

    def __call__(self, trainer: Trainer) -> tuple[float, float]:
        """Mean error and mean width (microhartree)."""
        totals = np.zeros(2)
        for key in self.keys:
            batches = self.cache.batches([key])
            totals += mean_bracket(trainer.updater.averaged, batches, trainer.threads)
        energy, width = totals / len(self.keys)
        return MICROHARTREE * (energy - self.reference), MICROHARTREE * width


def references_of(trainer: Trainer, positions: np.ndarray, cache: Path) -> list[float]:
    """E_SCF of each frame (Hartree), from the cache if it is of these frames at this level."""
    molecule = trainer.molecules[0]
    digest = hashlib.sha256(str(molecule.level).encode() + positions.tobytes()).hexdigest()
    if cache.is_file():
        kept = json.loads(cache.read_text(encoding="utf-8"))
        if kept["of"] == digest:
            return list(kept["energies"])
    print(f"{len(positions)} reference SCFs", flush=True)
    energies = [reference_scf(molecule, position).energy for position in positions]
    cache.write_text(json.dumps({"of": digest, "energies": energies}), encoding="utf-8")
    return energies


def trainer_for(seed: int, exponent: float, options: argparse.Namespace) -> Trainer:
    """A fresh run from one structure."""
    config = TrainingConfig(
        selection=SelectionConfig(exponent=exponent, uniform_share=options.uniform_share),
        steps=options.steps,
        buffer_size=options.buffer_size,
        validate_every=options.steps,
        seed=seed,
    )
    return Trainer(config, Dataset.of([molecule("CH3CH2OH")]))


def rows_of(trainer: Trainer, yardstick: Yardstick, options: argparse.Namespace) -> Iterator[Row]:
    """Train; the averaged model every so many steps."""
    start, away = time.monotonic(), 0.0
    for event in trainer.run():
        if event.training is None or event.step % options.every:
            continue
        before = time.monotonic()
        error, width = yardstick(trainer)
        yield Row(
            seed=trainer.config.seed,
            exponent=trainer.config.selection.exponent,
            uniform_share=options.uniform_share,
            buffer_size=options.buffer_size,
            steps=options.steps,
            nframes=len(yardstick.keys),
            step=event.step,
            nsamples=event.nsamples,
            seconds=before - start - away,
            error_uEh=error,
            width_uEh=width,
        )
        away += time.monotonic() - before


def read_rows(path: Path, options: argparse.Namespace) -> list[Row]:
    """What earlier calls have written.

    Raises:
        SystemExit: with other settings.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        kinds = {"int": int, "float": float}
        rows = [
            Row(**{name: kinds[Row.__annotations__[name]](text) for name, text in line.items()})
            for line in csv.DictReader(file)
        ]
    names = ("steps", "nframes", "uniform_share", "buffer_size")
    for row in rows:
        for name in names:
            if getattr(row, name) != getattr(options, name):
                sys.exit(f"{path} was made with another {name}: choose another --output")
    return rows


def append_rows(path: Path, rows: list[Row]) -> None:
    """Add a finished arm."""
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        if new:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def steps_to_target(rows: list[Row]) -> int | None:
    """The first step at which the error is below the target; None if it never is."""
    return next((row.step for row in rows if row.error_uEh < TARGET_uEh), None)


def print_table(rows: list[Row]) -> None:
    """One line for each arm."""
    print(f"seed  exponent  steps to {TARGET_uEh:.0f} uEh  last error/uEh  width/uEh  samples  s")
    for arm in sorted({row.arm for row in rows}):
        own = [row for row in rows if row.arm == arm]
        reached, last = steps_to_target(own), own[-1]
        print(
            f"{arm[0]:4d}  {arm[1]:8g}  {reached or 'never'!s:>16s}  {last.error_uEh:14.1f}"
            f"  {last.width_uEh:9.1f}  {last.nsamples:7d}  {last.seconds:.0f}"
        )


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=int, default=50, help="steps between evaluations")
    parser.add_argument("--exponent", type=float, default=1.0, help="of the arm with selection")
    parser.add_argument("--uniform-share", type=float, default=SelectionConfig().uniform_share)
    parser.add_argument("--buffer-size", type=int, default=TrainingConfig().buffer_size)
    parser.add_argument("--nframes", type=int, default=20, help="to evaluate at")
    parser.add_argument("--frames", type=Path, default=FILES["ethanol"])
    parser.add_argument("--output", type=Path, default=Path("selection.csv"))
    options = parser.parse_args(arguments)
    if not options.frames.is_file():
        parser.error(f"no {options.frames}: give --frames, or name their folder in ASE_SRDFT_DATA")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, arm by arm, and print the table."""
    options = options_of(arguments)
    use_threads(1)
    frames = read_frames(options.frames)[-HELD_OUT :: HELD_OUT // options.nframes][
        : options.nframes
    ]
    positions = np.array([nuclei_of(atoms).positions for atoms in frames])
    rows = read_rows(options.output, options)
    yardstick = None
    for seed in options.seeds:
        for exponent in (0.0, options.exponent):
            if (seed, exponent) in {row.arm for row in rows}:
                continue
            trainer = trainer_for(seed, exponent, options)
            if yardstick is None:
                cache = options.output.with_suffix(".references.json")
                yardstick = Yardstick(trainer, positions, cache)
            own = []
            for row in rows_of(trainer, yardstick, options):
                own.append(row)
                print(
                    f"seed {seed} exponent {exponent:g} step {row.step}: {row.error_uEh:.1f} uEh, "
                    f"width {row.width_uEh:.1f} uEh, {row.nsamples} samples, {row.seconds:.0f} s",
                    flush=True,
                )
            append_rows(options.output, own)
            rows += own
    print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
