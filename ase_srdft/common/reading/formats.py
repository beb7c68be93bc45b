"""Files in the formats of ASE, and what ASE's readers leave aside of them.

ASE takes a name apart (``name@index``, ``-``, ``postgresql://``), guesses the format by patterns of
names before extensions, and some of its readers stop early or drop what matters here.  Its readers
are used; this module sees to it that they get the file that was named and that nothing is lost.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import ase.db
from ase import Atoms
from ase.io import read
from ase.io.formats import filetype, get_compression, ioformats, open_with_compression

from ase_srdft.common.errors import BadInput
from ase_srdft.common.reading.lengths import angstrom_per_unit, length_keys
from ase_srdft.common.reading.xyz import check_lines

__all__ = ["read_with_ase"]

_XYZ = (".xyz", ".extxyz")
_ONE_OF_SEVERAL = "ASE reads one structure of it, however many there are"
_NO_CHARGE = "ASE leaves aside its charge, its multiplicity and its unit of length"
_NO_ELEMENTS = "ASE takes LAMMPS's types of atoms for elements"
#: Formats that ASE reads, but not so that it can be relied on.
_REFUSED = {
    "abinit-out": _ONE_OF_SEVERAL,
    "acemolecule-input": _NO_CHARGE,
    "acemolecule-out": _ONE_OF_SEVERAL,
    "dacapo-text": _ONE_OF_SEVERAL,
    "gamess-us-out": _ONE_OF_SEVERAL,
    "gamess-us-punch": _ONE_OF_SEVERAL,
    "gaussian-in": _NO_CHARGE,
    "lammps-data": _NO_ELEMENTS,
    "lammps-dump-binary": _NO_ELEMENTS,
    "lammps-dump-text": _NO_ELEMENTS,
    "nwchem-in": _NO_CHARGE,
}
#: The code of a doublet in place of a charge, in a molfile.
_RADICAL = 4
#: Lines that must not be passed over, of formats where ASE does so.
_FORBIDDEN = {
    "mol": r"M  RAD.*|.*V3000.*",
    "sdf": r"M  RAD.*|.*V3000.*",
    "proteindatabank": r"(?:ATOM  |HETATM).{72}(?:[1-9][-+]|[-+][1-9]).*",
    "turbomole": r"\$coord[ \t]+\S.*|\$(?:eht|chrg|charge|spin|uhf).*",
}
#: What files say of the charge and the multiplicity; ASE reads only the rest.
_STATED = {
    "cjson": {
        "charge": r'"totalCharge"\s*:\s*([-+]?\d+)',
        "multiplicity": r'"totalSpinMultiplicity"\s*:\s*(\d+)',
    },
    "gaussian-out": {
        "charge": r"Charge\s*=\s*([-+]?\d+)\s+Multiplicity\s*=",
        "multiplicity": r"Charge\s*=\s*[-+]?\d+\s+Multiplicity\s*=\s*(\d+)",
    },
    "orca-output": {
        "charge": r"Total Charge\s+Charge\s+\.+\s+([-+]?\d+)",
        "multiplicity": r"Multiplicity\s+Mult\s+\.+\s+(\d+)",
    },
    "nwchem-out": {
        "charge": r"Charge\s*:\s*([-+]?\d+)",
        "multiplicity": r"Spin multiplicity:\s*(\d+)",
    },
}


def read_with_ase(path: Path, limit: int | None) -> list[Atoms]:
    """The structures of a file in a format of ASE; see `ase_srdft.common.structures.read_frames`.

    Raises:
        BadInput: it cannot be read, or not without losing something.
    """
    try:
        name = str(path.absolute())  # no "-", and no name that begins like a database's address
        kind = _format(path, name)
        if kind in _REFUSED:
            raise BadInput(
                f"{path} is in ASE's format {kind!r}, and {_REFUSED[kind]}; write the structures "
                "as an extended .xyz file, with charge=... in the comment line"
            )
        frames = _READERS.get(kind, _read_plainly)(path, name, kind, limit)
        stated = _stated(path, name, kind)
        for atoms in frames:
            atoms.info.update(stated)
            if atoms.has("formal_charges"):  # a column that is the user's own to ASE
                atoms.info["formal_charge"] = atoms.arrays["formal_charges"].sum()
    except BadInput:
        raise
    except Exception as err:  # ASE's readers raise whatever their parsing stumbles over
        raise BadInput(
            f"ASE cannot read {path} ({type(err).__name__}: {' '.join(str(err).split())}); "
            "give a structure file in one of ASE's formats, or an MD17 .npz"
        ) from err
    for index, atoms in enumerate(frames):
        _to_angstrom(atoms, f"frame {index} of {path}")
    return frames


def _format(path: Path, name: str) -> str:
    """ASE's name of the format: an .xyz file is one, whatever else its name or comment is like."""
    if Path(get_compression(name)[0]).suffix.lower() in _XYZ:
        return "extxyz"
    kind = filetype(name)
    return kind if kind in ioformats else filetype(name, guess=False)


def _text(name: str) -> str:
    with open_with_compression(name) as file:
        text: str = file.read()
    return text


def _read_plainly(path: Path, name: str, kind: str, limit: int | None) -> list[Atoms]:
    _refuse_forbidden(path, name, kind)
    every = slice(None, limit)
    frames = read(name, every, format=kind, do_not_split_by_at_sign=True)
    assert isinstance(frames, list)
    return frames[:limit]


def _refuse_forbidden(path: Path, name: str, kind: str) -> None:
    pattern = _FORBIDDEN.get(kind)
    found = re.search(f"^(?:{pattern})$", _text(name), re.MULTILINE) if pattern else None
    if found is not None:
        raise BadInput(
            f"{path} has the line {found[0].splitlines()[-1].strip()!r}, which ASE passes over; "
            "write the structure as an .xyz file, in Angstrom, with charge=... in the comment line"
        )


