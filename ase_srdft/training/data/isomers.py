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

#: Atomic numbers, and positions (natoms, 3) in Bohr.
Frame = tuple[tuple[int, ...], np.ndarray]

#: Frames with bonds that no structure has are a molecule of their own from this share of the
#: frames of their composition on; fewer are a bond that is about to break, or to form.
_COMMON_SHARE = 0.05
#: Structures whose coordinates are the same to so many decimals (Bohr) are the same.
_DECIMALS = 5

_Kind = tuple[tuple[int, ...], bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sorted:
    """Structures and frames by molecule.

    Attributes:
        compositions: atomic numbers of each molecule; isomers have the same.
        structures: those of each molecule (Bohr), each once; the first frame where none is given.
        frames: (index of the molecule, positions in Bohr), in the order given.
        strays: which frames have not the bonds of their molecule.
    """

    compositions: tuple[tuple[int, ...], ...]
    structures: tuple[tuple[np.ndarray, ...], ...]
    frames: tuple[tuple[int, np.ndarray], ...]
    strays: tuple[int, ...]


def sort_by_molecule(structures: Iterable[Frame], frames: Sequence[Frame]) -> Sorted:
    """Find the molecules among structures and frames, in the order of first appearance."""
    found: dict[_Kind, list[np.ndarray]] = {}
    for composition, positions in _distinct(structures):
        found.setdefault(_kind(composition, positions), []).append(positions)
    kinds = [_kind(*frame) for frame in frames]
    common = _common_kinds(kinds, {composition for composition, _ in found})
    for kind, (_, positions) in zip(kinds, frames, strict=True):
        if kind in common and kind not in found:
            found[kind] = [positions]
    order = {kind: index for index, kind in enumerate(found)}
    first: dict[tuple[int, ...], int] = {}
    for (composition, _), index in order.items():
        first.setdefault(composition, index)
    return Sorted(
        compositions=tuple(composition for composition, _ in found),
        structures=tuple(map(tuple, found.values())),
        frames=tuple(
            (order.get(kind, first[kind[0]]), positions)
            for kind, (_, positions) in zip(kinds, frames, strict=True)
        ),
        strays=tuple(index for index, kind in enumerate(kinds) if kind not in order),
    )


def names_of(molecules: Sequence[Molecule]) -> list[str]:
    """The formulas; isomers (the same atoms in the same order) are counted as well."""
    totals = Counter(molecule.numbers for molecule in molecules)
    seen: Counter[tuple[int, ...]] = Counter()
    names = []
    for molecule in molecules:
        seen[molecule.numbers] += 1
        isomer = f" (isomer {seen[molecule.numbers]})" if totals[molecule.numbers] > 1 else ""
        names.append(molecule.formula + isomer)
    return names


def _kind(composition: tuple[int, ...], positions: Float[np.ndarray, "natoms 3"]) -> _Kind:
    """What makes a molecule: its atoms in their order, and which of them are bonded."""
    bonded = bond_matrix(np.array(composition, dtype=int), positions * ANGSTROM_PER_BOHR)
    return composition, np.packbits(bonded).tobytes()


def _distinct(frames: Iterable[Frame]) -> list[Frame]:
    """Each of them once."""
    once: dict[tuple[tuple[int, ...], bytes], Frame] = {}
    for composition, positions in frames:
        # adding zero makes a zero of minus zero
        content = (positions.round(_DECIMALS) + 0.0).tobytes()
        once.setdefault((composition, content), (composition, positions))
    return list(once.values())


def _common_kinds(kinds: Sequence[_Kind], known: set[tuple[int, ...]]) -> set[_Kind]:
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
