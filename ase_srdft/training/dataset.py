"""What a run starts from: structures, and frames if there are any, in Bohr."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ase_srdft.dft.level import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.errors import BadInput
from ase_srdft.units import ANGSTROM_PER_BOHR

__all__ = ["Dataset"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Molecules by composition, a structure of each, and given frames.

    Attributes:
        compositions: atomic numbers of each molecule, in the order of first appearance.
        references: one structure of each (Bohr).
        frames: (index of the molecule, positions in Bohr), in the order given.
    """

    compositions: tuple[tuple[int, ...], ...]
    references: tuple[np.ndarray, ...]
    frames: tuple[tuple[int, np.ndarray], ...]

    @classmethod
    def of(cls, structures: Sequence[Atoms], frames: Sequence[Atoms] = ()) -> Dataset:
        """From ASE's structures (Angstrom).

        Raises:
            BadInput: nothing to start from.
        """
        if not structures and not frames:
            raise BadInput("no structures: give at least one structure or frame")
        references: dict[tuple[int, ...], np.ndarray] = {}
        for atoms in [*structures, *frames]:
            references.setdefault(_composition(atoms), atoms.positions / ANGSTROM_PER_BOHR)
        order = {composition: index for index, composition in enumerate(references)}
        return cls(
            compositions=tuple(references),
            references=tuple(references.values()),
            frames=tuple(
                (order[_composition(atoms)], atoms.positions / ANGSTROM_PER_BOHR)
                for atoms in frames
            ),
        )

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, sorted."""
        return tuple(sorted({number for numbers in self.compositions for number in numbers}))

    @property
    def fingerprint(self) -> str:
        """Changes with any composition, structure or frame."""
        digest = hashlib.sha256(repr(self.compositions).encode())
        for reference in self.references:
            digest.update(np.ascontiguousarray(reference).tobytes())
        for molecule, positions in self.frames:
            digest.update(bytes([molecule % 256]))
            digest.update(np.ascontiguousarray(positions).tobytes())
        return digest.hexdigest()

    def molecules(self, level: LevelOfTheory, guess: str) -> list[Molecule]:
        """Every molecule at a level of theory.

        Raises:
            BadInput: open shells, unsupported elements, an unknown basis.
        """
        return [Molecule(numbers=c, level=level, guess=guess) for c in self.compositions]


def _composition(atoms: Atoms) -> tuple[int, ...]:
    return tuple(int(number) for number in atoms.numbers)
