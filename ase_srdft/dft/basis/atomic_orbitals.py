"""The atomic orbitals of a molecule, and the two orders in which their rows stand.

*Natural order* is PySCF's: by atom, then shell.  *Grid order* groups the atoms that have the same
list of shells (carbon and oxygen often have), so that the shells of one l of a group are one
strided block where orbitals are evaluated on points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.basis.element_basis import ElementBasis, element_basis

__all__ = ["HIGHEST_ORDER", "AtomGroup", "Basis"]

#: Most derivatives of an orbital that are ever asked for.
HIGHEST_ORDER = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class AtomGroup:
    """The atoms with one list of shells, and where their orbitals stand.

    Attributes:
        atoms: which.
        bases: of each atom, alike but for their numbers.
        start: first orbital, grid order.
    """

    atoms: tuple[int, ...]
    bases: tuple[ElementBasis, ...]
    start: int

    @property
    def rows(self) -> slice:
        """Its orbitals, grid order."""
        return slice(self.start, self.start + len(self.atoms) * self.bases[0].nao)

    @cached_property
    def exponents(self) -> Float[Tensor, "natoms nprimitive 1"]:
        """-alpha of the primitives."""
        return -torch.tensor(np.array([basis.exponents for basis in self.bases]))[..., None]

    @cached_property
    def coefficients(self) -> Float[Tensor, "natoms rows nprimitive"]:
        """From primitives to R_0 of every shell, R_1 of every shell, R_2."""
        plain = torch.tensor(np.array([basis.coefficients for basis in self.bases]))
        factor = 2.0 * self.exponents.transpose(1, 2)
        return torch.cat([plain * factor**k for k in range(HIGHEST_ORDER + 1)], 1)


def _shell_list(basis: ElementBasis) -> tuple[tuple[int, ...], int]:
    return basis.angular_momenta, len(basis.exponents)


class Basis:
    """The atomic orbitals of a molecule.

    Args:
        numbers: atomic numbers, (natoms,).
        name: basis set.
    """

    def __init__(self, numbers: tuple[int, ...], name: str) -> None:
        self.numbers = numbers
        self.name = name
        self.groups: list[AtomGroup] = []
        bases = [element_basis(name, number) for number in numbers]
        start = 0
        for shells in sorted({_shell_list(basis) for basis in bases}):
            atoms = tuple(i for i, basis in enumerate(bases) if _shell_list(basis) == shells)
            members = tuple(bases[atom] for atom in atoms)
            self.groups.append(AtomGroup(atoms=atoms, bases=members, start=start))
            start = self.groups[-1].rows.stop
        self.nao = start

    @cached_property
    def highest_angular_momentum(self) -> int:
        """The largest l of its shells."""
        bases = [element_basis(self.name, number) for number in set(self.numbers)]
        return max(max(basis.angular_momenta) for basis in bases)

    @cached_property
    def atom_slices(self) -> tuple[slice, ...]:
        """The orbitals of each atom, natural order."""
        ends = np.cumsum([element_basis(self.name, number).nao for number in self.numbers])
        starts = [0, *ends[:-1]]
        return tuple(slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True))

    @cached_property
    def grid_order(self) -> Tensor:
        """Natural index of each orbital in grid order, (nao,)."""
        order = [
            np.arange(self.atom_slices[atom].start, self.atom_slices[atom].stop)
            for group in self.groups
            for atom in group.atoms
        ]
        return torch.tensor(np.concatenate(order))

    @cached_property
    def natural_order(self) -> Tensor:
        """Grid-order index of each orbital in natural order, (nao,)."""
        return torch.argsort(self.grid_order)
