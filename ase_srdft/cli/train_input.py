"""What ``ase-srdft-train`` is given: options and YAML to settings, files to structures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase_srdft.cli.frames import frame_nuclei, read_structures
from ase_srdft.cli.level_input import CHARGE_OF_STRUCTURES, LEVEL_FLAGS
from ase_srdft.cli.setting_flags import add_flags, given_settings
from ase_srdft.common.errors import BadInput
from ase_srdft.common.settings import Setting, convert_all, from_plain, settings_of
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.training.config import TrainingConfig

if TYPE_CHECKING:
    from ase_srdft.cli.common import Parser
    from ase_srdft.common.nuclei import Nuclei
    from ase_srdft.training.data.dataset import Dataset

__all__ = ["add_training_settings", "configuration", "dataset"]

#: What the short help shows: title of a group, path in it, flags (none: the dotted one).  The
#: group without a title is for flags that it does not show.
_COMMON: dict[str, dict[str, tuple[str, ...]]] = {
    "level of theory": LEVEL_FLAGS | {"levels": ("--level",)},
    "model": {"model": (), "loss": ()},
    "sampling": {
        "self_refine": (),
        "sampling.temperature_K": ("--temperature",),
        "sampling.dynamics": ("--dynamics",),
        "sampling.walkers": ("--walkers",),
    },
    "training": {
        "steps": (),
        "minutes": (),
        "target_error_uEh": ("--target-error",),
        "target_worst_error_uEh": ("--target-worst-error",),
        "optimiser.batch_size": ("--batch-size",),
        "optimiser.learning_rate": ("--learning-rate",),
        "data_fraction": (),
        "seed": (),
    },
    "machine": {
        "device": ("--device", "--trainer-device"),
        "threads": (),
        "engine.name": ("--engine",),
        "engine.samplers": ("--samplers",),
        "engine.sampler_devices": ("--sampler-device",),
    },
    "": {
        "sampling.allow_reactions": ("--allow-reactions",),
        "engine.max_restarts": ("--max-restarts",),
    },
}
_OF_SOURCE = "{}, or what --start-from or --labels has"
#: What ``--level`` says.
_NAMED = ("xc", "basis")
#: Defaults that `configuration` finds where nothing is given.
_DECIDED = {
    "level.xc": _OF_SOURCE.format(LevelOfTheory.xc),
    "level.basis": _OF_SOURCE.format(LevelOfTheory.basis),
    "level.density_fitting": _OF_SOURCE.format("on"),
    "level.charge": f"{CHARGE_OF_STRUCTURES}; 0 for families tied to a level",
    "optimiser.learning_rate": "that of the model's family; of weights to start from an eighth",
    "self_refine": "on; off with the loss hamiltonian",
    "threads": "the cores that samplers leave",
}


def add_training_settings(parser: Parser, everything: bool) -> None:
    """Flags for every setting of a run; the help shows the common ones, or all."""
    add_flags(parser, _settings(), _COMMON, _DECIDED, everything)


def _settings() -> list[Setting]:
    return list(settings_of(TrainingConfig()))


def configuration(options: argparse.Namespace) -> TrainingConfig:
    """A preset, YAML on top of it, and flags on top of both.

    Raises:
        BadInput: a file that cannot be used, or settings that are unknown or impossible.
    """
    from ase_srdft.cli.settings_file import read_settings
    from ase_srdft.common.devices import torch_device
    from ase_srdft.training.presets import overlaid, preset

    plain = preset(options.preset) if options.preset else {}
    if options.config:
        plain = overlaid(plain, read_settings(options.config))
    given = given_settings(options, _settings())
    if options.guess is not None:
        given["model_config.guess"] = options.guess
    for path, value in given.items():
        _set(plain, path, value)
    _suit_family(plain, options.guess)
    if plain.get("loss") == "hamiltonian":
        plain.setdefault("self_refine", False)  # sampled geometries have no labels
    config = from_plain(TrainingConfig, plain)
    _check_levels(config, plain, given)
    level = _level(config, options.labels)
    if level is not None:  # what is said of it wins
        said = {name: getattr(config.level, name) for name in plain.get("level", {})}
        config = replace(config, level=replace(level, **said))
    torch_device(config.device)
    if "threads" in plain:
        return config
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun
    cores = len(os.sched_getaffinity(0)) // ranks_here
    return replace(config, threads=max(1, cores - config.sampler_cores))


def _check_levels(config: TrainingConfig, plain: dict[str, Any], given: dict[str, Any]) -> None:
    """One level of theory or several, not both.

    Raises:
        BadInput: a functional or a basis beside ``levels``, other than the first of these.
    """
    if not config.levels:
        return
    said = {name: value for name, value in plain.get("level", {}).items() if name in _NAMED}
    own, first, default = LevelOfTheory(**said), config.all_levels[0], LevelOfTheory()
    for name in said:
        value = getattr(own, name)
        by_flag = f"level.{name}" in given
        # a flag wins over what a file says, and a file may have the default written out
        of_no_account = "levels" in given or value == getattr(default, name)
        if value != getattr(first, name) and (by_flag or not of_no_account):
            raise BadInput(
                f"{name} {value} beside the levels of theory {', '.join(config.levels)}: give "
                "either --level, with all of them, or --xc and --basis"
            )


def _suit_family(plain: dict[str, Any], guess: str | None) -> None:
    """Settings of the family by their types.

    Raises:
        BadInput: an unknown family, or settings or a guess that it has no use for.
    """
    from ase_srdft.models.electronic_state import family

    name = plain.get("model", TrainingConfig.model)
    if not isinstance(name, str):
        return  # which the configuration refuses
    cls = family(name)
    if guess is not None and "guess" not in {field.name for field in fields(cls.Config)}:
        raise BadInput(
            f"--guess {guess}: models of the family {name!r} start from no Fock matrix; leave it "
            "out, or use --model potential, fock or qpt"
        )
    if isinstance(plain.get("model_config"), dict):
        plain["model_config"] = convert_all(cls.Config, plain["model_config"], "model_config")


def _level(config: TrainingConfig, labels: Path | None) -> LevelOfTheory | None:
    """The level of theory of the labels, or of the weights to start from; None without either.

    Raises:
        BadInput: a file that cannot be used.
    """
    from ase_srdft.models.model_file import load_model
    from ase_srdft.models.shipped_models import model_path
    from ase_srdft.reference.label_file import read_origin

    if labels is not None:
        return read_origin(labels).level
    if config.start_from is None or config.levels:
        return None
    model = load_model(model_path(Path(config.start_from).expanduser())).model
    own = config.level
    charge = own.charge if model.level_free else model.level.charge
    return replace(model.level, grid_level=own.grid_level, charge=charge)


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
    from ase_srdft.reference.label_file import read_labels
    from ase_srdft.training.data.dataset import Dataset

    if options.labels is None and config.loss == "hamiltonian":
        raise BadInput("--loss hamiltonian learns from --labels FILE: make it with ase-srdft-label")
    labels = None if options.labels is None else read_labels(options.labels)
    if not options.structures and not options.data and labels is None:
        raise BadInput("nothing to train on: give a structure file, or frames with --data")
    if not config.self_refine and not options.data and config.loss == "energy":
        raise BadInput("--no-self-refine without --data leaves nothing to train on: give frames")
    charge = _charge_of_all(config)
    frames = _read(options.data, charge)
    if options.data and len(frames) < 2:
        raise BadInput(f"{len(frames)} frame in --data: give at least 2, one is held out")
    structures = _read(options.structures, charge, config.conformers)
    return Dataset.of(structures, frames, labels)


def _charge_of_all(config: TrainingConfig) -> int | None:
    """The charge that no structure may contradict; None where each may have its own."""
    from ase_srdft.models.electronic_state import family

    charge = config.level.charge
    return None if charge == 0 and family(config.model).level_free else charge


def _read(sources: Sequence[str], charge: int | None, conformers: int = 1) -> list[Nuclei]:
    """The structures of all files and names; charges and spins must not contradict the run's."""
    return [
        nuclei
        for source in sources
        for nuclei in frame_nuclei(read_structures(source, conformers=conformers), source, charge)
    ]
