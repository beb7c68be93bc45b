"""Labels: converged Kohn-Sham states of given geometries, in one HDF5 file.

One group for each molecule (atoms in this order), named by its formula, with one row for each
frame in ``frame`` (its place among the frames that were to be labelled, from 0), ``positions``,
``energy``, ``fock``, ``mo_energy``, ``seconds`` and, if they were asked for, ``forces``; every
dataset has an attribute ``unit``.  ``failed/frame`` and ``failed/reason`` tell which frames have no
label.  The attributes of the file say what it is, at which level of theory, and of which frames.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from ase_srdft.common.elements import hill_formula
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.version import __version__

__all__ = [
    "Failure",
    "Label",
    "LabelOrigin",
    "Labels",
    "frames_fingerprint",
    "read_labels",
    "read_origin",
    "write_labels",
]

_FORMAT = "ase_srdft labels 1"
_UNITS = {
    "frame": "1",
    "positions": "Bohr",
    "energy": "Hartree",
    "forces": "Hartree/Bohr",
    "fock": "Hartree",
    "mo_energy": "Hartree",
    "seconds": "s",
}
#: Numbers of a chunk, about: a matrix by itself, and many energies together.
_CHUNK = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Label:
    """The converged state of one frame.

    Attributes:
        frame: its place among the frames that were to be labelled.
        numbers: atomic numbers.
        positions: nuclei (Bohr).
        energy: (Hartree).
        fock: F[P], atomic-orbital basis (Hartree).
        mo_energy: (Hartree).
        forces: full derivative, with the response of the grid (Hartree/Bohr); None if not asked
            for.
        seconds: wall time that it took.
    """

    frame: int
    numbers: tuple[int, ...]
    positions: Float[np.ndarray, "natoms 3"]
    energy: float
    fock: Float[np.ndarray, "nao nao"]
    mo_energy: Float[np.ndarray, " nao"]
    forces: Float[np.ndarray, "natoms 3"] | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A frame that has no label.

    Attributes:
        frame: as in `Label`.
        reason: for the user.
    """

    frame: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class LabelOrigin:
    """What was to be labelled, and how: two files of the same origin hold the same.

    Attributes:
        level: level of theory.
        forces: whether there are forces.
        nframes: how many frames there are to label.
        fingerprint: of these frames (`frames_fingerprint`).
    """

    level: LevelOfTheory
    forces: bool
    nframes: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The content of a file of labels.

    Attributes:
        origin: what was to be labelled.
        labels: in the order of the frames.
        failures: likewise.
    """

    origin: LabelOrigin
    labels: tuple[Label, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every frame was tried, and once."""
        return self.frames == list(range(self.origin.nframes))

    @property
    def frames(self) -> list[int]:
        """The frames that were tried, ascending."""
        labelled = [label.frame for label in self.labels]
        return sorted(labelled + [failure.frame for failure in self.failures])

    def check_level(self, level: LevelOfTheory) -> None:
        """Make sure that the labels are of this level of theory.

        Raises:
            BadInput: naming both.
        """
        own = self.origin.level
        if (str(own), own.charge) != (str(level), level.charge):
            raise BadInput(
                f"the labels are of {own}, charge {own.charge}, and not of {level}, charge "
                f"{level.charge}: use the labels' level of theory, or make labels at this one"
            )

    def fock(
        self, numbers: tuple[int, ...], positions: Float[np.ndarray, "natoms 3"]
    ) -> Float[np.ndarray, "nao nao"]:
        """The label's Fock matrix (Hartree) at exactly these nuclei (Bohr).

        Raises:
            BadInput: there is none.
        """
        label = self._by_geometry.get(_key(numbers, positions))
        if label is None:
            raise BadInput(
                f"a geometry of {hill_formula(numbers)} has no label: train on the frames that "
                "were labelled, or label these with ase-srdft-label"
            )
        return label.fock

    @cached_property
    def _by_geometry(self) -> dict[bytes, Label]:
        return {_key(label.numbers, label.positions): label for label in self.labels}


def _key(numbers: Sequence[int], positions: np.ndarray) -> bytes:
    return np.asarray(numbers, np.int64).tobytes() + np.ascontiguousarray(positions).tobytes()


def frames_fingerprint(frames: Iterable[tuple[tuple[int, ...], np.ndarray]]) -> str:
    """Changes with any frame, given as atomic numbers and positions (Bohr)."""
    digest = hashlib.sha256()
    for numbers, positions in frames:
        digest.update(_key(numbers, positions))
    return digest.hexdigest()


