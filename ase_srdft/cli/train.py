"""``ase-srdft-train``: from structures to a trained calculator."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ase_srdft.cli.common import Parser, run_command

if TYPE_CHECKING:
    from ase import Atoms

    from ase_srdft.training.config import TrainingConfig
    from ase_srdft.training.trainer import Trainer

__all__ = ["main"]

_DESCRIPTION = """\
Train a calculator of Kohn-Sham quality from structures alone: a network predicts the electronic
state, its Kohn-Sham energy is the loss, and the geometries come from Langevin dynamics on the
model's own energy.  The same command in the same directory goes on where it stopped.
Exit codes: 0 done, 2 bad input, 75 interrupted (run it again to go on), 1 failed."""
_PROGRAM = "ase-srdft-train"
_INTERRUPTED = 75

#: Options that set one value of the configuration: flag, path in it, type, help.
_SETTINGS: tuple[tuple[str, str, type, str], ...] = (
    ("--xc", "level.xc", str, "LDA, PBE, BLYP, PBE0, B3LYP or B3LYP5"),
    ("--basis", "level.basis", str, "any basis of PySCF's with s, p and d functions"),
    ("--grid-level", "level.grid_level", int, "PySCF's grid level, 0 to 9"),
    ("--charge", "level.charge", int, "total charge in e"),
    ("--temperature", "sampling.temperature_K", float, "of the sampled geometries in K"),
    ("--dynamics", "sampling.dynamics", str, "overdamped, metropolis or langevin"),
    ("--walkers", "sampling.walkers", int, "walkers that sample at the same time"),
    ("--data-fraction", "data_fraction", float, "share of given frames in a batch, 0 to 1"),
    ("--steps", "steps", int, "training steps at most"),
    ("--minutes", "minutes", float, "wall-clock limit in minutes"),
    ("--target-error", "target_error_uEh", float, "stop at this certified error, microhartree"),
    ("--batch-size", "optimiser.batch_size", int, "geometries a training step"),
    ("--learning-rate", "optimiser.learning_rate", float, "highest learning rate"),
    ("--validation-frames", "validation_frames", int, "frames held out, the last ones given"),
    ("--memory-gb", "memory_gb", float, "of integrals kept with the geometries"),
    ("--device", "device", str, "cpu, cuda or cuda:N"),
    ("--threads", "threads", int, "threads (default: the cores there are)"),
    ("--seed", "seed", int, "of everything random"),
)


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, description=_DESCRIPTION)
    parser.add_argument(
        "structures", nargs="*", metavar="STRUCTURE", help="one or more, any format of ASE"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings; flags win")
    parser.add_argument(
        "--data", nargs="+", default=[], metavar="FILE", help="frames: extxyz, .traj, .db, .npz"
    )
    parser.add_argument(
        "--no-self-refine", action="store_true", help="train on the frames of --data alone"
    )
    parser.add_argument(
        "--density-fitting",
        metavar="BASIS",
        help="auxiliary basis by name, or 'off' for exact four-centre integrals",
    )
    parser.add_argument(
        "--allow-reactions", action="store_true", help="keep samples whose bonds have changed"
    )
    parser.add_argument("--guess", help="guess Fock matrix: minao, sap or core")
    group = parser.add_argument_group("settings")
    for flag, path, kind, text in _SETTINGS:
        group.add_argument(flag, dest=path, type=kind, metavar=kind.__name__.upper(), help=text)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    # Threads each handle their own geometries; parallel loops inside operations would only
    # get in their way.  This must be said before torch and PySCF are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return run_command(_parser(), _train, arguments)


def _train(options: argparse.Namespace) -> int:
    import torch

    from ase_srdft.cli.progress import progress_display
    from ase_srdft.errors import SamplingFailed
    from ase_srdft.training.run_directory import RunDirectory
    from ase_srdft.training.trainer import Trainer

    config = _configuration(options)
    dataset = _dataset(options, config)
    torch.set_num_threads(1)
    trainer = Trainer(config, dataset)
    directory = RunDirectory(options.output, trainer)
    first = trainer.learner.step
    try:
        with progress_display(trainer, directory) as show, _stopping(trainer):
            for event in trainer.run():
                directory.record(event)
                show(event)
    except (SamplingFailed, FloatingPointError) as err:
        print(f"{_PROGRAM}: error: {err}", file=sys.stderr)
        return 1
    reason = _reason(trainer)
    directory.finish(reason)
    _say_what_there_is(options.output, trainer, reason, idle=trainer.learner.step == first)
    return _INTERRUPTED if reason == "interrupted" else 0


def _configuration(options: argparse.Namespace) -> TrainingConfig:
    """YAML, then flags on top of it."""
    from ase_srdft.devices import torch_device
    from ase_srdft.training.config import TrainingConfig, from_plain

    plain = _read_yaml(options.config) if options.config else {}
    given = {path: getattr(options, path) for _, path, _, _ in _SETTINGS}
    given["level.density_fitting"] = {"off": False}.get(
        options.density_fitting, options.density_fitting
    )
    given["model_config.guess"] = options.guess
    given["self_refine"] = False if options.no_self_refine else None
    given["sampling.allow_reactions"] = True if options.allow_reactions else None
    if given["threads"] is None and "threads" not in plain:
        given["threads"] = len(os.sched_getaffinity(0))
    for path, value in given.items():
        if value is not None:
            _set(plain, path, value)
    config = from_plain(TrainingConfig, plain)
    torch_device(config.device)
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    from ase_srdft.errors import BadInput

    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as err:
        raise BadInput(f"cannot read {path}: {err.strerror}; check the path") from err
    except (yaml.YAMLError, ValueError) as err:  # impossible dates and bytes are ValueErrors
        reason = " ".join(str(err).split())
        raise BadInput(f"{path} is no YAML ({reason}): use name: value lines") from err
    if not isinstance(plain, dict):
        raise BadInput(f"{path} holds {type(plain).__name__}: use name: value lines")
    return plain


def _set(plain: dict[str, Any], path: str, value: Any) -> None:
    """Set a value by its dotted name; what stands in the way is for `from_plain` to refuse."""
    *parents, name = path.split(".")
    for parent in parents:
        inner = plain.setdefault(parent, {})
        if not isinstance(inner, dict):
            return
        plain = inner
    plain[name] = value


def _dataset(options: argparse.Namespace, config: TrainingConfig) -> Any:
    from ase_srdft.errors import BadInput
    from ase_srdft.training.dataset import Dataset

    if not options.structures and not options.data:
        raise BadInput("nothing to train on: give a structure file, or frames with --data")
    if not config.self_refine and not options.data:
        raise BadInput("--no-self-refine without --data leaves nothing to train on: give frames")
    frames = _read(options.data, config.level.charge)
    if options.data and len(frames) < 2:
        raise BadInput(f"{len(frames)} frame in --data: give at least 2, one is held out")
    return Dataset.of(_read(options.structures, config.level.charge), frames)


def _read(paths: Sequence[str], charge: int) -> list[Atoms]:
    """The structures of all files, whose charges and spins must be those of the run."""
    from ase.calculators.calculator import InputError

    from ase_srdft.calculator_input import total_charge
    from ase_srdft.errors import BadInput
    from ase_srdft.structures import read_frames

    structures = []
    for path in paths:
        for atoms in read_frames(path):
            try:
                total_charge(atoms, charge, multiplicity=None)
            except InputError as err:
                raise BadInput(f"{path}: {err}") from err
            structures.append(atoms)
    return structures


@contextmanager
def _stopping(trainer: Trainer) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the step in hand; a second one at once."""

    def request(number: int, frame: FrameType | None) -> None:
        if trainer.stop_requested:
            raise KeyboardInterrupt
        trainer.stop_requested = True
        print("stopping after this step; once more to stop at once", file=sys.stderr)

    previous = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _reason(trainer: Trainer) -> str:
    config = trainer.config
    if trainer.learner.step >= config.steps:
        return "steps done"
    if config.minutes is not None and trainer.progress >= 1.0:
        return "time is up"
    return "interrupted" if trainer.stop_requested else "target reached"


def _say_what_there_is(output: Path, trainer: Trainer, reason: str, idle: bool) -> None:
    width = trainer.counters.best_width * 1e6
    certified = f"{width:.1f} microhartree (mean bracket width, held out)"
    print(
        f"{'nothing left to do, ' if idle and reason != 'interrupted' else ''}"
        f"{reason}: {trainer.learner.step} steps, {trainer.counters.nsamples} samples, "
        f"certified error {certified if math.isfinite(width) else 'not validated yet'}"
    )
    print(f"model: {output / 'model.srdft'}   report: {output / 'report.html'}")
    if reason == "interrupted":
        print("the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
