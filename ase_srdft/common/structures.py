"""Reading geometries from files with ASE: whole, checked, in Angstrom."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from ase_srdft.common.errors import BadInput
from ase_srdft.common.nuclei import check_structure
from ase_srdft.common.reading.archive import read_archive
from ase_srdft.common.reading.formats import read_with_ase

__all__ = ["read_frames"]


def read_frames(path: str | Path, limit: int | None = None) -> list[Atoms]:
    """All structures of one file: an MD17 archive, or a format of ASE that keeps nothing back.

    The file is the one that is named, whatever is in the name.  What ASE's readers would pass
    over in silence, such as the frames after a blank line of an xyz file, is an error.

    An ``.npz`` is read as MD17 and rMD17 are laid out: ``nuclear_charges`` or ``z`` (natoms,), or
    (nframes, natoms), and ``coords`` or ``R`` (nframes, natoms, 3) in Angstrom.  Energies and
    forces in it are left aside: they belong to another level of theory.

    Where the file names a unit of length (``r_unit`` or ``units`` in an archive, ``length_unit=``
    in the comment line of an xyz file), positions are converted from Bohr, nm or pm.  Charge and
    spin that it states are in ``info``, for `ase_srdft.common.nuclei.nuclei_of`.

    Args:
        path: the file.
        limit: return at most this many frames, from the first on.

    Raises:
        BadInput: the file is missing, cannot be read whole or holds nothing, or a structure in it
            does not pass `ase_srdft.common.nuclei.check_structure`.
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
