"""Reading geometries, from files with ASE or by names: whole, checked, in Angstrom."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from ase_srdft.common.errors import BadInput
from ase_srdft.common.nuclei import check_structure
from ase_srdft.common.reading.archive import read_archive
from ase_srdft.common.reading.formats import read_with_ase
from ase_srdft.common.reading.g2 import read_g2
from ase_srdft.common.reading.smiles import conformers_of_smiles, read_smiles_file

__all__ = ["read_frames"]


#: A string that begins so is no path.
_SMILES, _G2 = "smiles:", "g2:"


def read_frames(source: str | Path, limit: int | None = None, conformers: int = 1) -> list[Atoms]:
    """All structures of one file, or what a name stands for.

    ==================  ==========================================================================
    source              structures
    ==================  ==========================================================================
    ``smiles:CCO``      one molecule (`ase_srdft.common.reading.smiles`)
    ``g2:CH3OH``        a molecule of ASE's (`ase_srdft.common.reading.g2`)
    ``g2:*``            all of G2 with closed shells; ``g2:*:H,C,N,O`` of these elements alone
    ``NAME.smi``        a molecule on each line: its SMILES and, if there is one, its name
    ``NAME.npz``        an archive that is laid out like MD17
    any other           a file in a format of ASE that keeps nothing back
    ==================  ==========================================================================

    A file is the one that is named, whatever is in the name; one whose name begins with
    ``smiles:`` or ``g2:`` is ``./smiles:...``, or a ``Path``.  What ASE's readers would pass over
    in silence, such as the frames after a blank line of an xyz file, is an error.

    An ``.npz`` is read as MD17 and rMD17 are laid out: ``nuclear_charges`` or ``z`` (natoms,), or
    (nframes, natoms), and ``coords`` or ``R`` (nframes, natoms, 3) in Angstrom.  Energies and
    forces in it are left aside: they belong to another level of theory.

    Where the file names a unit of length (``r_unit`` or ``units`` in an archive, ``length_unit=``
    in the comment line of an xyz file), positions are converted from Bohr, nm or pm.  Charge and
    spin that it states are in ``info``, for `ase_srdft.common.nuclei.nuclei_of`.

    Args:
        source: the file, or the name.
        limit: return at most this many frames, from the first on; of a ``.smi`` file with
            ``conformers``, those of so many molecules.
        conformers: structures of each SMILES, at most: one, or more that differ in their torsions.

    Warns:
        StructuresLeftOut: a name stands for some that have open shells, which are left out.

    Raises:
        BadInput: the file is missing, cannot be read whole or holds nothing, the name is not
            known, or a structure does not pass `ase_srdft.common.nuclei.check_structure`.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"a limit of {limit} frames for {source}; ask for at least one")
    frames = _by_name(source, limit, conformers) if isinstance(source, str) else None
    if frames is None:
        frames = _of_file(Path(source), limit, conformers)
    if not frames:
        raise BadInput(f"{source} holds no structure; give a file with at least one")
    for index, atoms in enumerate(frames):
        check_structure(atoms, f"frame {index} of {source}")
    return frames


def _by_name(source: str, limit: int | None, conformers: int) -> list[Atoms] | None:
    """What a name stands for, and None if it is a path."""
    if source.startswith(_SMILES):
        return conformers_of_smiles(source.removeprefix(_SMILES), conformers)
    if source.startswith(_G2):
        return read_g2(source.removeprefix(_G2), limit)
    return None


def _of_file(path: Path, limit: int | None, conformers: int) -> list[Atoms]:
    if not path.is_file():
        raise BadInput(_no_file(path))
    if path.suffix.lower() == ".smi":
        return read_smiles_file(path, limit, conformers)
    reader = read_archive if path.suffix.lower() == ".npz" else read_with_ase
    return reader(path, limit)


def _no_file(path: Path) -> str:
    """Why a path is none that can be read."""
    if path.is_dir():
        return f"there is no file {path}, it is a directory; give the path of a structure file"
    if path.exists():
        return f"{path} is no file but a pipe or a device; write the structures to a file first"
    return (
        f"there is no file {path}; give the path of a structure file, or a name as in smiles:CCO "
        "and g2:CH3OH"
    )
