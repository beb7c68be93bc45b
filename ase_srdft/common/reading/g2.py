"""Molecules by their names in the G2 database, which comes with ASE: ``g2:CH3OH``, ``g2:*``."""

from __future__ import annotations

import warnings
from collections.abc import Collection

from ase import Atoms
from ase.build import molecule
from ase.data import atomic_numbers

from ase_srdft.common.errors import BadInput, StructuresLeftOut
from ase_srdft.common.settings import nearest

__all__ = ["read_g2"]

#: What stands for all names.
_ALL = "*"


def read_g2(name: str, limit: int | None) -> list[Atoms]:
    """A molecule of `ase.build.molecule`, or all of the G2 database with a closed shell.

    ``*`` stands for all, ``*:H,C,N,O`` for those of these elements alone.  Geometries are those
    of the database (MP2/6-31G*), in Angstrom.

    Args:
        name: without ``g2:``.
        limit: of ``*``, the first so many.

    Warns:
        StructuresLeftOut: some that ``*`` stands for have open shells.

    Raises:
        BadInput: there is no such name or element, or nothing of these elements alone.
    """
    name, _, listed = name.partition(":")
    if name == _ALL:
        return _closed_shells(_elements(listed) if listed else None, limit)
    if listed:
        raise BadInput(f"g2:{name}:{listed} has elements behind a name; they go with g2:* only")
    return [_named(name)]


def _named(name: str) -> Atoms:
    from ase.build.molecule import extra
    from ase.collections import g2

    known = [*g2.names, *extra]
    if name not in known:
        raise BadInput(
            f"ASE has no molecule {name!r}{nearest(name, known)}; g2:CH3OH is one, and g2:* is all"
        )
    atoms: Atoms = molecule(name)
    atoms.info["name"] = name
    return atoms


def _elements(listed: str) -> set[str]:
    elements = {element.strip() for element in listed.split(",")}
    unknown = sorted(elements - set(atomic_numbers))
    if unknown:
        raise BadInput(f"g2:*:{listed}: {unknown[0]!r} is no element; write g2:*:H,C,N,O")
    return elements


def _closed_shells(elements: Collection[str] | None, limit: int | None) -> list[Atoms]:
    from ase.data.g2 import molecule_names

    every = [_named(name) for name in molecule_names]
    if elements is not None:
        every = [atoms for atoms in every if set(atoms.symbols) <= set(elements)]
    closed = [atoms for atoms in every if not atoms.get_initial_magnetic_moments().any()]
    if not closed:
        raise BadInput(f"G2 has no closed shell of {', '.join(sorted(elements or ()))} alone")
    if len(closed) < len(every):
        warnings.warn(
            f"{len(every) - len(closed)} of the {len(every)} molecules of G2 asked for have open "
            "shells, which are not supported: they are left out",
            StructuresLeftOut,
            stacklevel=4,
        )
    return closed[:limit]
