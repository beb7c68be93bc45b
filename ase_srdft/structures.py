"""Reading geometries with ASE, checking them, and telling who is bonded to whom.

Angstrom throughout: this is the side of ASE.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.io import read
from jaxtyping import Bool, Float, Integer
from numpy.lib.npyio import NpzFile

from ase_srdft.errors import BadInput

__all__ = [
    "bond_matrix",
    "bonds",
    "check_structure",
    "read_frames",
    "read_structures",
    "same_connectivity",
    "too_close",
]

_CLOSEST_ANGSTROM = 0.3
#: Atoms are bonded up to this multiple of the sum of their covalent radii.
_BOND_FACTOR = 1.3
_NUMBER_KEYS = ("nuclear_charges", "z")
_POSITION_KEYS = ("coords", "R")


def read_structures(paths: Iterable[str | Path]) -> list[Atoms]:
    """All structures of all files, in order; see `read_frames`."""
    return [atoms for path in paths for atoms in read_frames(path)]


def read_frames(path: str | Path, limit: int | None = None) -> list[Atoms]:
    """The structures of one file: any format of ASE, or an MD17 archive.

    An ``.npz`` is read as MD17 and rMD17 are laid out: ``nuclear_charges`` or ``z`` (natoms,) and
    ``coords`` or ``R`` (nframes, natoms, 3) in Angstrom.  Energies and forces in it are left
    aside: they belong to another level of theory.

    Args:
        path: the file.
        limit: read at most this many frames, from the first on.

    Raises:
        BadInput: the file is missing, cannot be read or holds nothing, or a structure in it does
            not pass `check_structure`.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise BadInput(f"a limit of {limit} frames for {path}; ask for at least one")
    if not path.is_file():
        raise BadInput(f"there is no file {path}; give the path of a structure file")
    frames = _read_md17(path, limit) if path.suffix == ".npz" else _read_with_ase(path, limit)
    if not frames:
        raise BadInput(f"{path} holds no structure; give a file with at least one")
    for index, atoms in enumerate(frames):
        check_structure(atoms, f"frame {index} of {path}")
    return frames


def check_structure(atoms: Atoms, what: str) -> None:
    """Refuse what is not a molecule in vacuum.

    Args:
        atoms: the structure.
        what: how to call it in the message.

    Raises:
        BadInput: no atoms, an atom that is no element, periodic boundary conditions, positions
            that are not finite, or two atoms closer than 0.3 Angstrom.
    """
    if len(atoms) == 0:
        raise BadInput(f"{what} has no atoms; give a structure with at least one")
    unknown = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers >= len(chemical_symbols)))
    if len(unknown):
        raise BadInput(
            f"{what}: atom {unknown[0]} has the atomic number {atoms.numbers[unknown[0]]}, "
            "which is no element; remove dummy atoms"
        )
    if atoms.pbc.any():
        raise BadInput(
            f"{what} is periodic (pbc = {atoms.pbc.tolist()}), and only molecules in vacuum are "
            "supported; set atoms.pbc = False if the cell is just a box"
        )
    broken = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(broken):
        raise BadInput(
            f"{what}: atom {_name(atoms, broken[0])} is at {atoms.positions[broken[0]].tolist()}; "
            "every coordinate must be a finite number of Angstrom"
        )
    _check_distances(atoms, what)


def bonds(
    numbers: Integer[np.ndarray, " natoms"], positions_angstrom: Float[np.ndarray, "natoms 3"]
) -> set[tuple[int, int]]:
    """The pairs (i, j), i < j, closer than 1.3 times the sum of their covalent radii.

    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> sorted(bonds(water.numbers, water.positions))
    [(0, 1), (0, 2)]
    """
    bonded = np.triu(bond_matrix(numbers, positions_angstrom))
    return {(int(first), int(second)) for first, second in np.argwhere(bonded)}


def same_connectivity(
    numbers: Integer[np.ndarray, " natoms"],
    reference_angstrom: Float[np.ndarray, "natoms 3"],
    positions_angstrom: Float[np.ndarray, "nwalkers natoms 3"],
) -> Bool[np.ndarray, " nwalkers"]:
    """Which walkers have exactly the bonds of the reference.

    A walker with a position that is not finite has not.
    """
    finite = np.isfinite(positions_angstrom).all(axis=(1, 2))
    expected = bond_matrix(numbers, reference_angstrom)
    found = bond_matrix(numbers, np.where(finite[:, None, None], positions_angstrom, 0.0))
    same: np.ndarray = finite & (found == expected).all(axis=(1, 2))
    return same


