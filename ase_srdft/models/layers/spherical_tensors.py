"""Real spherical harmonics and the coupling of their angular momenta, double precision.

Order of components: m = -l ... l, for l = 1 that is (y, z, x).  A path (l1, l2, l) is *even* if
l1 + l2 + l is: it couples true tensors, of parity (-1)^l, to true tensors.  Odd paths give
pseudo-tensors.  schnetpack's own tables are rounded to float32; these are exact to rounding.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial, pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "component_slice",
    "coupling_table",
    "ncomponents",
    "real_clebsch_gordan",
    "spherical_harmonics",
]


def ncomponents(lmax: int) -> int:
    """(lmax + 1)^2."""
    return (lmax + 1) ** 2


def component_slice(angular: int) -> slice:
    """Where the components of l stand among all."""
    return slice(angular**2, (angular + 1) ** 2)


def _complex_clebsch_gordan(l1: int, m1: int, l2: int, m2: int, l3: int, m3: int) -> float:
    # Racah's closed form, for example Varshalovich 1988, equation 8.2.1 (3).
    if m1 + m2 != m3 or not abs(l1 - l2) <= l3 <= l1 + l2:
        return 0.0
    prefactor: float = (2 * l3 + 1) * factorial(l3 + l1 - l2) * factorial(l3 - l1 + l2)
    prefactor *= factorial(l1 + l2 - l3) / factorial(l1 + l2 + l3 + 1)
    for angular, m in ((l3, m3), (l1, m1), (l2, m2)):
        prefactor *= factorial(angular + m) * factorial(angular - m)
    total = 0.0
    for k in range(l1 + l2 - l3 + 1):
        arguments = [k, l1 + l2 - l3 - k, l1 - m1 - k, l2 + m2 - k]
        arguments += [l3 - l2 + m1 + k, l3 - l1 - m2 + k]
        if min(arguments) >= 0:
            total += (-1) ** k / np.prod([float(factorial(a)) for a in arguments])
    return float(sqrt(prefactor) * total)


def _real_from_complex(angular: int) -> np.ndarray:
    """Rows: real harmonics (m = -l ... l); columns: complex ones."""
    transform = np.zeros((2 * angular + 1, 2 * angular + 1), dtype=complex)
    transform[angular, angular] = 1.0
    for m in range(1, angular + 1):
        sign = (-1.0) ** m
        transform[angular + m, angular - m] = 1.0 / sqrt(2.0)
        transform[angular + m, angular + m] = sign / sqrt(2.0)
        transform[angular - m, angular - m] = 1j / sqrt(2.0)
        transform[angular - m, angular + m] = -1j * sign / sqrt(2.0)
    return transform


@lru_cache(maxsize=512)
def real_clebsch_gordan(l1: int, l2: int, l3: int) -> Float[np.ndarray, "n1 n2 n3"]:
    """Coefficients that couple l1 and l2 to l3; orthonormal over (m1, m2) for each m3."""
    table = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                coefficient = _complex_clebsch_gordan(l1, m1, l2, m2, l3, m1 + m2)
                table[m1 + l1, m2 + l2, m1 + m2 + l3] = coefficient
    left, right = _real_from_complex(l1), _real_from_complex(l2)
    out = _real_from_complex(l3)
    real = np.einsum("am,bn,co,mno->abc", left, right, out.conj(), table)
    # Odd paths come out imaginary: a common phase, i or -i, is a matter of convention.
    return np.ascontiguousarray(real.real if (l1 + l2 + l3) % 2 == 0 else real.imag)


@lru_cache(maxsize=16)
def coupling_table(lmax: int, parity: int) -> Float[np.ndarray, "n1 n2 n3"]:
    """All paths up to lmax of one parity (0: even, 1: odd) in one table."""
    size = ncomponents(lmax)
    table = np.zeros((size, size, size))
    for l1 in range(lmax + 1):
        for l2 in range(lmax + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, lmax) + 1):
                if (l1 + l2 + l3) % 2 == parity:
                    slices = component_slice(l1), component_slice(l2), component_slice(l3)
                    table[slices] = real_clebsch_gordan(l1, l2, l3)
    return table


def spherical_harmonics(
    directions: Float[Tensor, "npairs 3"], lmax: int
) -> Float[Tensor, "npairs ncomponents"]:
    """Real spherical harmonics of unit vectors, orthonormal on the sphere, differentiable.

    ``Y_lm = N_lm Pi_lm(z) {Re, Im}(x + iy)^|m|`` with Pi the associated Legendre functions
    without their powers of sin(theta), by upward recursion in l.
    """
    x, y, z = directions.unbind(-1)
    cosine, sine = [torch.ones_like(x)], [torch.zeros_like(x)]
    for _ in range(lmax):
        real, imaginary = cosine[-1], sine[-1]
        cosine.append(x * real - y * imaginary)
        sine.append(x * imaginary + y * real)
    legendre: dict[tuple[int, int], Tensor] = {}
    for m in range(lmax + 1):
        double_factorial = float(np.prod(np.arange(2 * m - 1, 0, -2, dtype=float)))
        legendre[m, m] = torch.full_like(z, double_factorial)
        for angular in range(m + 1, lmax + 1):
            value = (2 * angular - 1) * z * legendre[angular - 1, m]
            if angular >= m + 2:
                value = value - (angular + m - 1) * legendre[angular - 2, m]
            legendre[angular, m] = value / (angular - m)
    columns = []
    for angular in range(lmax + 1):
        for m in range(-angular, angular + 1):
            order = abs(m)
            norm = (2 * angular + 1) / (4 * pi)
            norm *= factorial(angular - order) / factorial(angular + order) * (2 if m else 1)
            azimuth = sine[order] if m < 0 else cosine[order]
            columns.append(sqrt(norm) * legendre[angular, order] * azimuth)
    return torch.stack(columns, -1)
