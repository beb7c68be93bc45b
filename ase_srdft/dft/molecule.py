"""A molecule at a level of theory: everything that does not depend on where the nuclei are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.elements import hill_formula
from ase_srdft.common.errors import BadInput
from ase_srdft.dft.basis.atomic_orbitals import Basis
from ase_srdft.dft.basis.auxiliary_basis import AuxiliaryShell, auxiliary_shells
from ase_srdft.dft.basis.guess_tables import minimal_basis
from ase_srdft.dft.grid.molecular_grid import GridTemplate
from ase_srdft.dft.integrals.libcint import LibcintProvider
from ase_srdft.dft.integrals.provider import HIGHEST_OF_POTENTIAL, IntegralProvider
from ase_srdft.dft.level_of_theory import LevelOfTheory

__all__ = ["GUESSES", "HEAVIEST_ELEMENT", "Molecule", "check_guess"]

#: The guesses of :mod:`ase_srdft.dft.guess_fock`.
GUESSES = ("companion", "roothaan", "minao", "sap", "core")
#: Krypton: all-electron bases reach so far.
HEAVIEST_ELEMENT = 36


def check_guess(name: str) -> None:
    """Refuse what is not one of ``GUESSES``.

    Raises:
        BadInput: naming them.
    """
    if name not in GUESSES:
        raise BadInput(f"unknown guess {name!r}: use one of {', '.join(GUESSES)}")


@dataclass(frozen=True, kw_only=True)
class Molecule:
    """A closed-shell molecule: elements, level of theory and the guess its models start from.

    Attributes:
        numbers: atomic numbers, (natoms,).
        level: level of theory.
        guess: one of ``GUESSES`` (:func:`ase_srdft.dft.guess_fock.guess_fock`).
        potential_basis: auxiliary basis in which a model expands a potential; None where none does.

    Raises:
        BadInput: no atoms, an unsupported element, an open shell, no electrons, unknown guess.
    """

    numbers: tuple[int, ...]
    level: LevelOfTheory
    guess: str = "companion"
    potential_basis: str | None = None

    def __post_init__(self) -> None:
        if not self.numbers:
            raise BadInput("no atoms: give a structure with at least one atom")
        check_guess(self.guess)
        for number in self.numbers:
            if not 1 <= number <= HEAVIEST_ELEMENT:
                raise BadInput(
                    f"element with atomic number {number}: H to Kr are supported "
                    "(all-electron Gaussian bases)"
                )
        if self.nelectron < 1:
            raise BadInput(f"charge {self.level.charge} leaves {self.nelectron} electrons")
        if self.nelectron % 2:
            raise BadInput(
                f"{self.formula} with charge {self.level.charge} has {self.nelectron} electrons, "
                "an open shell: closed shells only, so use a charge that makes the number even"
            )
        if self.nocc > self.basis.nao:
            raise BadInput(
                f"{self.formula}: {self.nocc} electron pairs do not fit into the "
                f"{self.basis.nao} orbitals of {self.level.basis}: use a larger basis"
            )

    @property
    def formula(self) -> str:
        """Hill's formula, for messages."""
        return hill_formula(self.numbers)

    @property
    def natoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def nelectron(self) -> int:
        """Number of electrons."""
        return sum(self.numbers) - self.level.charge

    @property
    def nocc(self) -> int:
        """Number of doubly occupied orbitals."""
        return self.nelectron // 2

    @property
    def nao(self) -> int:
        """Number of atomic orbitals."""
        return self.basis.nao

    @property
    def basis(self) -> Basis:
        """The atomic orbitals."""
        return _basis(self.numbers, self.level.basis)

    @property
    def provider(self) -> IntegralProvider:
        """What evaluates the integrals."""
        return _provider(self)

    @cached_property
    def potential_shells(self) -> list[AuxiliaryShell]:
        """The auxiliary functions of a model's potential, as the integrals have them."""
        assert self.potential_basis is not None
        shared = self.potential_basis == self.level.auxiliary_basis
        highest = None if shared else HIGHEST_OF_POTENTIAL
        return auxiliary_shells(self.numbers, self.potential_basis, highest)

    @cached_property
    def charges(self) -> Float[Tensor, " natoms"]:
        """Nuclear charges (e)."""
        return torch.tensor(self.numbers, dtype=torch.float64)

    @cached_property
    def guess_occupations(self) -> Float[Tensor, " nminimal"]:
        """Electrons in each orbital of the minimal basis."""
        occupations = [torch.tensor(minimal_basis(n).occupations) for n in self.numbers]
        return torch.cat(occupations)

    def grid_template(self, grid_level: int, device: torch.device) -> GridTemplate:
        """The quadrature of a level (``COARSE_GRID`` among them)."""
        return _grid_template(self.numbers, grid_level, device)


# tables are kept for the molecules in use: a run may have thousands, at several levels each


@lru_cache(maxsize=64)
def _basis(numbers: tuple[int, ...], name: str) -> Basis:
    return Basis(numbers, name)


@lru_cache(maxsize=64)
def _provider(molecule: Molecule) -> IntegralProvider:
    return LibcintProvider(
        molecule.numbers, molecule.level, molecule.guess, molecule.potential_basis
    )


@lru_cache(maxsize=64)
def _grid_template(numbers: tuple[int, ...], grid_level: int, device: torch.device) -> GridTemplate:
    return GridTemplate.of(numbers, grid_level).to(device)
