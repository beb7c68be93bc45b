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
from ase_srdft.labels import Labels
from ase_srdft.units import ANGSTROM_PER_BOHR

__all__ = ["Dataset", "plain_frame"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Molecules by composition, a structure of each, and given frames.

    Attributes:
        compositions: atomic numbers of each molecule, in the order of first appearance.
        references: one structure of each (Bohr).
        frames: (index of the molecule, positions in Bohr), in the order given.
        labels: of all frames; None where there are none.
    """

    compositions: tuple[tuple[int, ...], ...]
    references: tuple[np.ndarray, ...]
    frames: tuple[tuple[int, np.ndarray], ...]
    labels: Labels | None = None

    @classmethod
    def of(
        cls, structures: Sequence[Atoms], frames: Sequence[Atoms] = (), labels: Labels | None = None
    ) -> Dataset:
        """From ASE's structures (Angstrom).

        Args:
            structures: one or more of every molecule; none needed where there are frames.
            frames: to train on; with labels and without frames, those that are labelled.
            labels: of the frames.

        Raises:
            BadInput: nothing to start from, or a frame without a label.
        """
        given = [plain_frame(atoms) for atoms in frames]
        if labels is not None:
            given = given or [(label.numbers, label.positions) for label in labels.labels]
            for frame in given:
                labels.fock(*frame)
        if not structures and not given:
            raise BadInput("no structures: give at least one structure or frame")
        references: dict[tuple[int, ...], np.ndarray] = {}
        for composition, positions in [*map(plain_frame, structures), *given]:
            references.setdefault(composition, positions)
        order = {composition: index for index, composition in enumerate(references)}
        return cls(
            compositions=tuple(references),
            references=tuple(references.values()),
            frames=tuple((order[composition], positions) for composition, positions in given),
            labels=labels,
        )

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, sorted."""
        return tuple(sorted({number for numbers in self.compositions for number in numbers}))

    @property
    def fingerprint(self) -> str:
        """Changes with any composition, structure, frame or label."""
        digest = hashlib.sha256(repr(self.compositions).encode())
        for reference in self.references:
            digest.update(np.ascontiguousarray(reference).tobytes())
        for molecule, positions in self.frames:
            digest.update(bytes([molecule % 256]))
            digest.update(np.ascontiguousarray(positions).tobytes())
            if self.labels is not None:
                fock = self.labels.fock(self.compositions[molecule], positions)
                digest.update(np.ascontiguousarray(fock).tobytes())
        return digest.hexdigest()

    def molecules(self, level: LevelOfTheory, guess: str) -> list[Molecule]:
        """Every molecule at a level of theory.

        Raises:
            BadInput: open shells, unsupported elements, an unknown basis.
        """
        return [Molecule(numbers=c, level=level, guess=guess) for c in self.compositions]


def plain_frame(atoms: Atoms) -> tuple[tuple[int, ...], np.ndarray]:
    """Atomic numbers and positions (Bohr) of an ASE structure."""
    return tuple(int(number) for number in atoms.numbers), atoms.positions / ANGSTROM_PER_BOHR
