"""Reading geometries with ASE, checking them, and telling who is bonded to whom.

Angstrom throughout: this is the side of ASE.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Bool, Float, Integer

from ase_srdft.common.errors import BadInput
from ase_srdft.common.reading.archive import read_archive
from ase_srdft.common.reading.formats import read_with_ase

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


def read_structures(paths: Iterable[str | Path]) -> list[Atoms]:
    """All structures of all files, in order; see `read_frames`."""
    return [atoms for path in paths for atoms in read_frames(path)]


def read_frames(path: str | Path, limit: int | None = None) -> list[Atoms]:
    """All structures of one file: an MD17 archive, or a format of ASE that keeps nothing back.

    The file is the one that is named, whatever is in the name.  What ASE's readers would pass
    over in silence, such as the frames after a blank line of an xyz file, is an error.

    An ``.npz`` is read as MD17 and rMD17 are laid out: ``nuclear_charges`` or ``z`` (natoms,), or
    (nframes, natoms), and ``coords`` or ``R`` (nframes, natoms, 3) in Angstrom.  Energies and
    forces in it are left aside: they belong to another level of theory.

    Where the file names a unit of length (``r_unit`` or ``units`` in an archive, ``length_unit=``
    in the comment line of an xyz file), positions are converted from Bohr, nm or pm.  Charge and
    spin that it states are in ``info``, for `ase_srdft.common.charges.total_charge`.

    Args:
        path: the file.
        limit: return at most this many frames, from the first on.

    Raises:
        BadInput: the file is missing, cannot be read whole or holds nothing, or a structure in it
            does not pass `check_structure`.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise BadInput(f"a limit of {limit} frames for {path}; ask for at least one")
    if not path.is_file():
        raise BadInput(_no_file(path))
    is_archive = path.suffix.lower() == ".npz"
    frames = read_archive(path, limit) if is_archive else read_with_ase(path, limit)
    if not frames:
        raise BadInput(f"{path} holds no structure; give a file with at least one")
    for index, atoms in enumerate(frames):
        check_structure(atoms, f"frame {index} of {path}")
    return frames


def _no_file(path: Path) -> str:
    """Why a path is none that can be read."""
    if path.is_dir():
        return f"there is no file {path}, it is a directory; give the path of a structure file"
    if path.exists():
        return f"{path} is no file but a pipe or a device; write the structures to a file first"
    return f"there is no file {path}; give the path of a structure file"


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