def write_labels(path: Path, parts: Iterable[Labels]) -> None:
    """Write a file of labels, part by part, all of one origin.

    Args:
        path: written as it stands; to replace a file safely is the caller's part.
        parts: one at least, in the order of their frames; each is read when it is its turn.

    Raises:
        BadInput: no part at all, or parts of different origins.
        OSError: it cannot be written.
    """
    waiting = iter(parts)
    first = next(waiting, None)
    if first is None:
        raise BadInput(f"no labels to write to {path}: give one part at least")
    buffer = io.BytesIO()  # a full disk is then an error of writing, not of HDF5
    with h5py.File(buffer, "w") as file:
        _write_origin(file, first.origin)
        failures: list[Failure] = []
        for part in chain([first], waiting):
            if part.origin != first.origin:
                raise BadInput(
                    f"the parts of {path} are of different origins ({first.origin} and "
                    f"{part.origin}): write each to a file of its own"
                )
            failures += part.failures
            for numbers, run in groupby(part.labels, lambda label: label.numbers):
                _append(_group(file, numbers), list(run))
        file["failed/frame"] = np.array([failure.frame for failure in failures], dtype=np.int64)
        reasons = [failure.reason for failure in failures]
        file.create_dataset("failed/reason", data=reasons, dtype=h5py.string_dtype())
    path.write_bytes(buffer.getbuffer())


def _write_origin(file: h5py.File, origin: LabelOrigin) -> None:
    file.attrs["format"] = _FORMAT
    file.attrs["ase_srdft_version"] = __version__
    file.attrs["level_of_theory"] = json.dumps(origin.level.to_dict())
    file.attrs["forces"] = origin.forces
    file.attrs["nframes"] = origin.nframes
    file.attrs["frames_sha256"] = origin.fingerprint


def _group(file: h5py.File, numbers: tuple[int, ...]) -> h5py.Group:
    """The group of a molecule; another order of the atoms makes another molecule."""
    formula = hill_formula(numbers)
    count = 1
    while True:
        name = formula if count == 1 else f"{formula}_{count}"
        if name not in file:
            group = file.create_group(name)
            group["numbers"] = np.array(numbers, dtype=np.int64)
            return group
        if tuple(file[name]["numbers"][()].tolist()) == numbers:
            return file[name]
        count += 1


def _append(group: h5py.Group, labels: Sequence[Label]) -> None:
    """Rows at the end of every dataset; they are made with the first ones."""
    for name, unit in _UNITS.items():
        if getattr(labels[0], name) is None:
            continue
        rows = np.array([getattr(label, name) for label in labels])
        if name not in group:
            shape = rows.shape[1:]
            group.create_dataset(
                name,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(max(1, _CHUNK // int(np.prod(shape))), *shape),
                dtype=rows.dtype,
                compression="gzip",
                shuffle=True,
                fletcher32=True,
            ).attrs["unit"] = unit
        dataset = group[name]
        dataset.resize(len(dataset) + len(rows), axis=0)
        dataset[-len(rows) :] = rows


def read_labels(path: Path) -> Labels:
    """Read a file of labels.

    Raises:
        BadInput: there is no such file.
        DamagedFile: it is damaged, or no file of labels.
    """
    with _opened(path) as file:
        origin = _read_origin(file)
        labels = [label for name in file if name != "failed" for label in _labels(file[name])]
        failed = zip(file["failed/frame"][()], file["failed/reason"].asstr()[()], strict=True)
        failures = tuple(Failure(frame=int(frame), reason=str(why)) for frame, why in failed)
    ordered = tuple(sorted(labels, key=lambda label: label.frame))
    return Labels(origin=origin, labels=ordered, failures=failures)


def read_origin(path: Path) -> LabelOrigin:
    """What a file of labels is of, without reading the labels.

    Raises:
        BadInput: there is no such file.
        DamagedFile: it is damaged, or no file of labels.
    """
    with _opened(path) as file:
        return _read_origin(file)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A file of labels to read; what goes wrong with it is told as damage."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}: make labels with ase-srdft-label")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError) as err:
        reason = (str(err).splitlines() or [type(err).__name__])[0]
        raise DamagedFile(
            f"{path} is damaged or no file of labels ({reason}): make it again with ase-srdft-label"
        ) from err


def _read_origin(file: h5py.File) -> LabelOrigin:
    found = file.attrs.get("format")
    if found != _FORMAT:
        raise ValueError(f"its format is {found!r}, not {_FORMAT!r}")
    return LabelOrigin(
        level=LevelOfTheory(**json.loads(file.attrs["level_of_theory"])),
        forces=bool(file.attrs["forces"]),
        nframes=int(file.attrs["nframes"]),
        fingerprint=str(file.attrs["frames_sha256"]),
    )


def _labels(group: h5py.Group) -> list[Label]:
    columns: dict[str, Any] = {name: group[name][()] for name in _UNITS if name in group}
    forces = columns.get("forces", [None] * len(columns["frame"]))
    return [
        Label(
            frame=int(frame),
            numbers=tuple(group["numbers"][()].tolist()),
            positions=columns["positions"][row],
            energy=float(columns["energy"][row]),
            fock=columns["fock"][row],
            mo_energy=columns["mo_energy"][row],
            forces=forces[row],
            seconds=float(columns["seconds"][row]),
        )
        for row, frame in enumerate(columns["frame"])
    ]
