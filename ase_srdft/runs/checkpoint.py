"""Checkpoints: everything a run needs to go on, in one HDF5 file that any HDF5 reader opens.

``weights/`` (the network, its exponential average, the best validated, those to turn back to),
``optimiser/``, ``buffer/`` and ``validation/`` (geometries in Bohr), ``samplers/`` (walkers), and
in ``record`` as JSON the counters, the states of all random generators and whose run it is.  No
pickle.  A checksum stands before it all.  The file appears as a whole; the last good one is kept
as ``checkpoint.previous.h5`` until the new one has been read back.

One is made when a run begins and when it ends or is asked to stop (`RunDirectory`); in between
every ``train_steps_per_round`` steps, before the weights go to samplers, but so seldom that it
takes 2 % of the time at most (`Checkpoints.save_if_due`).
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ase_srdft.common.atomic_files import destination, write_atomically
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.trainer import Trainer

__all__ = ["CHECKPOINT", "Checkpoints", "load_checkpoint", "run_identity", "save_checkpoint"]

CHECKPOINT = "checkpoint.h5"
_FORMAT = "ase_srdft checkpoint 2"
#: Bytes before the HDF5 part; a size that HDF5 allows.
_HEAD = 512
#: Settings that may differ when a run goes on: its limits, how it uses the machine, words, and what
#: its data tell of.
_MAY_CHANGE = (
    *("steps", "minutes", "target_error_uEh", "target_worst_error_uEh"),
    *("threads", "device", "memory_gb", "engine", "scope", "conformers"),
)
#: Share of the time that checkpoints may take.
_SHARE_OF_TIME = 0.02

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


class Checkpoints:
    """Makes the checkpoints of one run, and knows which step is in the last.

    :meth:`save_if_due` is the ``may_publish`` of a trainer: samplers in other processes are given
    only weights that are in a checkpoint, so that no version of them that made a sample can be
    lost.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._saved_step, self._next_time = -1, 0.0

    def save(self, trainer: Trainer) -> None:
        """Make everything durable.

        Raises:
            OSError: it cannot be written; the last one is still there.
        """
        started = time.monotonic()
        save_checkpoint(self.directory, trainer)
        ended, self._saved_step = time.monotonic(), trainer.updater.step
        self._next_time = ended + (ended - started) / _SHARE_OF_TIME

    def save_if_due(self, trainer: Trainer) -> bool:
        """Make a checkpoint if it is not too soon after the last; whether this step is in one.

        Raises:
            OSError: it cannot be written; the last one is still there.
        """
        if self._saved_step != trainer.updater.step and time.monotonic() >= self._next_time:
            self.save(trainer)
        return self._saved_step == trainer.updater.step


def save_checkpoint(directory: Path, trainer: Trainer) -> None:
    """Write the checkpoint of a trainer between two events of its run, and verify it.

    Raises:
        OSError: it cannot be written; the last one is still there.
    """
    record = {"identity": run_identity(trainer), **trainer.to_plain()}
    content = _to_bytes(trainer.to_arrays(), json.dumps(record))
    path, previous = _paths(directory)
    if path.is_file():
        path.replace(previous)
    write_atomically(path, content)
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
    identity = record["identity"]
    trainer.updater.keep_rate(identity["settings"]["optimiser"]["learning_rate"])
    _check_identity(directory, identity, run_identity(trainer))
    trainer.from_arrays(arrays, record)
    return True


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
    # a run begun before there was a setting has had its default
    defaults = _flat(TrainingConfig().to_plain())
    was, now = (defaults | _flat(identity["settings"]) for identity in (old, new))
    if now["levels"]:  # which say it; up to 0.2.0 the one level could be another
        for name in ("level.xc", "level.basis"):
            was[name] = now[name]
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
    if old["data"] != new["data"]:
        raise BadInput(
            f"{directory} holds a run on other structures or frames: choose another directory"
        )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat |= {f"{prefix}{name}": value} if inner is None else inner
    return flat
