"""Checkpoints: everything a run needs to go on, in one HDF5 file that any HDF5 reader opens.

``weights/`` (the network, its exponential average, the best validated, those to turn back to),
``optimiser/``, ``buffer/`` and ``validation/`` (geometries in Bohr), ``samplers/`` (walkers), and
in ``record`` as JSON the counters, the states of all random generators and whose run it is.  No
pickle.  A checksum stands before it all.  The file appears as a whole; the last good one is kept
as ``checkpoint.previous.h5`` until the new one has been read back.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from ase_srdft.common.atomic_files import destination, replace_atomically
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, under
from ase_srdft.training.events import Counters
from ase_srdft.training.geometry_cache import GeometryCache
from ase_srdft.training.trainer import Trainer
from ase_srdft.training.validation import note_new_target
from ase_srdft.training.weight_updater import DivergenceGuard

__all__ = ["CHECKPOINT", "load_checkpoint", "run_identity", "save_checkpoint"]

CHECKPOINT = "checkpoint.h5"
_FORMAT = "ase_srdft checkpoint 2"
#: Bytes before the HDF5 part; a size that HDF5 allows.
_HEAD = 512
#: Settings that may differ when a run goes on: its limits and how it uses the machine.
_MAY_CHANGE = ("steps", "minutes", "target_error_uEh", "threads", "device", "memory_gb", "engine")

_Arrays = dict[str, np.ndarray]


def run_identity(trainer: Trainer) -> dict[str, Any]:
    """What must be the same for a run to go on: settings and data."""
    settings = trainer.config.to_plain()
    for name in _MAY_CHANGE:
        settings.pop(name)
    settings["engine"] = {"samplers": trainer.config.nsamplers}
    data = trainer.dataset.fingerprint
    nframes, nheld = len(trainer.dataset.frames), trainer.held_out.nframes
    if nheld != min(trainer.config.validation_frames, nframes // 2):
        data += f" {nheld} held out"  # others than the last ones as well
    identity = {"settings": settings, "data": data}
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def save_checkpoint(directory: Path, trainer: Trainer) -> None:
    """Write the checkpoint of a trainer between two events of its run, and verify it.

    Raises:
        OSError: it cannot be written; the last one is still there.
    """
    arrays = _weights(trainer) | _optimiser_arrays(trainer)
    arrays |= _geometries("buffer", trainer.buffer.samples, trainer.cache)
    arrays["buffer/bracket_width"] = np.asarray(trainer.buffer.widths)
    arrays |= _geometries("validation", trainer.held_out.keys, trainer.held_out.cache)
    for state in trainer.sampler_states:
        arrays |= {f"samplers/{state.sampler}/{n}": array for n, array in state.arrays.items()}
    record = {
        "identity": run_identity(trainer),
        "target_error_uEh": trainer.config.target_error_uEh,
        "step": trainer.updater.step,
        "pace": asdict(trainer.updater.guard),
        "counters": trainer.counters_to_plain(),
        "batch_rng": trainer.batch_rng.bit_generator.state,
        "sampler_rng": trainer.sampler_rng.bit_generator.state,
        "pass_left": trainer.buffer.pass_left,
        "carried": trainer.buffer.carried,
        "samplers": [state.record for state in trainer.sampler_states],
    }
    content = _to_bytes(arrays, json.dumps(record))
    path, previous = _paths(directory)
    if path.is_file():
        path.replace(previous)
    replace_atomically(path, lambda beside: _write(beside, content))
    if path.read_bytes() != content:
        raise OSError(f"{path} does not read as it was written")
    previous.unlink(missing_ok=True)


def _paths(directory: Path) -> tuple[Path, Path]:
    """Of the checkpoint, where it leads if it is a link, and of the one before, beside it."""
    path = destination(directory / CHECKPOINT)
    return path, path.with_name(f"{path.stem}.previous{path.suffix}")


def load_checkpoint(directory: Path, trainer: Trainer) -> bool:
    """Put a fresh trainer where the checkpoint of a directory left off.

    Returns:
        Whether there was a checkpoint.

    Raises:
        DamagedFile: neither checkpoint can be read.
        BadInput: it belongs to other settings or other data.
    """
    present = [path for path in _paths(directory) if path.exists()]
    if not present:
        return False
    arrays, record = _read_first(present)
    _check_identity(directory, record["identity"], run_identity(trainer))
    updater = trainer.updater
    updater.model.load_state_dict(_tensors("weights/model/", arrays))
    updater.averaged.load_state_dict(_tensors("weights/averaged/", arrays))
    trainer.best = _tensors("weights/best/", arrays)
    updater.rollback_weights = _tensors("weights/kept/", arrays)
    updater.guard = DivergenceGuard(**record["pace"])
    _restore_optimiser(trainer, _tensors("optimiser/", arrays))
    updater.step = record["step"]
    trainer.counters = _counters_of(record)
    target = trainer.config.target_error_uEh
    note_new_target(target, record.get("target_error_uEh"), trainer.counters)
    trainer.batch_rng.bit_generator.state = record["batch_rng"]
    trainer.sampler_rng.bit_generator.state = record["sampler_rng"]
    trainer.buffer.pass_left = record["pass_left"]
    trainer.buffer.carried = record["carried"]
    buffer = _geometries_of("buffer", arrays)
    for (molecule, positions), width in zip(buffer, arrays["buffer/bracket_width"], strict=True):
        trainer.buffer.add_sample(molecule, positions, None, float(width))
    trainer.held_out.restore(_geometries_of("validation", arrays))
    trainer.sampler_states = [
        SamplerCheckpoint(**plain, arrays=under(f"samplers/{plain['sampler']}/", arrays))
        for plain in record["samplers"]
    ]
    return True


def _counters_of(record: dict[str, Any]) -> Counters:
    """The counters; of an older version's some are not there."""
    counters = Counters(**record["counters"])
    if "validated_nsampled" not in record["counters"] and math.isfinite(counters.best_width):
        # then a sample that was held out made the best width void
        counters.validated_nsampled = counters.nheld_out
    return counters


