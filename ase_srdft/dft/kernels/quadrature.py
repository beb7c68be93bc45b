"""The grid kernels: E_xc, V_xc, and the adjoint of V_xc, on arrays of NumPy.

What they compute is what ``dft/xc/quadrature.py`` does in torch; the equations are in
``source/quadrature.cpp``.  No autograd here.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ase_srdft.dft.basis.element_basis import ElementBasis, element_basis
from ase_srdft.dft.kernels.arrays import call
from ase_srdft.dft.kernels.library import thread_count
from ase_srdft.dft.level_of_theory import Functional

__all__ = [
    "MAX_ANGULAR_MOMENTUM",
    "ORBITAL_CUTOFF",
    "EnergySums",
    "GridProblem",
    "PotentialGradient",
    "potential_gradient",
    "supports",
    "xc_energy",
    "xc_potential",
]

#: Highest angular momentum that the kernels evaluate.
MAX_ANGULAR_MOMENTUM = 3
#: A shell ends where its value, and d times its gradient, stay below this (Bohr^-3/2).
ORBITAL_CUTOFF = 1.0e-11
#: The terms of functionals in the order of ``source/functionals.hpp``.
_TERMS = ("slater", "vwn5", "vwn_rpa", "pbe_x", "pbe_c", "b88", "lyp")
_RADII = 3000  # where the extent of a shell is looked for

_IntPointer = ctypes.POINTER(ctypes.c_int32)
_DoublePointer = ctypes.POINTER(ctypes.c_double)


class _Table(ctypes.Structure):
    """A C struct of whole numbers and pointers that keeps its arrays alive."""

    @classmethod
    def of(cls, **values: Any) -> Any:
        """The struct with arrays converted to what the kernels read."""
        table = cls()
        table.arrays = []
        kinds: dict[str, Any] = dict(cls._fields_)  # type: ignore[arg-type]
        for name, value in values.items():
            if kinds[name] is _IntPointer or kinds[name] is _DoublePointer:
                dtype = np.int32 if kinds[name] is _IntPointer else np.float64
                array = np.ascontiguousarray(value, dtype=dtype)
                table.arrays.append(array)
                value = array.ctypes.data_as(kinds[name])
            setattr(table, name, value)
        return table


class _Basis(_Table):
    _fields_ = (
        ("natoms", ctypes.c_int32),
        ("nshells", ctypes.c_int32),
        ("nao", ctypes.c_int32),
        ("atom", _IntPointer),
        ("angular", _IntPointer),
        ("first_orbital", _IntPointer),
        ("first_coefficient", _IntPointer),
        ("exponent", _IntPointer),
        ("coefficients", _DoublePointer),
        ("first_exponent", _IntPointer),
        ("exponents", _DoublePointer),
        ("exponent_extents", _DoublePointer),
        ("shell_extents", _DoublePointer),
    )


class _Functional(_Table):
    _fields_ = (
        ("nterms", ctypes.c_int32),
        ("needs_gradient", ctypes.c_int32),
        ("terms", _IntPointer),
        ("weights", _DoublePointer),
    )


class _Geometries(_Table):
    _fields_ = (
        ("batch", ctypes.c_int32),
        ("nblocks", ctypes.c_int32),
        ("owners", _IntPointer),
        ("offsets", _DoublePointer),
        ("positions", _DoublePointer),
        ("weights", _DoublePointer),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class GridProblem:
    """Geometries of one molecule on their grid.

    Attributes:
        library: of compiled kernels.
        numbers: atomic numbers.
        basis: name of the basis set.
        functional: its semilocal part.
        owners: the atom that the points of each block of 128 move with.
        offsets: of the points from the atoms that they move with (Bohr), in blocks.
        positions: nuclei (Bohr).
        weights: of the points (Bohr^3).
        cutoff: orbitals below it are left out (`ORBITAL_CUTOFF`); zero to leave out none.
    """

    library: Any
    numbers: tuple[int, ...]
    basis: str
    functional: Functional
    owners: Int[np.ndarray, " nblocks"]
    offsets: Float[np.ndarray, "3 npoints"]
    positions: Float[np.ndarray, "batch natoms 3"]
    weights: Float[np.ndarray, "batch npoints"]
    cutoff: float = ORBITAL_CUTOFF

    def arguments(self) -> tuple[Any, ...]:
        """The three structs that each kernel reads."""
        functional = _Functional.of(
            nterms=len(self.functional.terms),
            needs_gradient=int(self.functional.needs_gradient),
            terms=[_TERMS.index(name) for name, _ in self.functional.terms],
            weights=[weight for _, weight in self.functional.terms],
        )
        geometries = _Geometries.of(
            batch=len(self.positions),
            nblocks=len(self.owners),
            owners=self.owners,
            offsets=self.offsets,
            positions=self.positions,
            weights=self.weights,
        )
        basis = _basis_table(self.numbers, self.basis, self.cutoff)
        return ctypes.byref(basis), ctypes.byref(functional), ctypes.byref(geometries)


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergySums:
    """E_xc and its derivatives.

    Attributes:
        energy: E_xc (Hartree).
        potential: V_xc = dE_xc/dP (Hartree).
        by_weight: e at each point (Hartree/Bohr^3).
        by_nucleus: dE_xc/dR at fixed P and weights, points moving with their owners
            (Hartree/Bohr); None where it was not asked for.
    """

    energy: Float[np.ndarray, " batch"]
    potential: Float[np.ndarray, "batch nao nao"]
    by_weight: Float[np.ndarray, "batch npoints"]
    by_nucleus: Float[np.ndarray, "batch natoms 3"] | None

    @property
    def derivatives(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """By P, weights and nuclei."""
        return self.potential, self.by_weight, self.by_nucleus


@dataclass(frozen=True, kw_only=True, eq=False)
class PotentialGradient:
    """The derivatives of Tr(W V_xc[P]).

    Attributes:
        by_matrix: by P.
        by_weight: by each point's weight.
        by_nucleus: by the nuclei at fixed P and weights, points moving with their owners; None
            where it was not asked for.
    """

    by_matrix: Float[np.ndarray, "batch nao nao"]
    by_weight: Float[np.ndarray, "batch npoints"]
    by_nucleus: Float[np.ndarray, "batch natoms 3"] | None

    @property
    def derivatives(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """By P, weights and nuclei."""
        return self.by_matrix, self.by_weight, self.by_nucleus


def supports(highest_angular_momentum: int, functional: Functional) -> bool:
    """Whether the kernels evaluate such shells and all terms of the functional."""
    terms = {name for name, _ in functional.terms}
    return highest_angular_momentum <= MAX_ANGULAR_MOMENTUM and terms <= set(_TERMS)


def xc_energy(
    problem: GridProblem, density_matrix: Float[np.ndarray, "batch nao nao"], *, moves: bool
) -> EnergySums:
    """E_xc[P] and V_xc[P].

    Args:
        problem: geometries, grid and functional.
        density_matrix: P, symmetric.
        moves: whether the derivative by the nuclei is wanted.
    """
    result = EnergySums(
        energy=np.empty(len(problem.positions)),
        potential=np.empty(density_matrix.shape),
        by_weight=np.empty(problem.weights.shape),
        by_nucleus=np.empty(problem.positions.shape) if moves else None,
    )
    outputs = (result.energy, result.potential, result.by_weight, result.by_nucleus)
    _call("srdft_xc_energy", problem, (density_matrix,), outputs)
    return result


def xc_potential(
    problem: GridProblem, density_matrix: Float[np.ndarray, "batch nao nao"]
) -> Float[np.ndarray, "batch nao nao"]:
    """V_xc[P] alone."""
    potential = np.empty(density_matrix.shape)
    _call("srdft_xc_energy", problem, (density_matrix,), (None, potential, None, None))
    return potential


def potential_gradient(
    problem: GridProblem,
    density_matrix: Float[np.ndarray, "batch nao nao"],
    cotangent: Float[np.ndarray, "batch nao nao"],
    *,
    moves: bool,
) -> PotentialGradient:
    """The adjoint of :func:`xc_potential`: derivatives of Tr(W V_xc[P]).

    Args:
        problem: geometries, grid and functional.
        density_matrix: P, symmetric.
        cotangent: W, symmetric.
        moves: whether the derivative by the nuclei is wanted.
    """
    result = PotentialGradient(
        by_matrix=np.empty(density_matrix.shape),
        by_weight=np.empty(problem.weights.shape),
        by_nucleus=np.empty(problem.positions.shape) if moves else None,
    )
    outputs = (result.by_matrix, result.by_weight, result.by_nucleus)
    _call("srdft_xc_potential_adjoint", problem, (density_matrix, cotangent), outputs)
    return result


def _call(
    name: str,
    problem: GridProblem,
    matrices: tuple[np.ndarray, ...],
    outputs: tuple[np.ndarray | None, ...],
) -> None:
    inputs = [np.ascontiguousarray(matrix, dtype=np.float64) for matrix in matrices]
    pointers = [array.ctypes.data_as(_DoublePointer) for array in inputs]
    results = [None if o is None else o.ctypes.data_as(_DoublePointer) for o in outputs]
    call(problem.library, name, *problem.arguments(), *pointers, thread_count(), *results)


@lru_cache(maxsize=64)
def _basis_table(numbers: tuple[int, ...], name: str, cutoff: float) -> Any:
    bases = [element_basis(name, number) for number in numbers]
    extents = [_extents(name, number, cutoff) for number in numbers]
    used = [basis.coefficients != 0.0 for basis in bases]
    first_exponent = np.cumsum([0, *(len(basis.exponents) for basis in bases)])
    angular = np.concatenate([basis.angular_momenta for basis in bases])
    sizes = np.concatenate([use.sum(1) for use in used])
    return _Basis.of(
        natoms=len(numbers),
        nshells=len(angular),
        nao=int(np.sum(2 * angular + 1)),
        atom=np.repeat(np.arange(len(bases)), [len(b.angular_momenta) for b in bases]),
        angular=angular,
        first_orbital=np.cumsum([0, *(2 * angular + 1)])[:-1],
        first_coefficient=np.cumsum([0, *sizes]),
        exponent=np.concatenate(
            [np.nonzero(use)[1] + start for use, start in zip(used, first_exponent, strict=False)]
        ),
        coefficients=np.concatenate(
            [basis.coefficients[use] for basis, use in zip(bases, used, strict=True)]
        ),
        first_exponent=first_exponent,
        exponents=np.concatenate([basis.exponents for basis in bases]),
        exponent_extents=np.concatenate([primitive for primitive, _ in extents]),
        shell_extents=np.concatenate([shell for _, shell in extents]),
    )


@lru_cache(maxsize=256)
def _extents(
    name: str, number: int, cutoff: float
) -> tuple[Float[np.ndarray, " nprimitive"], Float[np.ndarray, " nshell"]]:
    """Squared distances (Bohr^2) beyond which primitives and shells are nothing.

    With R_k the k-th derivative of a shell's radial part, the largest of |R_k| d^k max(d, 1)^l,
    k = 0, 1, 2, is below the cutoff there, and a hundredth of it for a primitive, which ends
    among others that do not.
    """
    basis: ElementBasis = element_basis(name, number)
    nprimitive, nshell = len(basis.exponents), len(basis.angular_momenta)
    if cutoff == 0.0:
        return np.full(nprimitive, np.inf), np.full(nshell, np.inf)
    squares = np.linspace(0.0, np.sqrt(100.0 / basis.exponents.min()), _RADII) ** 2
    powers = np.maximum(squares, 1.0) ** (0.5 * np.array(basis.angular_momenta)[:, None])
    primitives = np.exp(-basis.exponents[:, None] * squares)
    primitive_size = np.zeros((nprimitive, _RADII))
    shell_size = np.zeros((nshell, _RADII))
    for k in range(3):
        terms = primitives * (2.0 * basis.exponents[:, None] * squares) ** k
        np.maximum(shell_size, np.abs(basis.coefficients @ terms) * powers, out=shell_size)
        single = np.abs(basis.coefficients)[:, :, None] * terms * powers[:, None]
        np.maximum(primitive_size, single.max(0), out=primitive_size)
    return _last(primitive_size > 0.01 * cutoff, squares), _last(shell_size > cutoff, squares)


def _last(counts: np.ndarray, squares: Float[np.ndarray, " nradii"]) -> Float[np.ndarray, " nrows"]:
    """The square just beyond the last one that counts, row by row."""
    beyond = counts.shape[1] - np.argmax(counts[:, ::-1], axis=1)
    return np.where(counts.any(1), squares[np.minimum(beyond, counts.shape[1] - 1)], 0.0)