def _read_xyz(path: Path, name: str, kind: str, limit: int | None) -> list[Atoms]:
    nframes = check_lines(path)
    if nframes == 0:
        raise BadInput(f"ASE cannot read {path}: it is empty; give a file with a structure")
    frames = _read_plainly(path, name, kind, limit)
    if len(frames) != min(nframes, limit or nframes):
        raise BadInput(f"ASE reads {len(frames)} frames of {path}, which has {nframes}")
    return frames


def _read_molecules(path: Path, name: str, kind: str, limit: int | None) -> list[Atoms]:
    """An SD file, of which ASE's reader takes the first molecule only; one by one it takes all."""
    _refuse_forbidden(path, name, kind)
    frames = []
    records = re.split(r"^\$\$\$\$.*\n?", _text(name), flags=re.MULTILINE)
    if len(records) > 1 and not records[-1].strip():
        records.pop()
    for index, record in enumerate(islice(records, limit)):
        ends = len(re.findall(r"^M  END", record, re.MULTILINE))
        if ends != 1 or record.count("V2000") > 1:
            raise BadInput(
                f"molecule {index} of {path} does not end with one line 'M  END'; it was cut "
                "short, or the line '$$$$' after it is missing"
            )
        (atoms,) = read(StringIO(record), slice(None), format=kind)
        atoms.info["charge"] = _formal_charge(record, len(atoms), f"molecule {index} of {path}")
        frames.append(atoms)
    return frames


def _formal_charge(record: str, natoms: int, what: str) -> int:
    """The sum of the formal charges of an MDL molfile (V2000)."""
    charges = re.findall(r"^M  CHG..\d(.*)$", record, re.MULTILINE)
    if charges:
        return sum(int(charge) for line in charges for charge in line.split()[1::2])
    codes = [int(line[36:39].strip() or 0) for line in record.splitlines()[4 : 4 + natoms]]
    if _RADICAL in codes:
        raise BadInput(f"{what} is a radical, and open shells are not supported; leave it out")
    # 1 to 7 stand for +3 to -3, but the one in the middle does not; 0 is uncharged
    return sum(_RADICAL - code for code in codes if code)


def _read_pdb(path: Path, name: str, kind: str, limit: int | None) -> list[Atoms]:
    """ASE ends a structure at every END and ENDMDL, and drops what no such line follows."""
    frames = [atoms for atoms in _read_plainly(path, name, kind, None) if len(atoms)]
    lines = len(re.findall(r"^(?:ATOM|HETATM)", _text(name), re.MULTILINE))
    natoms = sum(map(len, frames))
    if natoms != lines:
        raise BadInput(
            f"ASE reads {natoms} of the {lines} atoms of {path}; end every model with ENDMDL"
        )
    return frames[:limit]


def _read_gen(path: Path, name: str, kind: str, limit: int | None) -> list[Atoms]:
    (atoms,) = _read_plainly(path, name, kind, limit)
    lines = _text(name).rstrip().splitlines()
    if not atoms.pbc.any() and len(lines) != len(atoms) + 2:
        raise BadInput(
            f"{path} has {len(lines)} lines, but its {len(atoms)} atoms need {len(atoms) + 2}; "
            "correct the number of atoms, and give one structure in a .gen file"
        )
    return [atoms]


def _read_database(path: Path, name: str, kind: str, limit: int | None) -> list[Atoms]:
    """ASE's database, where charge and spin are among the keys and values that are not atoms'."""
    if get_compression(name)[1] is not None:
        return _read_plainly(path, name, kind, limit)
    if kind == "db":
        # ASE would make the tables of its own in any file of SQLite.
        with closing(sqlite3.connect(f"{Path(name).as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT id FROM systems LIMIT 1")
    frames = []
    with ase.db.connect(name, type=kind, serial=True) as rows:
        for row in rows.select(limit=limit):
            atoms = row.toatoms()
            # not the values of key_value_pairs itself: its charge is that of the row's arrays
            atoms.info.update({key: vars(row)[key] for key in row.key_value_pairs})
            frames.append(atoms)
    return frames


_READERS: dict[str, Callable[[Path, str, str, int | None], list[Atoms]]] = {
    "extxyz": _read_xyz,
    "mol": _read_molecules,
    "sdf": _read_molecules,
    "proteindatabank": _read_pdb,
    "gen": _read_gen,
    "db": _read_database,
    "json": _read_database,
}


def _stated(path: Path, name: str, kind: str) -> dict[str, Any]:
    """Charge and multiplicity that an output says once for all its structures.

    Raises:
        BadInput: it says different ones.
    """
    found: dict[str, Any] = {}
    text = _text(name) if kind in _STATED else ""
    for key, pattern in _STATED.get(kind, {}).items():
        values = sorted(set(map(int, re.findall(pattern, text))))
        if len(values) > 1:
            raise BadInput(
                f"{path} says that the {key} is {' and '.join(map(str, values))}; give a file of "
                "one molecule"
            )
        if values:
            found[key] = values[0]
    return found


def _to_angstrom(atoms: Atoms, what: str) -> None:
    """Heed a unit of length that is named in ``info``, and name it no more."""
    bohr = [key for key in atoms.info if str(key).strip("()[],;:.").lower() in ("bohr", "bohrs")]
    if bohr:
        raise BadInput(
            f"{what} has the word {bohr[0]!r} in its comment; if the positions are in Bohr, write "
            "length_unit=bohr there, and otherwise remove the word"
        )
    factor = angstrom_per_unit(atoms.info, what)
    if factor != 1.0:
        atoms.positions *= factor
        for key in length_keys(atoms.info):
            atoms.info.pop(key)
