"""Checkpoints: everything a run needs to go on, in one safetensors file, no pickle.

The last good checkpoint is kept as ``checkpoint.previous.safetensors`` until the new one has been
read back.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ase_srdft.errors import BadInput, DamagedFile
from ase_srdft.files import replace_atomically
from ase_srdft.training.trainer import Counters, Trainer

__all__ = ["CHECKPOINT", "load_checkpoint", "run_identity", "save_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"
_PREVIOUS = "checkpoint.previous.safetensors"
_FORMAT = "ase_srdft checkpoint 1"
#: Settings that may differ when a run goes on: its limits and how it uses the machine.
_MAY_CHANGE = ("steps", "minutes", "target_error_uEh", "threads", "device", "memory_gb")


def run_identity(trainer: Trainer) -> dict[str, Any]:
    """What must be the same for a run to go on: settings and data."""
    settings = trainer.config.to_plain()
    for name in _MAY_CHANGE:
        settings.pop(name)
    identity = {"settings": settings, "data": trainer.dataset.fingerprint}
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def save_checkpoint(directory: Path, trainer: Trainer) -> None:
    """Write the checkpoint of a trainer between two steps, and verify it."""
    tensors = _weights(trainer) | _optimiser_tensors(trainer) | _geometries(trainer)
    tensors |= {name: torch.as_tensor(a) for name, a in trainer.sampler.to_arrays().items()}
    record = {
        "identity": run_identity(trainer),
        "step": trainer.learner.step,
        "counters": trainer.counters_to_plain(),
        "batch_rng": trainer.batch_rng.bit_generator.state,
        "sampler_rng": trainer.sampler_rng.bit_generator.state,
        "pass_left": trainer.source.pass_left,
        "carried": trainer.source.carried,
        "sample_molecules": _molecules(trainer, list(trainer.source.samples), trainer.store),
        "validation_molecules": _molecules(trainer, trainer.validation, trainer.validation_store),
    }
    path = directory / CHECKPOINT
    if path.exists():
        path.replace(directory / _PREVIOUS)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record)
    metadata = {"format": _FORMAT, "record": text, "sha256": _digest(text, contiguous)}
    replace_atomically(path, lambda beside: save_file(contiguous, beside, metadata))
    _read(path)
    (directory / _PREVIOUS).unlink(missing_ok=True)


def load_checkpoint(directory: Path, trainer: Trainer) -> bool:
    """Put a fresh trainer where the checkpoint of a directory left off.

    Returns:
        Whether there was a checkpoint.

    Raises:
        DamagedFile: neither checkpoint can be read.
        BadInput: it belongs to other settings or other data.
    """
    present = [path for name in (CHECKPOINT, _PREVIOUS) if (path := directory / name).exists()]
    if not present:
        return False
    tensors, record = _read_first(present)
    _check_identity(directory, record["identity"], run_identity(trainer))
    learner = trainer.learner
    learner.model.load_state_dict(_under("model.", tensors))
    learner.averaged.load_state_dict(_under("averaged.", tensors))
    trainer.best = _under("best.", tensors)
    _restore_optimiser(trainer, _under("optimiser.", tensors))
    learner.step = record["step"]
    trainer.counters = Counters(**record["counters"])
    trainer.batch_rng.bit_generator.state = record["batch_rng"]
    trainer.sampler_rng.bit_generator.state = record["sampler_rng"]
    trainer.source.pass_left = record["pass_left"]
    trainer.source.carried = record["carried"]
    for index, molecule in enumerate(record["sample_molecules"]):
        trainer.source.add_sample(molecule, tensors[f"samples.{index}"].numpy(), None)
    for key in trainer.validation:
        trainer.validation_store.remove(key)
    trainer.validation = [
        trainer.validation_store.add(molecule, tensors[f"validation.{index}"].numpy())
        for index, molecule in enumerate(record["validation_molecules"])
    ]
    walkers = {n: t.numpy() for n, t in tensors.items() if n.startswith("walkers.")}
    trainer.sampler.from_arrays(walkers)
    return True


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    learner = trainer.learner
    states = {
        "model.": learner.model.state_dict(),
        "averaged.": learner.averaged.state_dict(),
        "best.": trainer.best,
    }
    return {prefix + name: t for prefix, state in states.items() for name, t in state.items()}


def _optimiser_tensors(trainer: Trainer) -> dict[str, Tensor]:
    state = trainer.learner.optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def _restore_optimiser(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    optimiser = trainer.learner.optimiser
    full = optimiser.state_dict()
    full["state"] = {}
    for name, tensor in tensors.items():
        index, entry = name.split(".", 1)
        full["state"].setdefault(int(index), {})[entry] = tensor
    optimiser.load_state_dict(full)


def _geometries(trainer: Trainer) -> dict[str, Tensor]:
    named = {}
    for prefix, keys, store in (
        ("samples", list(trainer.source.samples), trainer.store),
        ("validation", trainer.validation, trainer.validation_store),
    ):
        for index, key in enumerate(keys):
            named[f"{prefix}.{index}"] = torch.as_tensor(np.array(store.positions_of(key)))
    return named


def _molecules(trainer: Trainer, keys: list[int], store: Any) -> list[int]:
    return [store.molecule_of(key) for key in keys]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}, not {_FORMAT!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("sha256") != _digest(metadata["record"], tensors):
        raise ValueError("its checksum does not match its content")
    return tensors, json.loads(metadata["record"])


def _digest(record: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read_first(paths: list[Path]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    reasons = []
    for path in paths:
        try:
            return _read(path)
        except (SafetensorError, OSError, ValueError, KeyError) as err:
            reasons.append(f"{path} ({str(err).splitlines()[0]})")
    raise DamagedFile(
        f"damaged checkpoint: {'; '.join(reasons)}: restore it, or train in another directory"
    )


def _check_identity(directory: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    if old["data"] != new["data"]:
        raise BadInput(
            f"{directory} holds a run on other structures or frames: choose another directory"
        )
    was, now = _flat(old["settings"]), _flat(new["settings"])
    differing = [
        f"{name} was {was.get(name)!r} and is {now.get(name)!r}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    if differing:
        raise BadInput(
            f"{directory} holds a run with other settings ({'; '.join(differing)}): use the same "
            "or choose another directory"
        )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat |= {f"{prefix}{name}": value} if inner is None else inner
    return flat
