"""Whom a calculator answers for: the atoms that it was asked about last, where they are now."""

from __future__ import annotations

import copy
import threading
import weakref
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotPresent

from ase_srdft.calculator.certificate import PREFIX, Certificate
from ase_srdft.common.charges import stated
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.electronic_structure import ElectronicStructure

__all__ = ["AskedAtoms"]


class AskedAtoms(Calculator):
    """A calculator that says of the atoms last asked about what it knows, and of no others."""

    _asked: weakref.ref[Atoms] | None
    #: One thread is answered after the other, from question to answer.
    _turn: threading.RLock
    _state: ElectronicStructure | None
    _state_version: int

    @property
    def _level(self) -> LevelOfTheory:
        raise NotImplementedError

    def _present_atoms(self, atoms: Atoms | None = None) -> Atoms | None:
        """These atoms, now those last asked about; without any, those of the last time.

        ASE keeps a copy of them in ``self.atoms``, which does not move with them.
        """
        if atoms is None and self._asked is not None and self.atoms is not None:
            atoms = self._asked()
        if atoms is None:
            return self.atoms
        if atoms is not self.atoms:
            self._asked = weakref.ref(atoms)
        return atoms

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """A result under ASE's name; of the atoms last asked about where none are named."""
        with self._turn:
            return self._answer(name, atoms, allow_calculation)

    def _answer(self, name: str, atoms: Atoms | None, allow_calculation: bool) -> Any:
        atoms = self._present_atoms(atoms)
        value = super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]
        if atoms is not None and self._state is not None and value is not None:
            certificate = self._certificate(self._state, self._state_version)
            _forget_what_was_known(atoms)
            atoms.info.update(certificate.key_values())
        elif atoms is not None and value is None and self.check_state(atoms):
            # nothing is known of the atoms where they are now, as when they are written to a file
            _forget_what_was_known(atoms)
        return value

    def check_state(self, atoms: Atoms, tol: float = 1.0e-15) -> list[str]:
        """What of the atoms has changed since the last results; also what ``info`` says of them.

        ASE itself compares arrays only, and would answer from the results of another charge.
        """
        changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]
        if self.atoms is not None and repr(stated(self.atoms.info)) != repr(stated(atoms.info)):
            changes.append("initial_charges")
        return changes

    @property
    def electronic_state(self) -> ElectronicStructure:
        """Density matrix, Fock matrix and orbitals (Hartree, Bohr); a copy.

        They are those of the atoms that were last asked about, where they are now.

        Raises:
            PropertyNotPresent: there were none yet.
        """
        return copy.deepcopy(self._present_state())

    @property
    def certificate(self) -> Certificate:
        """What the answer for the atoms last asked about, where they are now, is worth.

        Raises:
            PropertyNotPresent: there were none yet.
        """
        state = self._present_state()
        return self._certificate(state, self._state_version)

    def _certificate(self, state: ElectronicStructure, version: int) -> Certificate:
        return Certificate.of(state, self.parameters["model"], version, str(self._level))

    def _present_state(self) -> ElectronicStructure:
        atoms = self._present_atoms()
        if atoms is None or self.atoms is None:
            raise PropertyNotPresent(
                "no geometry was evaluated yet: call atoms.get_potential_energy() first"
            )
        if self._state is None or not self.results or self.check_state(atoms):
            self.calculate(atoms, ["energy"])  # type: ignore[no-untyped-call]
        assert self._state is not None
        return self._state


def _forget_what_was_known(atoms: Atoms) -> None:
    for key in [key for key in atoms.info if str(key).startswith(PREFIX)]:
        del atoms.info[key]
