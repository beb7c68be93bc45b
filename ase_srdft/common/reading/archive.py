"""Archives of numpy, laid out as MD17, rMD17 and sGDML's data sets are."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from ase import Atoms
from numpy.lib.npyio import NpzFile

from ase_srdft.common.charges import is_stated
from ase_srdft.common.errors import BadInput
from ase_srdft.common.reading.lengths import angstrom_per_unit, length_keys

__all__ = ["read_archive"]

_NUMBER_KEYS = ("nuclear_charges", "z")
_POSITION_KEYS = ("coords", "R")
_CELL_KEYS = ("lattice", "cell")


def read_archive(path: Path, limit: int | None) -> list[Atoms]:
    """The structures of an ``.npz``; see `ase_srdft.common.structures.read_frames`.

    Raises:
        BadInput: no archive, or one that is laid out otherwise.
    """
    try:
        # numpy itself would leave a file open that turns out to be no archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("it is a single array")
            return _frames(archive, path, limit)
    except BadInput:
        raise
    except (BadZipFile, EOFError, OSError, ValueError, zlib.error) as err:
        raise BadInput(
            f"{path} is no readable .npz archive ({' '.join(str(err).split())}); download it "
            "again, or write it with numpy.savez"
        ) from err


def _frames(archive: NpzFile, path: Path, limit: int | None) -> list[Atoms]:
    numbers = _only(archive, path, _NUMBER_KEYS)
    positions = _only(archive, path, _POSITION_KEYS)
    if positions.ndim == 2:
        positions = positions[None]
    nframes, natoms = len(positions), numbers.shape[-1] if numbers.ndim else 0
    if numbers.shape not in ((natoms,), (nframes, natoms)) or numbers.dtype.kind not in "iu":
        raise BadInput(
            f"{path}: the atomic numbers are {numbers.dtype} of shape {numbers.shape}; they must "
            "be integers (natoms,), or (nframes, natoms)"
        )
    if positions.shape[1:] != (natoms, 3) or not np.issubdtype(positions.dtype, np.floating):
        raise BadInput(
            f"{path}: the positions are {positions.dtype} of shape {positions.shape}; they must "
            f"be floating-point numbers (nframes, {natoms}, 3), in Angstrom"
        )
    units = {key: _array(archive, path, key) for key in length_keys(archive)}
    angstrom = positions[:limit].astype(float) * angstrom_per_unit(units, str(path))
    every_number = np.broadcast_to(numbers.astype(int), (nframes, natoms))
    stated = {key: _array(archive, path, key) for key in archive.files if is_stated(key)}
    periodic = _is_periodic(archive, path)
    return [
        Atoms(
            numbers=every_number[index],
            positions=frame,
            pbc=periodic,
            info={key: _of_frame(value, index, nframes) for key, value in stated.items()},
        )
        for index, frame in enumerate(angstrom)
    ]


def _of_frame(value: np.ndarray, index: int, nframes: int) -> Any:
    """What is stated of one frame: by a number for all, or by one for each."""
    if value.size == 1:
        return value.reshape(()).item()
    return value[index].item() if value.shape in ((nframes,), (nframes, 1)) else value


def _is_periodic(archive: NpzFile, path: Path) -> bool:
    """Whether there is a cell, which ``pbc`` may say is only a box."""
    keys = ["pbc"] if "pbc" in archive else [key for key in _CELL_KEYS if key in archive]
    return any(bool(np.any(_array(archive, path, key))) for key in keys)


def _only(archive: NpzFile, path: Path, keys: tuple[str, ...]) -> np.ndarray:
    """The one of ``keys`` that the archive has.

    Raises:
        BadInput: it has none, or several that differ.
    """
    found = [key for key in keys if key in archive]
    if not found:
        raise BadInput(
            f"{path} has none of the arrays {', '.join(keys)}, only {', '.join(archive.files)}; "
            "give an archive laid out like rMD17"
        )
    arrays = [_array(archive, path, key) for key in found]
    if not all(np.array_equal(arrays[0], other) for other in arrays[1:]):
        raise BadInput(
            f"{path} has {' and '.join(found)}, which differ; keep the one that is right"
        )
    return arrays[0]


def _array(archive: NpzFile, path: Path, key: str) -> np.ndarray:
    try:
        array: np.ndarray = archive[key]
    except ValueError as err:
        if "pickle" not in str(err):
            raise
        raise BadInput(
            f"the array {key} of {path} is a pickled Python object, which is not read for safety; "
            "write it as a plain array of numbers"
        ) from err
    return array
