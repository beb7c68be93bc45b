"""The electronic structure of one geometry in space: values at points, and files to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.canonical_orbitals import CanonicalOrbitals, canonical_orbitals
from ase_srdft.dft.cube_file import CubeGrid, cube_text
from ase_srdft.dft.density_at_points import density_at, electrostatic_potential_at, orbital_at
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import scf_threads
from ase_srdft.dft.solved_mean_field import solved_mean_field, write_molden
from ase_srdft.models.electronic_structure import ElectronicStructure

__all__ = ["SpatialFunctions", "orbital_index"]

_DENSITY, _POTENTIAL = "density", "electrostatic_potential"
_ORBITAL = re.compile(r"(homo|lumo)([+-]\d+)?")
#: A point of a cube that is closer to a nucleus than this share of the spacing counts as if it
#: were as far: the potential is infinite there, and viewers want numbers.
_CLOSEST = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class SpatialFunctions:
    """Density, orbitals and potential of a state; Hartree and Bohr.

    Attributes:
        molecule: the molecule.
        positions: nuclei (Bohr).
        state: its electrons.
        nthreads: that PySCF gets.
    """

    molecule: Molecule
    positions: Float[np.ndarray, "natoms 3"]
    state: ElectronicStructure
    nthreads: int = 1

    @cached_property
    def orbitals(self) -> CanonicalOrbitals:
        """Those of the density matrix."""
        state = self.state
        return canonical_orbitals(state.density_matrix, state.fock, state.overlap, state.nocc)

    def density(self, points: Float[np.ndarray, "npoints 3"]) -> Float[np.ndarray, " npoints"]:
        """Electrons per cubic Bohr at points (Bohr)."""
        with self._threads():
            return density_at(self.molecule, self.positions, self.state.density_matrix, points)

    def electrostatic_potential(
        self, points: Float[np.ndarray, "npoints 3"], closest: float = 0.0
    ) -> Float[np.ndarray, " npoints"]:
        """Hartree per e at points (Bohr); a nucleus is never closer than ``closest`` (Bohr)."""
        with self._threads():
            return electrostatic_potential_at(
                self.molecule, self.positions, self.state.density_matrix, points, closest
            )

    def orbital(
        self, index: int, points: Float[np.ndarray, "npoints 3"]
    ) -> Float[np.ndarray, " npoints"]:
        """An orbital, counted from 0 up, in Bohr^(-3/2) at points (Bohr)."""
        coefficients = self.orbitals.mo_coeff[:, index].copy()
        with self._threads():
            return orbital_at(self.molecule, self.positions, coefficients, points)

    def mean_field(self) -> Any:
        """PySCF's RKS object, as if its SCF had ended here."""
        return solved_mean_field(self.molecule, self.positions, self.orbitals, self.state.energy)

    def write_molden(self, path: Path) -> None:
        """Write the orbitals as Molden does.

        Raises:
            BadInput: a basis that the format does not hold.
        """
        write_molden(path, self.molecule, self.positions, self.orbitals)

    def cube(self, what: str | int, spacing: float, margin: float) -> str:
        """A cube file.

        Args:
            what: ``density``, ``electrostatic_potential``, or an orbital (`orbital_index`).
            spacing: of its grid (Bohr).
            margin: beyond the outermost nuclei (Bohr).

        Raises:
            BadInput: an unknown name, no such orbital, or lengths that are none.
        """
        index = None if what in (_DENSITY, _POTENTIAL) else self._index(what)
        grid = CubeGrid.around(self.positions, spacing, margin)
        points = grid.points()
        if index is not None:
            values = self.orbital(index, points)
            energy = self.orbitals.mo_energy[index]
            words = f"orbital {index} ({what}), {energy:.6f} Hartree, in Bohr^(-3/2)"
        elif what == _DENSITY:
            values, words = self.density(points), "electron density, per cubic Bohr"
        else:
            values = self.electrostatic_potential(points, _CLOSEST * spacing)
            words = "electrostatic potential, Hartree per e"
        title = f"{self.molecule.formula}, {self.molecule.level}", words
        return cube_text(title, self.molecule.numbers, self.positions, grid, values)

    def _index(self, what: str | int) -> int:
        return orbital_index(what, self.state.nocc, self.state.nao)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        with scf_threads(self.nthreads):
            yield


def orbital_index(what: str | int, nocc: int, nao: int) -> int:
    """The index, from 0, of an orbital by its name.

    >>> [orbital_index(what, 5, 13) for what in ("homo", "lumo", "HOMO-1", "lumo+2", 0)]
    [4, 5, 3, 7, 0]

    Args:
        what: ``homo``, ``lumo``, either with ``+n`` or ``-n``, or the index itself.
        nocc: number of doubly occupied orbitals.
        nao: of all.

    Raises:
        BadInput: no such name, or no such orbital.
    """
    if isinstance(what, str):
        found = _ORBITAL.fullmatch(what.strip().lower())
        if found is None:
            raise BadInput(
                f"no function of space {what!r}: use {_DENSITY}, {_POTENTIAL}, homo, lumo, "
                "homo-1 and so on, or the index of an orbital"
            )
        index = nocc - (found[1] == "homo") + int(found[2] or 0)
    elif isinstance(what, (int, np.integer)) and not isinstance(what, bool):
        index = int(what)
    else:
        raise BadInput(f"no function of space {what!r}: use a name, or the index of an orbital")
    if not 0 <= index < nao:
        raise BadInput(
            f"no orbital {what!r}: there are {nao} of them, counted from 0, {nocc} of them occupied"
        )
    return index
