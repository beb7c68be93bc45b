"""Coulomb integrals and their contracted derivatives on arrays of NumPy.

The equations are in ``source/coulomb_integrals.cpp``, ``source/coulomb_gradient.cpp`` and
``source/coulomb_dense_gradient.cpp``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from ase_srdft.dft.basis.auxiliary_basis import AuxiliaryShell, cartesian_harmonics
from ase_srdft.dft.basis.element_basis import ElementBasis
from ase_srdft.dft.kernels.arrays import call, pointer
from ase_srdft.dft.kernels.library import chosen, thread_count

__all__ = [
    "HIGHEST_AUXILIARY",
    "HIGHEST_ORBITAL",
    "AuxiliaryTables",
    "CoulombKernels",
    "OrbitalTables",
]

#: Highest angular momenta that the kernels know, of an orbital and of an auxiliary function.
HIGHEST_ORBITAL, HIGHEST_AUXILIARY = 3, 5
#: Densities that one call of the gradient kernels takes: one, or up to so many.
_TERMS = 5
#: Exponent (Bohr^-2) of a Gaussian that is a point charge.
_POINT = 1.0e16


def _ncartesian(angular: int) -> int:
    """Cartesian functions of an angular momentum."""
    return (angular + 1) * (angular + 2) // 2


class OrbitalTables:
    """The primitives of a molecule's orbitals: each exponent of an atom once.

    Args:
        bases: of each atom.

    Attributes:
        cartesians: coefficients of the orbitals (rows) in the Cartesians of the primitives.
    """

    def __init__(self, bases: Sequence[ElementBasis]) -> None:
        atoms: list[int] = []
        exponents: list[float] = []
        momenta: list[int] = []
        shells: list[list[list[tuple[int, float]]]] = []  # by exponent and l: orbital, coefficient
        first_orbital = 0
        for atom, basis in enumerate(bases):
            for place, exponent in enumerate(basis.exponents):
                own: list[list[tuple[int, float]]] = [[] for _ in range(HIGHEST_ORBITAL + 1)]
                for shell, angular in enumerate(basis.angular_momenta):
                    coefficient = float(basis.coefficients[shell, place])
                    if coefficient != 0.0:
                        orbital = first_orbital + basis.shell_offsets[shell]
                        own[angular].append((orbital, coefficient))
                atoms.append(atom)
                exponents.append(float(exponent))
                momenta.append(sum(1 << angular for angular, shell in enumerate(own) if shell))
                shells.append(own)
            first_orbital += basis.nao
        self.natoms, self.nao = len(bases), first_orbital
        self.atoms, self.momenta = _ints(atoms), _ints(momenta)
        self.exponents = np.array(exponents)
        self.cartesians, self.first_cartesian = self._cartesians(shells)
        flat = [entry for own in shells for entries in own for entry in entries]
        counts = [len(entries) for own in shells for entries in own]
        self._first_shell = _ints(np.cumsum([0, *counts]))
        self._orbital = _ints([orbital for orbital, _ in flat])
        self._coefficient = np.array([coefficient for _, coefficient in flat])
        matrices = [
            cartesian_harmonics(angular).T.ravel() for angular in range(HIGHEST_ORBITAL + 1)
        ]
        self._harmonics = np.concatenate(matrices)

    def _cartesians(
        self, shells: list[list[list[tuple[int, float]]]]
    ) -> tuple[csr_array, Int[np.ndarray, " nprimitives"]]:
        columns: list[np.ndarray] = []
        first: list[int] = []
        for own in shells:
            first.append(sum(block.shape[1] for block in columns))
            for angular, entries in enumerate(own):
                if not entries:
                    continue
                block = np.zeros((self.nao, _ncartesian(angular)))
                for orbital, coefficient in entries:
                    rows = slice(orbital, orbital + 2 * angular + 1)
                    block[rows] += coefficient * cartesian_harmonics(angular).T
                columns.append(block)
        return csr_array(np.concatenate(columns, 1)), _ints(first)

    def primitives(self) -> tuple[object, ...]:
        """What every kernel reads of them first."""
        return (
            ctypes.c_int(self.natoms),
            ctypes.c_int(len(self.exponents)),
            pointer(self.atoms, np.int32),
            pointer(self.exponents),
            pointer(self.momenta, np.int32),
            pointer(self.first_cartesian, np.int32),
            ctypes.c_int(self.cartesians.shape[1]),
        )

    def contractions(self) -> tuple[object, ...]:
        """Which orbitals have which primitive."""
        return (
            ctypes.c_int(self.nao),
            pointer(self._first_shell, np.int32),
            pointer(self._orbital, np.int32),
            pointer(self._coefficient),
            pointer(self._harmonics),
        )


class AuxiliaryTables:
    """The auxiliary functions of a molecule, and how densities of them are handed over.

    Args:
        natoms: of the molecule.
        shells: contracted ones, atom after atom.
    """

    def __init__(self, natoms: int, shells: Sequence[AuxiliaryShell]) -> None:
        self.natoms, self.shells = natoms, list(shells)
        sizes = [2 * shell.angular + 1 for shell in self.shells]
        self.first_function = _ints(np.cumsum([0, *sizes])[:-1])
        self.nfunctions = sum(sizes)
        counts = [len(shell.exponents) for shell in self.shells]
        self.first_primitive = _ints(np.cumsum([0, *counts]))
        self.atoms = _ints([shell.atom for shell in self.shells])
        self.momenta = _ints([shell.angular for shell in self.shells])
        self.exponents = np.concatenate([shell.exponents for shell in self.shells])
        blocks = [
            # a solid harmonic is a derivative: 1 / (2q)^l, and (-1)^l on the second side
            c / (-2.0 * q) ** shell.angular * cartesian_harmonics(shell.angular)
            for shell in self.shells
            for q, c in zip(shell.exponents, shell.coefficients, strict=True)
        ]
        self.coefficients = np.concatenate([block.ravel() for block in blocks])
        self.first_number = _ints(np.cumsum([0, *(block.size for block in blocks)])[:-1])
        self.primitive_momenta = _ints(np.repeat(self.momenta, counts))
        per_atom = np.bincount(np.repeat(self.atoms, counts), minlength=natoms)
        self.first_of_atom = _ints(np.cumsum([0, *per_atom]))
        columns = np.repeat(self.first_function, counts)
        rows = [_ncartesian(int(angular)) for angular in self.primitive_momenta]
        self._first_row = np.cumsum([0, *rows])
        # a primitive's Cartesians belong to the functions of one shell
        places = [
            np.add(np.indices(block.shape).reshape(2, -1), [[row], [column]])
            for block, row, column in zip(blocks, self._first_row, columns, strict=False)
        ]
        self._matrix = csr_array(
            (self.coefficients, np.concatenate(places, 1)),
            shape=(self._first_row[-1], self.nfunctions),
        )

    def shell_arguments(self) -> tuple[object, ...]:
        """What the kernels of integrals read."""
        return (
            ctypes.c_int(len(self.shells)),
            ctypes.c_int(self.nfunctions),
            pointer(self.atoms, np.int32),
            pointer(self.momenta, np.int32),
            pointer(self.first_primitive, np.int32),
            pointer(self.first_function, np.int32),
            pointer(self.exponents),
            pointer(self.first_number, np.int32),
            pointer(self.coefficients),
        )

    def densities(
        self, coefficients: Float[np.ndarray, "nterms nfunctions"]
    ) -> tuple[Float[np.ndarray, " nnumbers"], Int[np.ndarray, " nprimitives"]]:
        """Densities in the primitives' Cartesians, primitive after primitive, and where each is."""
        nterms = len(coefficients)
        cartesian = self._matrix @ coefficients.T  # (nrows, nterms)
        bounds = self._first_row
        pieces = [cartesian[a:b].T.ravel() for a, b in pairwise(bounds)]
        return np.concatenate(pieces), _ints(nterms * bounds[:-1])


