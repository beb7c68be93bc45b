"""Telling molecules apart: the same atoms in the same order, with the same bonds, are one.

Structures of one molecule are its conformers, or the same one further on in its vibration;
structures with the same atoms and other bonds are isomers, and a molecule each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ase_srdft.common.connectivity import bond_matrix
from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.dft.molecule import Molecule

__all__ = ["Frame", "Sorted", "names_of", "sort_by_molecule"]

#: Atomic numbers, positions (natoms, 3) in Bohr, and charge.
Frame = tuple[tuple[int, ...], np.ndarray, int]

#: Frames with bonds that no structure has are a molecule of their own from this share of the
#: frames of their composition on; fewer are a bond that is about to break, or to form.
_COMMON_SHARE = 0.05
#: Structures whose coordinates are the same to so many decimals (Bohr) are the same.
_DECIMALS = 5

#: Atomic numbers and charge, and the bonds.
_Kind = tuple[tuple[tuple[int, ...], int], bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sorted:
    """Structures and frames by molecule.

    Attributes:
        compositions: atomic numbers of each molecule; isomers have the same.
        charges: of each molecule (e).
        structures: those of each molecule (Bohr), each once; the first frame where none is given.
        frames: (index of the molecule, positions in Bohr), in the order given.
        strays: which frames have not the bonds of their molecule.
    """

    compositions: tuple[tuple[int, ...], ...]
    charges: tuple[int, ...]
    structures: tuple[tuple[np.ndarray, ...], ...]
    frames: tuple[tuple[int, np.ndarray], ...]
    strays: tuple[int, ...]


def sort_by_molecule(structures: Iterable[Frame], frames: Sequence[Frame]) -> Sorted:
    """Find the molecules among structures and frames, in the order of first appearance."""
    found: dict[_Kind, list[np.ndarray]] = {}
    for frame in _distinct(structures):
        found.setdefault(_kind(*frame), []).append(frame[1])
    kinds = [_kind(*frame) for frame in frames]
    common = _common_kinds(kinds, {composition for composition, _ in found})
    for kind, (_, positions, _) in zip(kinds, frames, strict=True):
        if kind in common and kind not in found:
            found[kind] = [positions]
    order = {kind: index for index, kind in enumerate(found)}
    first: dict[tuple[tuple[int, ...], int], int] = {}
    for (composition, _), index in order.items():
        first.setdefault(composition, index)
    return Sorted(
        compositions=tuple(numbers for (numbers, _), _ in found),
        charges=tuple(charge for (_, charge), _ in found),
        structures=tuple(map(tuple, found.values())),
        frames=tuple(
            (order.get(kind, first[kind[0]]), positions)
            for kind, (_, positions, _) in zip(kinds, frames, strict=True)
        ),
        strays=tuple(index for index, kind in enumerate(kinds) if kind not in order),
    )


def names_of(molecules: Sequence[Molecule]) -> list[str]:
    """The formulas with charges, and levels of theory where there are several.

    Isomers (the same atoms in the same order) are counted as well.
    """
    levels = {(molecule.level.xc, molecule.level.basis) for molecule in molecules}
    labels = [_label(molecule, len(levels) > 1) for molecule in molecules]
    totals, seen = Counter(labels), Counter[tuple[str, str]]()
    names = []
    for label in labels:
        seen[label] += 1
        isomer = f" (isomer {seen[label]})" if totals[label] > 1 else ""
        names.append(f"{label[0]}{isomer}{label[1]}")
    return names


def _label(molecule: Molecule, with_level: bool) -> tuple[str, str]:
    """Formula with charge, and level, in words."""
    charge = molecule.level.charge
    sign = f"{abs(charge) if abs(charge) > 1 else ''}{'+' if charge > 0 else '-'}" if charge else ""
    level = f" {molecule.level.xc}/{molecule.level.basis}" if with_level else ""
    return molecule.formula + (f" {sign}" if sign else ""), level


def _kind(numbers: tuple[int, ...], positions: Float[np.ndarray, "natoms 3"], charge: int) -> _Kind:
    """What makes a molecule: its atoms in their order, its charge, and which atoms are bonded."""
    bonded = bond_matrix(np.array(numbers, dtype=int), positions * ANGSTROM_PER_BOHR)
    return (numbers, charge), np.packbits(bonded).tobytes()


def _distinct(frames: Iterable[Frame]) -> list[Frame]:
    """Each of them once."""
    once: dict[tuple[tuple[int, ...], int, bytes], Frame] = {}
    for frame in frames:
        numbers, positions, charge = frame
        # adding zero makes a zero of minus zero
        content = (positions.round(_DECIMALS) + 0.0).tobytes()
        once.setdefault((numbers, charge, content), frame)
    return list(once.values())


def _common_kinds(kinds: Sequence[_Kind], known: set[tuple[tuple[int, ...], int]]) -> set[_Kind]:
    """Kinds of frames that are frequent enough; the most frequent one of a composition anyway.

    Args:
        kinds: of all frames.
        known: compositions that have a structure, and so a molecule.
    """
    counts = Counter(kinds)
    totals = Counter(composition for composition, _ in kinds)
    common = {kind for kind, count in counts.items() if count >= _COMMON_SHARE * totals[kind[0]]}
    for composition in totals.keys() - known - {composition for composition, _ in common}:
        common.add(max((k for k in counts if k[0] == composition), key=lambda k: counts[k]))
    return common
