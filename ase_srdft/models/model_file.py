"""Model files: safetensors with JSON metadata, no pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ase_srdft.common.atomic_files import replace_atomically
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.common.torch_state import seeded, single_precision, undisturbed
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.electronic_state import ElectronicStateModel, family

__all__ = [
    "FORMAT_VERSION",
    "LoadedModel",
    "build_model",
    "load_model",
    "model_checksum",
    "save_model",
]

FORMAT_VERSION = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model and what its file says of it.

    Attributes:
        model: ready to evaluate, double precision, on the CPU.
        training: the training record.
    """

    model: ElectronicStateModel
    training: dict[str, Any] = field(default_factory=dict)


def build_model(
    name: str, level: LevelOfTheory, elements: tuple[int, ...], config: dict[str, Any]
) -> ElectronicStateModel:
    """A fresh model of a family.

    Raises:
        BadInput: unknown family or configuration.
    """
    cls = family(name)
    try:
        settings = cls.Config(**config)
    except TypeError as err:
        raise BadInput(f"model {name!r}: {err}; see its configuration for the names") from None
    with single_precision():
        return cls(level, elements, settings)


def _digest(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    read_again = json.loads(json.dumps(header | {"sha256": ""}, allow_nan=False))
    digest = hashlib.sha256(json.dumps(read_again, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _single_precision_weights(model: ElectronicStateModel) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous().clone()
        for name, tensor in model.state_dict().items()
    }


def _description(model: ElectronicStateModel, level: LevelOfTheory) -> dict[str, Any]:
    return {
        "family": model.family,
        "level": level.to_dict(),
        "elements": list(model.elements),
        "config": asdict(model.config),
    }


@undisturbed
def model_checksum(model: ElectronicStateModel) -> str:
    """What tells two models apart: SHA-256 of the weights in single precision and what they are of.

    A model has it in common with its file read again, and at any level of theory it is asked at.
    """
    described = _description(model, model.default_level)
    if model.level_free:
        del described["level"]
    return _digest(described, _single_precision_weights(model))


@undisturbed
def save_model(path: str | Path, model: ElectronicStateModel, training: dict[str, Any]) -> None:
    """Write a model (weights in single precision), atomically.

    Args:
        path: usually ``*.srdft``.
        model: the model.
        training: plain values that tell how it was trained.

    Raises:
        BadInput: a path that cannot be written to, or a training record that JSON cannot hold.
    """
    path = Path(path).expanduser()
    if path.is_dir() or not path.parent.is_dir():
        raise BadInput(
            f"cannot write the model file {path}: "
            + ("it is a directory" if path.is_dir() else f"there is no directory {path.parent}")
            + "; give the name of a file in one that exists"
        )
    tensors = _single_precision_weights(model)
    header = _description(model, model.level) | {"training": training}
    try:
        header["sha256"] = _digest(header, tensors)
    except (TypeError, ValueError) as err:
        raise BadInput(
            f"the training record {training!r} cannot be kept in a file ({err}): use plain values"
        ) from err
    metadata = {
        "format": "ase_srdft model",
        "format_version": str(FORMAT_VERSION),
        "header": json.dumps(header, allow_nan=False),
    }
    replace_atomically(path, lambda beside: save_file(tensors, beside, metadata))


def save_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """As safetensors does, but made in memory: a full disk is then an `OSError`."""
    path.write_bytes(save(tensors, metadata))


@undisturbed
def load_model(path: Path) -> LoadedModel:
    """Read and verify a model file.

    Raises:
        BadInput: no such file.
        DamagedFile: not a model of ours, an unknown format version, or altered content.
    """
    if not path.is_file():
        raise BadInput(f"no model file {path}: train one with ase-srdft-train, or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as err:
        raise DamagedFile(
            f"{path} is no model file (.srdft), or damaged ({err}): give another, or restore it"
        ) from err
    if metadata.get("format") != "ase_srdft model":
        raise DamagedFile(f"{path} is a safetensors file, but no ase_srdft model")
    version = metadata.get("format_version")
    if version != str(FORMAT_VERSION):
        raise DamagedFile(
            f"{path} has format version {version}, this program reads {FORMAT_VERSION}: "
            "update ase_srdft or retrain"
        )
    try:
        header = json.loads(metadata["header"])
        if header["sha256"] != _digest(header, tensors):
            raise ValueError("its checksum does not match its content")
        level = LevelOfTheory(**header["level"])
        with seeded():  # its first weights are random, and of no use
            model = build_model(
                header["family"], level, tuple(header["elements"]), header["config"]
            )
        model.load_state_dict(tensors)
        training = header["training"]
    except (KeyError, ValueError, TypeError, RuntimeError) as err:
        reason = str(err).splitlines()[0]
        raise DamagedFile(f"{path} is damaged ({reason}): restore or retrain it") from err
    return LoadedModel(model=model.double().eval(), training=training)