def _weights(trainer: Trainer) -> _Arrays:
    updater = trainer.updater
    states = {
        "model": updater.model.state_dict(),
        "averaged": updater.averaged.state_dict(),
        "best": trainer.best,
        "kept": updater.rollback_weights,
    }
    return {
        f"weights/{which}/{name}": _array(tensor)
        for which, state in states.items()
        for name, tensor in state.items()
    }


def _optimiser_arrays(trainer: Trainer) -> _Arrays:
    state = trainer.updater.optimiser.state_dict()["state"]
    return {
        f"optimiser/{index}/{name}": _array(torch.as_tensor(value))
        for index, values in state.items()
        for name, value in values.items()
    }


def _restore_optimiser(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    optimiser = trainer.updater.optimiser
    full = optimiser.state_dict()
    full["state"] = {}
    for name, tensor in tensors.items():
        index, entry = name.split("/", 1)
        full["state"].setdefault(int(index), {})[entry] = tensor
    optimiser.load_state_dict(full)


def _geometries(group: str, keys: Sequence[int], cache: GeometryCache) -> _Arrays:
    """Geometries one after the other: molecule, number of atoms, positions of all atoms."""
    positions = [cache.positions_of(key) for key in keys]
    return {
        f"{group}/molecule": np.array([cache.molecule_of(key) for key in keys], dtype=np.int64),
        f"{group}/natoms": np.array([len(p) for p in positions], dtype=np.int64),
        f"{group}/positions": np.concatenate([np.zeros((0, 3)), *positions]),
    }


def _geometries_of(group: str, arrays: _Arrays) -> list[tuple[int, np.ndarray]]:
    ends = np.cumsum(arrays[f"{group}/natoms"])
    pieces = np.split(arrays[f"{group}/positions"], ends)[:-1]
    return [
        (int(molecule), piece)
        for molecule, piece in zip(arrays[f"{group}/molecule"], pieces, strict=True)
    ]


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _tensors(prefix: str, arrays: _Arrays) -> dict[str, Tensor]:
    return {name: torch.as_tensor(array) for name, array in under(prefix, arrays).items()}


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _to_bytes(arrays: _Arrays, record: str) -> bytes:
    """The file, made in memory: a full disk is then an error of writing, not of HDF5."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=_HEAD) as file:
        file["record"] = record
        for name, array in arrays.items():
            file[name] = array
    body = buffer.getvalue()[_HEAD:]
    return _head(body).ljust(_HEAD, b"\0") + body


def _head(body: bytes) -> bytes:
    """What stands before the HDF5 part, where HDF5 leaves room for it: format and checksum."""
    return f"{_FORMAT}\nsha256 {hashlib.sha256(body).hexdigest()}\n".encode()


def _read(path: Path) -> tuple[_Arrays, dict[str, Any]]:
    content = path.read_bytes()
    head, body = content[:_HEAD].rstrip(b"\0"), content[_HEAD:]
    if not head.startswith(f"{_FORMAT}\n".encode()):
        raise ValueError(f"it does not begin with {_FORMAT!r}")
    if head != _head(body) or len(content) < _HEAD:
        raise ValueError("its checksum does not match its content")
    arrays: _Arrays = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name != "record":
            arrays[name] = np.asarray(item[()])

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(visit)
        return arrays, json.loads(file["record"][()])


def _read_first(paths: list[Path]) -> tuple[_Arrays, dict[str, Any]]:
    reasons = []
    for path in paths:
        try:
            return _read(path)
        except (OSError, ValueError, KeyError) as err:
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