def bond_matrix(
    numbers: Integer[np.ndarray, " natoms"],
    positions_angstrom: Float[np.ndarray, "*batch natoms 3"],
) -> Bool[np.ndarray, "*batch natoms natoms"]:
    """True for each bonded pair (see `bonds`); symmetric, false on the diagonal."""
    radii = covalent_radii[numbers]
    reach = _BOND_FACTOR * (radii[:, None] + radii)
    np.fill_diagonal(reach, 0.0)
    vectors = positions_angstrom[..., :, None, :] - positions_angstrom[..., None, :, :]
    bonded: np.ndarray = (vectors**2).sum(axis=-1) < reach**2
    return bonded


def _check_distances(atoms: Atoms, what: str) -> None:
    first, second = np.triu_indices(len(atoms), 1)
    distances = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1)
    if distances.min(initial=np.inf) >= _CLOSEST_ANGSTROM:
        return
    pair = distances.argmin()
    raise BadInput(
        f"{what}: atoms {_name(atoms, first[pair])} and {_name(atoms, second[pair])} are "
        f"{distances[pair]:.3f} Angstrom apart, closer than {_CLOSEST_ANGSTROM} Angstrom; "
        "check the units (Angstrom) and the atoms' order"
    )


def _name(atoms: Atoms, index: np.integer) -> str:
    return f"{index} ({chemical_symbols[atoms.numbers[index]]})"


def _read_with_ase(path: Path, limit: int | None) -> list[Atoms]:
    try:
        return list(islice(read(path, index=slice(None, limit)), limit))
    except Exception as err:  # ASE's readers raise whatever their parsing stumbles over
        raise BadInput(
            f"ASE cannot read {path} ({type(err).__name__}: {' '.join(str(err).split())}); "
            "give a structure file in one of ASE's formats, or an MD17 .npz"
        ) from err


def _read_md17(path: Path, limit: int | None) -> list[Atoms]:
    try:
        # numpy itself would leave a file open that turns out to be no archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("it is a single array")
            numbers = _array(archive, path, _NUMBER_KEYS)
            positions = _array(archive, path, _POSITION_KEYS)
    except BadInput:
        raise
    except (BadZipFile, EOFError, OSError, ValueError, zlib.error) as err:
        raise BadInput(
            f"{path} is no readable .npz archive ({err}); download it again, or write it with "
            "numpy.savez"
        ) from err
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise BadInput(
            f"{path}: the atomic numbers are {numbers.dtype} of shape {numbers.shape}; "
            "they must be integers (natoms,)"
        )
    if positions.ndim == 2:
        positions = positions[None]
    if positions.shape[1:] != (len(numbers), 3) or not np.issubdtype(positions.dtype, np.floating):
        raise BadInput(
            f"{path}: the positions are {positions.dtype} of shape {positions.shape}; they must "
            f"be floating-point numbers (nframes, {len(numbers)}, 3), in Angstrom"
        )
    return [Atoms(numbers=numbers, positions=frame) for frame in positions[:limit]]


def _array(archive: NpzFile, path: Path, keys: tuple[str, ...]) -> np.ndarray:
    """The first of ``keys`` that the archive has."""
    key = next((key for key in keys if key in archive), None)
    if key is None:
        raise BadInput(
            f"{path} has none of the arrays {', '.join(keys)}, only {', '.join(archive.files)}; "
            "give an archive laid out like rMD17"
        )
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


def too_close(
    numbers: Integer[np.ndarray, " natoms"],
    positions_angstrom: Float[np.ndarray, "nwalkers natoms 3"],
) -> Bool[np.ndarray, " nwalkers"]:
    """Which walkers are not finite or have two atoms within half their covalent distance."""
    finite = np.isfinite(positions_angstrom).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], positions_angstrom, 0.0)
    radii = covalent_radii[numbers]
    first, second = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(safe[:, first] - safe[:, second], axis=-1)
    clash: np.ndarray = (distances < 0.5 * (radii[first] + radii[second])).any(axis=1)
    hopeless: np.ndarray = ~finite | clash
    return hopeless