def _ints(values: object) -> Int[np.ndarray, "..."]:
    return np.ascontiguousarray(values, dtype=np.int32)


class CoulombKernels:
    """The Coulomb integrals of a molecule's orbitals with auxiliary functions.

    Args:
        orbitals: of the molecule.
        auxiliary: functions.
        charges: of the nuclei.
    """

    def __init__(
        self,
        orbitals: OrbitalTables,
        auxiliary: AuxiliaryTables,
        charges: Float[np.ndarray, " natoms"],
    ) -> None:
        self.orbitals, self.auxiliary = orbitals, auxiliary
        points = [
            AuxiliaryShell(
                atom=atom,
                angular=0,
                exponents=np.array([_POINT]),
                coefficients=np.array([(_POINT / np.pi) ** 1.5]),
            )
            for atom in range(len(charges))
        ]
        self._nuclei = AuxiliaryTables(len(charges), points)
        self._charges = charges

    @property
    def library(self) -> ctypes.CDLL:
        """The compiled kernels, no part of this object: it can be copied and sent elsewhere."""
        library = chosen().library
        assert library is not None
        return library

    def three_center(
        self, positions: Float[np.ndarray, "natoms 3"]
    ) -> Float[np.ndarray, "npair naux"]:
        """(mn|Q) (Hartree), m >= n packed by rows."""
        nao = self.orbitals.nao
        result = np.empty((nao * (nao + 1) // 2, self.auxiliary.nfunctions))
        call(
            self.library,
            "srdft_three_center",
            *self.orbitals.primitives(),
            *self.orbitals.contractions(),
            *self.auxiliary.shell_arguments(),
            pointer(positions),
            ctypes.c_int(thread_count()),
            pointer(result),
        )
        return result

    def metric(self, positions: Float[np.ndarray, "natoms 3"]) -> Float[np.ndarray, "naux naux"]:
        """(P|Q) (Hartree)."""
        result = np.empty((self.auxiliary.nfunctions, self.auxiliary.nfunctions))
        call(
            self.library,
            "srdft_metric",
            *self.auxiliary.shell_arguments(),
            pointer(positions),
            pointer(result),
        )
        return result

    def three_center_gradient(
        self,
        positions: Float[np.ndarray, "natoms 3"],
        matrices: Float[np.ndarray, "nterms nao nao"],
        coefficients: Float[np.ndarray, "nterms naux"],
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei of sum_k sum_mn,Q D^k_mn c^k_Q (mn|Q), D^k symmetric."""
        return self._gradient(positions, matrices, self.auxiliary, coefficients)

    def nuclear_gradient(
        self, positions: Float[np.ndarray, "natoms 3"], matrix: Float[np.ndarray, "nao nao"]
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei of sum_mn D_mn V_mn, V the attraction by the nuclei."""
        return self._gradient(positions, matrix[None], self._nuclei, -self._charges[None])

    def three_center_dense_gradient(
        self,
        positions: Float[np.ndarray, "natoms 3"],
        weights: Float[np.ndarray, "npair naux"],
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei of sum_m>=n,Q W_mnQ (mn|Q), packed as :meth:`three_center`."""
        gradient = np.zeros_like(positions)
        call(
            self.library,
            "srdft_three_center_dense_gradient",
            *self.orbitals.primitives(),
            *self.orbitals.contractions(),
            *self.auxiliary.shell_arguments(),
            pointer(positions),
            ctypes.c_int(thread_count()),
            pointer(weights),
            pointer(gradient),
        )
        return gradient

    def metric_gradient(
        self, positions: Float[np.ndarray, "natoms 3"], weights: Float[np.ndarray, "naux naux"]
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei of sum_PQ W_PQ (P|Q), W symmetric."""
        gradient = np.zeros_like(positions)
        call(
            self.library,
            "srdft_metric_gradient",
            *self.auxiliary.shell_arguments(),
            pointer(positions),
            pointer(weights),
            pointer(gradient),
        )
        return gradient

    def _gradient(
        self,
        positions: np.ndarray,
        matrices: np.ndarray,
        kets: AuxiliaryTables,
        coefficients: np.ndarray,
    ) -> np.ndarray:
        gradient = np.zeros_like(positions)
        for first in range(0, len(matrices), _TERMS):
            both = (matrices[first : first + _TERMS], coefficients[first : first + _TERMS])
            D, c = both if len(both[0]) == 1 else map(_padded, both)
            densities, numbers = kets.densities(c)
            cartesians = self.orbitals.cartesians
            primitive = np.array([cartesians.T @ each @ cartesians for each in D], order="C")
            call(
                self.library,
                "srdft_three_center_gradient",
                ctypes.c_int(len(D)),
                *self.orbitals.primitives(),
                pointer(primitive),
                pointer(kets.first_of_atom, np.int32),
                pointer(kets.primitive_momenta, np.int32),
                pointer(kets.exponents),
                pointer(numbers, np.int32),
                pointer(densities),
                pointer(positions),
                ctypes.c_int(thread_count()),
                pointer(gradient),
            )
        return gradient


def _padded(terms: np.ndarray) -> np.ndarray:
    """As many terms as the kernels take, the last ones zero."""
    missing = _TERMS - len(terms)
    return np.concatenate([terms, np.zeros((missing, *terms.shape[1:]))]) if missing else terms
