"""What a calculator tells of the electrons in space: files to look at, points, bonds, PySCF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ase_srdft.calculator.parameters import as_ase_error
from ase_srdft.common.atomic_files import replace_atomically, writable_file, write_atomically
from ase_srdft.common.errors import BadInput
from ase_srdft.common.nuclei import Nuclei
from ase_srdft.common.torch_state import undisturbed
from ase_srdft.common.units import ANGSTROM_PER_BOHR, EV_PER_HARTREE
from ase_srdft.dft.bond_orders import mayer_bond_orders, wiberg_bond_orders
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.electronic_structure import ElectronicStructure
from ase_srdft.models.spatial_functions import SpatialFunctions

__all__ = ["DensityOutputs"]

_BOND_ORDERS = {"mayer": mayer_bond_orders, "wiberg": wiberg_bond_orders}


class DensityOutputs:
    """Methods of a calculator that has an electronic state.

    All are about the atoms last asked about, where they are now, and about the state that the
    energy is of: its density, and its orbitals
    (`ase_srdft.dft.canonical_orbitals.canonical_orbitals`), whose energies agree with
    ``get_eigenvalues`` as far as the state is self-consistent.  Where nothing was asked yet they
    raise ``PropertyNotPresent``.
    """

    atoms: Atoms | None
    parameters: dict[str, Any]

    @property
    def electronic_state(self) -> ElectronicStructure:
        """The electrons of the atoms last asked about."""
        raise NotImplementedError

    if TYPE_CHECKING:  # of a calculator's other bases, which come after this one

        @property
        def _level(self) -> LevelOfTheory: ...

    def nuclei_for(self, atoms: Atoms) -> Nuclei:
        """The nuclei of atoms."""
        raise NotImplementedError

    @undisturbed
    def write_molden(self, path: str | Path) -> None:
        """Write geometry, basis and all orbitals with their energies, for viewers of orbitals.

        In Molden's format, in Hartree and Bohr; spherical functions.

        Args:
            path: of the file, usually ``*.molden``; replaced in one go.

        Raises:
            InputError: a path that cannot be written to, or a basis with h functions.
        """
        with as_ase_error():
            target = writable_file(Path(path).expanduser())
            functions = self._functions()
            replace_atomically(target, functions.write_molden)

    @undisturbed
    def write_cube(
        self,
        path: str | Path,
        what: str | int = "density",
        spacing: float = 0.2,
        margin: float = 3.0,
    ) -> None:
        """Write a function of space on a regular grid, for viewers of isosurfaces.

        As all cube files it is in atomic units: electrons per cubic Bohr, orbitals in
        Bohr^(-3/2), the potential in Hartree per e (times 27.2114: V).

        Args:
            path: of the file, usually ``*.cube``; replaced in one go.
            what: ``density``; ``electrostatic_potential``; an orbital by its name, ``homo``,
                ``lumo``, ``homo-1``, ``lumo+2``, or by its index, 0 the lowest.
            spacing: of the grid (Å).
            margin: how far the box reaches beyond the nuclei, at least (Å).

        Raises:
            InputError: a path that cannot be written to, an unknown name, an orbital that is not
                there, a spacing or margin that is no length, or more points than a file can hold.
        """
        with as_ase_error():
            target = writable_file(Path(path).expanduser())
            lengths = spacing / ANGSTROM_PER_BOHR, margin / ANGSTROM_PER_BOHR
            write_atomically(target, self._functions().cube(what, *lengths))

    @undisturbed
    def to_pyscf(self) -> Any:
        """PySCF's mean-field object (``dft.RKS``) of this state, as if its SCF had ended there.

        At the same level of theory, with the same grid and fitting, in Hartree and Bohr, and with
        ``mo_coeff``, ``mo_energy``, ``mo_occ``, ``e_tot`` and ``converged``:
        ``mf.nuc_grad_method()``, ``mf.analyze()``, ``mf.dip_moment()``, ``mf.TDDFT()`` and other
        methods go on from it without an SCF.  The density, ``mf.make_rdm1()``, is the
        calculator's to rounding; how far it is from the SCF, `certificate` tells, and
        ``mf.kernel(dm0=mf.make_rdm1())`` goes the rest of the way.

        The object is the caller's own: what is done to it does not touch the calculator.
        """
        with as_ase_error():
            return self._functions().mean_field()

    @undisturbed
    def get_density(self, points: ArrayLike) -> np.ndarray:
        """The electron density at points, in electrons per cubic Å.

        Args:
            points: (Å), (..., 3).

        Returns:
            As many numbers, (...).

        Raises:
            InputError: points that are none.
        """
        return self._at(points, SpatialFunctions.density, 1.0 / ANGSTROM_PER_BOHR**3)

    @undisturbed
    def get_electrostatic_potential(self, points: ArrayLike) -> np.ndarray:
        """The potential of nuclei and electrons at points, in V; infinite where a nucleus is.

        It is the energy of a small positive charge there, in eV per e, with zero far away.

        Args:
            points: (Å), (..., 3).

        Returns:
            As many numbers, (...).

        Raises:
            InputError: points that are none.
        """
        return self._at(points, SpatialFunctions.electrostatic_potential, EV_PER_HARTREE)

    @undisturbed
    def get_bond_orders(self, kind: str = "mayer") -> np.ndarray:
        """Bond orders between all atoms, about 1 for a single bond, (natoms, natoms).

        Symmetric, with zeros on the diagonal; the sum of a row is the valence of an atom.

        Args:
            kind: ``mayer``, or ``wiberg`` in Löwdin's orthogonal orbitals, which depends less on
                the basis.

        Raises:
            InputError: another kind.
        """
        with as_ase_error():
            if kind not in _BOND_ORDERS:
                raise BadInput(f"bond orders {kind!r}: use one of {', '.join(_BOND_ORDERS)}")
            functions = self._functions()
            state = functions.state
            return _BOND_ORDERS[kind](functions.molecule, state.overlap, state.density_matrix)

    def _at(
        self,
        points: ArrayLike,
        function: Callable[[SpatialFunctions, np.ndarray], np.ndarray],
        unit: float,
    ) -> np.ndarray:
        """A function at points (Å), (..., 3), in a unit that its atomic one is so many of."""
        with as_ase_error():
            bohr = _points(points)
            values = function(self._functions(), bohr.reshape(-1, 3))
            return np.asarray(unit * values.reshape(bohr.shape[:-1]))

    def _functions(self) -> SpatialFunctions:
        """Of the atoms last asked about, evaluated if they have moved."""
        state = self.electronic_state
        assert self.atoms is not None  # there was a geometry
        nuclei = self.nuclei_for(self.atoms)
        level = replace(self._level, charge=nuclei.charge)
        return SpatialFunctions(
            molecule=Molecule(numbers=nuclei.numbers, level=level),
            positions=nuclei.positions,
            state=state,
            nthreads=self.parameters["threads"],
        )


def _points(points: ArrayLike) -> np.ndarray:
    """Points in Bohr, (..., 3).

    Raises:
        BadInput: no numbers, not three for each, or not finite.
    """
    try:
        array = np.asarray(points, dtype=float)
    except (TypeError, ValueError):
        raise BadInput(f"points {points!r}: give an array (npoints, 3) in Å") from None
    if array.ndim == 0 or array.shape[-1] != 3:
        raise BadInput(f"points of shape {array.shape}: give an array (npoints, 3) in Å")
    if not np.isfinite(array).all():
        raise BadInput("points that are not finite: give numbers in Å")
    return array / ANGSTROM_PER_BOHR
