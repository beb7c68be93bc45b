"""What ``ase-srdft-train`` is told: options and YAML to settings, files to structures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase_srdft.cli.frames import check_charge
from ase_srdft.cli.level_input import LEVEL_SETTINGS, level_values

if TYPE_CHECKING:
    from ase import Atoms

    from ase_srdft.training.config import TrainingConfig
    from ase_srdft.training.dataset import Dataset

__all__ = ["SETTINGS", "configuration", "dataset"]

#: Options that set one value of the configuration: flag, path in it, type, help.
SETTINGS: tuple[tuple[str, str, type, str], ...] = (
    *LEVEL_SETTINGS,
    ("--model", "model", str, "family of models: fock (default), coefficient or qpt"),
    ("--loss", "loss", str, "energy (default) or hamiltonian: learn from --labels, no sampling"),
    ("--temperature", "sampling.temperature_K", float, "of the sampled geometries in K"),
    ("--dynamics", "sampling.dynamics", str, "overdamped, metropolis or langevin"),
    ("--walkers", "sampling.walkers", int, "walkers that sample at the same time"),
    ("--data-fraction", "data_fraction", float, "share of the given frames that is used"),
    ("--frames-share", "frames_share", float, "share of given frames in a batch, 0 to 1"),
    ("--steps", "steps", int, "training steps at most"),
    ("--minutes", "minutes", float, "wall-clock limit in minutes"),
    ("--target-error", "target_error_uEh", float, "stop at this certified error, microhartree"),
    ("--batch-size", "optimiser.batch_size", int, "geometries a training step"),
    ("--learning-rate", "optimiser.learning_rate", float, "highest learning rate"),
    ("--validation-frames", "validation_frames", int, "frames held out, the last ones given"),
    ("--memory-gb", "memory_gb", float, "of integrals kept with the geometries"),
    ("--engine", "engine.name", str, "local (default), sync or ray: where sampling runs"),
    ("--samplers", "engine.samplers", int, "samplers, which share the walkers"),
    ("--max-restarts", "engine.max_restarts", int, "of workers that died (default 5)"),
    ("--device", "device", str, "cpu, cuda or cuda:N"),
    ("--trainer-device", "device", str, "the same; samplers may have others"),
    ("--threads", "threads", int, "of the trainer (default: the cores that samplers leave)"),
    ("--seed", "seed", int, "of everything random"),
)


def configuration(options: argparse.Namespace) -> TrainingConfig:
    """YAML, then flags on top of it."""
    from dataclasses import replace

    from ase_srdft.common.devices import torch_device
    from ase_srdft.training.config import TrainingConfig, from_plain
    from ase_srdft.training.presets import merged, preset

    plain = preset(options.preset) if options.preset else {}
    if options.config:
        plain = merged(plain, _read_yaml(options.config))
    given = {path: getattr(options, path) for _, path, _, _ in SETTINGS}
    given |= level_values(options)
    given["model_config.guess"] = options.guess
    given["self_refine"] = False if options.no_self_refine else None
    given["sampling.allow_reactions"] = True if options.allow_reactions else None
    given["engine.sampler_devices"] = options.sampler_device
    for path, value in given.items():
        if value is not None:
            _set(plain, path, value)
    _suit_family(plain, options.guess)
    if plain.get("loss") == "hamiltonian":
        plain.setdefault("self_refine", False)  # sampled geometries have no labels
    config = from_plain(TrainingConfig, plain)
    torch_device(config.device)
    if "threads" in plain:
        return config
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun
    cores = len(os.sched_getaffinity(0)) // ranks_here
    return replace(config, threads=max(1, cores - config.sampler_cores))


def _suit_family(plain: dict[str, Any], guess: str | None) -> None:
    """Refuse a guess that the family has no use for; its own learning rate if none is given."""
    from dataclasses import fields

    from ase_srdft.common.errors import BadInput
    from ase_srdft.models.electronic_state import family
    from ase_srdft.training.config import TrainingConfig

    name = plain.get("model", TrainingConfig.model)
    cls = family(name)
    if guess is not None and "guess" not in {field.name for field in fields(cls.Config)}:
        raise BadInput(
            f"--guess {guess}: models of the family {name!r} start from no Fock matrix; leave it "
            "out, or use --model fock or qpt"
        )
    optimiser = plain.setdefault("optimiser", {})
    if isinstance(optimiser, dict):
        optimiser.setdefault("learning_rate", cls.learning_rate)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    from ase_srdft.common.errors import BadInput

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


def dataset(options: argparse.Namespace, config: TrainingConfig) -> Dataset:
    """The structures and frames of the command line.

    Raises:
        BadInput: nothing to train on, or files that cannot be used.
    """
    from ase_srdft.common.errors import BadInput
    from ase_srdft.reference.label_file import read_labels
    from ase_srdft.training.dataset import Dataset

    if options.labels is None and config.loss == "hamiltonian":
        raise BadInput("--loss hamiltonian learns from --labels FILE: make it with ase-srdft-label")
    labels = None if options.labels is None else read_labels(options.labels)
    if not options.structures and not options.data and labels is None:
        raise BadInput("nothing to train on: give a structure file, or frames with --data")
    if not config.self_refine and not options.data and config.loss == "energy":
        raise BadInput("--no-self-refine without --data leaves nothing to train on: give frames")
    frames = _read(options.data, config.level.charge)
    if options.data and len(frames) < 2:
        raise BadInput(f"{len(frames)} frame in --data: give at least 2, one is held out")
    return Dataset.of(_read(options.structures, config.level.charge), frames, labels)


def _read(paths: Sequence[str], charge: int) -> list[Atoms]:
    """The structures of all files, whose charges and spins must be those of the run."""
    from ase_srdft.common.structures import read_frames

    structures = []
    for path in paths:
        frames = read_frames(path)
        check_charge(frames, path, charge)
        structures += frames
    return structures
