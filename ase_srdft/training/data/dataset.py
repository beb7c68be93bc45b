"""What a run starts from: structures, and frames if there are any, in Bohr."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ase import Atoms

from ase_srdft.common.errors import BadInput
from ase_srdft.common.nuclei import Nuclei, nuclei_of
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.reference.label_file import Labels
from ase_srdft.training.data.isomers import Frame, sort_by_molecule

__all__ = ["Dataset", "evenly_spaced"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Molecules, the structures of each, and given frames.

    A molecule is a list of atoms with the bonds between them: isomers whose atoms are listed in
    the same order have the same composition and are two molecules; conformers are one.  At
    several levels of theory it is a molecule at each (:meth:`at_levels`).

    Attributes:
        compositions: atomic numbers of each molecule, in the order of first appearance.
        charges: of each molecule (e).
        references: the first structure of each (Bohr); its bonds are the molecule's.
        frames: (index of the molecule, positions in Bohr), in the order given.
        labels: of all frames; None where there are none.
        further: (index of the molecule, positions in Bohr) of all structures but the first of
            each molecule.
        strays: which frames have not the bonds of their molecule, nor those of another.
        nlevels: levels of theory; every molecule comes so many times in a row, once for each.
    """

    compositions: tuple[tuple[int, ...], ...]
    charges: tuple[int, ...]
    references: tuple[np.ndarray, ...]
    frames: tuple[tuple[int, np.ndarray], ...]
    labels: Labels | None = None
    further: tuple[tuple[int, np.ndarray], ...] = ()
    strays: tuple[int, ...] = ()
    nlevels: int = 1

    @classmethod
    def of(
        cls,
        structures: Sequence[Atoms | Nuclei],
        frames: Sequence[Atoms | Nuclei] = (),
        labels: Labels | None = None,
    ) -> Dataset:
        """From ASE's structures (Angstrom), or nuclei that were checked before (Bohr).

        Args:
            structures: one or more of every molecule; none needed where there are frames.
            frames: to train on; with labels and without frames, those that are labelled.
            labels: of the frames.

        Raises:
            BadInput: nothing to start from, a structure that `nuclei_of` refuses, or a frame
                without a label.
        """
        known = [_frame(atoms, f"structure {i}") for i, atoms in enumerate(structures)]
        given = [_frame(atoms, f"frame {i}") for i, atoms in enumerate(frames)]
        if labels is not None:
            given = given or [(label.numbers, label.positions, 0) for label in labels.labels]
            for numbers, positions, _ in given:
                labels.fock(numbers, positions)
        if not known and not given:
            raise BadInput("no structures: give at least one structure or frame")
        found = sort_by_molecule(known, given)
        return cls(
            compositions=found.compositions,
            charges=found.charges,
            references=tuple(first for first, *_ in found.structures),
            frames=found.frames,
            labels=labels,
            further=tuple(
                (molecule, positions)
                for molecule, (_, *others) in enumerate(found.structures)
                for positions in others
            ),
            strays=found.strays,
        )

    def at_levels(self, count: int) -> Dataset:
        """The molecules once for each of so many levels of theory, one after the other.

        Every level has all structures; the frames of a molecule go round the levels in turn.
        """
        if count == 1:
            return self
        if self.nlevels != 1:
            raise ValueError("this dataset has several levels of theory already")
        turns: Counter[int] = Counter()
        frames = []
        for molecule, positions in self.frames:
            frames.append((molecule * count + turns[molecule] % count, positions))
            turns[molecule] += 1
        return replace(
            self,
            compositions=tuple(c for c in self.compositions for _ in range(count)),
            charges=tuple(c for c in self.charges for _ in range(count)),
            references=tuple(r for r in self.references for _ in range(count)),
            frames=tuple(frames),
            further=tuple(
                (molecule * count + level, positions)
                for molecule, positions in self.further
                for level in range(count)
            ),
            nlevels=count,
        )

    def structures_of(self, molecule: int) -> list[np.ndarray]:
        """All structures of a molecule (Bohr), the reference first."""
        return [self.references[molecule], *self._further_of.get(molecule, [])]

    @cached_property
    def _further_of(self) -> dict[int, list[np.ndarray]]:
        own: dict[int, list[np.ndarray]] = {}
        for molecule, positions in self.further:
            own.setdefault(molecule, []).append(positions)
        return own

    @property
    def nstructures(self) -> tuple[int, ...]:
        """How many structures there are of each molecule."""
        counts = Counter(molecule for molecule, _ in self.further)
        return tuple(1 + counts[molecule] for molecule in range(len(self.compositions)))

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, sorted."""
        return tuple(sorted({number for numbers in self.compositions for number in numbers}))

    @property
    def fingerprint(self) -> str:
        """Changes with any composition, structure, frame or label."""
        digest = hashlib.sha256(repr(self.compositions).encode())
        if any(self.charges):
            digest.update(repr(self.charges).encode())
        for reference in self.references:
            digest.update(np.ascontiguousarray(reference).tobytes())
        for molecule, positions in self.further:  # none in a run of one structure a molecule
            digest.update(b"further" + _as_bytes(molecule))
            digest.update(np.ascontiguousarray(positions).tobytes())
        for molecule, positions in self.frames:
            digest.update(_as_bytes(molecule))
            digest.update(np.ascontiguousarray(positions).tobytes())
            if self.labels is not None:
                fock = self.labels.fock(self.compositions[molecule], positions)
                digest.update(np.ascontiguousarray(fock).tobytes())
        return digest.hexdigest()

    def molecules(
        self,
        levels: Sequence[LevelOfTheory],
        guess: str,
        potential_basis: str | None = None,
    ) -> list[Molecule]:
        """Every molecule at its level of theory, with what a model needs of it (`Molecule`).

        Args:
            levels: ``nlevels`` of them; a molecule without a charge of its own has theirs.
            guess: of the model.
            potential_basis: of the model.

        Raises:
            BadInput: open shells, unsupported elements, an unknown basis.
        """
        if len(levels) != self.nlevels:
            raise ValueError(f"{len(levels)} levels of theory for a dataset of {self.nlevels}")
        made: dict[tuple[object, ...], Molecule] = {}
        molecules = []
        named = zip(self.compositions, self.charges, strict=True)
        for index, (numbers, charge) in enumerate(named):
            level = levels[index % self.nlevels]
            key = (numbers, charge, level)
            if key not in made:
                made[key] = Molecule(
                    numbers=numbers,
                    level=replace(level, charge=charge or level.charge),
                    guess=guess,
                    potential_basis=potential_basis,
                )
            molecules.append(made[key])
        return molecules


def _as_bytes(index: int) -> bytes:
    return bytes([index % 256]) + (b"" if index < 256 else str(index).encode())


def _frame(atoms: Atoms | Nuclei, what: str) -> Frame:
    nuclei = nuclei_of(atoms, what=what)
    return nuclei.numbers, nuclei.positions, nuclei.charge


def evenly_spaced(indices: Sequence[int], fraction: float) -> list[int]:
    """A share of a time series, from its beginning to its end; one of them at least."""
    count = max(1, round(fraction * len(indices)))
    places = np.linspace(0, len(indices) - 1, count).round().astype(int)
    return [indices[place] for place in places] if indices else []
