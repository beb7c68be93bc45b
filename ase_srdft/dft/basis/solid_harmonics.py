"""Real solid harmonics up to l = 3 of vectors d, and sums over their derivatives.

Components are in PySCF's order: x, y, z for l = 1, m = -l ... l beyond.  d and f harmonics are
normalised on the unit sphere; those of s and p are 1 and d, and their constant factors are folded
into the contraction coefficients (``ElementBasis.coefficients``).

A harmonic of l = 2 is a quadratic form, ``Y_m = d^T Q_m d``.  The derivatives of one of l = 3 are
harmonics of l = 2, ``dY_m/dd_a = sum_k G_amk Y_k``, and ``Y_m = d . grad Y_m / 3`` (Euler's
theorem on homogeneous functions), so that all of l = 3 follows from G and l = 2.

Arrays of vectors are (batch, natoms, 3, npoints), of components (batch, natoms, 2l+1, npoints).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["directional_derivative", "harmonics", "weighted_gradient", "weighted_hessian"]

# Each row is a flattened Q_m, in the order xy, yz, z2, xz, x2-y2 (m = -2 ... 2).
_D_XY = 1.092548430592079070 / 2.0
_D_Z2 = 0.315391565252520002
_D_X2 = 0.546274215296039535
_QUADRATIC_FORMS = torch.tensor(
    [
        [0.0, _D_XY, 0.0, _D_XY, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, _D_XY, 0.0, _D_XY, 0.0],
        [-_D_Z2, 0.0, 0.0, 0.0, -_D_Z2, 0.0, 0.0, 0.0, 2.0 * _D_Z2],
        [0.0, 0.0, _D_XY, 0.0, 0.0, 0.0, _D_XY, 0.0, 0.0],
        [_D_X2, 0.0, 0.0, 0.0, -_D_X2, 0.0, 0.0, 0.0, 0.0],
    ],
    dtype=torch.float64,
    device="cpu",  # whatever the default is where this is imported
)
# G_a has rows y(3x2-y2), xyz, y(5z2-r2), z(5z2-3r2), x(5z2-r2), z(x2-y2), x(x2-3y2) (m = -3 ... 3)
# and columns as above, from the polynomials: d(xyz)/dx = yz, say, times the ratio of the two
# normalisations, sqrt(7).  Each element is written as its square with the sign of the element.
_SIGNED_SQUARES = torch.tensor(
    [
        [  # d/dx
            [10.5, 0.0, 0.0, 0.0, 0.0],
            [0.0, 7.0, 0.0, 0.0, 0.0],
            [-0.7, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, -4.2, 0.0],
            [0.0, 0.0, 8.4, 0.0, -0.7],
            [0.0, 0.0, 0.0, 7.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 10.5],
        ],
        [  # d/dy
            [0.0, 0.0, 0.0, 0.0, 10.5],
            [0.0, 0.0, 0.0, 7.0, 0.0],
            [0.0, 0.0, 8.4, 0.0, 0.7],
            [0.0, -4.2, 0.0, 0.0, 0.0],
            [-0.7, 0.0, 0.0, 0.0, 0.0],
            [0.0, -7.0, 0.0, 0.0, 0.0],
            [-10.5, 0.0, 0.0, 0.0, 0.0],
        ],
        [  # d/dz
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [7.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 11.2, 0.0, 0.0, 0.0],
            [0.0, 0.0, 12.6, 0.0, 0.0],
            [0.0, 0.0, 0.0, 11.2, 0.0],
            [0.0, 0.0, 0.0, 0.0, 7.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
        ],
    ],
    dtype=torch.float64,
    device="cpu",
)
_DERIVATIVES_OF_F = _SIGNED_SQUARES.sign() * _SIGNED_SQUARES.abs().sqrt()  # G, (3, 7, 5)


def harmonics(angular: int, displacements: Tensor) -> Tensor:
    """Y of each d, for l >= 1."""
    if angular == 1:
        return displacements
    if angular == 2:
        return _quadratic(displacements, displacements)
    return directional_derivative(3, displacements, displacements) / 3.0


def directional_derivative(angular: int, displacements: Tensor, vector: Tensor) -> Tensor:
    """v . grad Y, for l >= 1; the atoms of v may be one for all."""
    if angular == 1:
        return vector
    if angular == 2:
        return 2.0 * _quadratic(displacements, vector)
    table = _DERIVATIVES_OF_F.to(displacements.device).flatten(0, 1)
    slopes = (table @ _quadratic(displacements, displacements)).unflatten(2, (3, 7))
    result: Tensor = (slopes * vector[:, :, :, None]).sum(2)
    return result


def weighted_gradient(angular: int, displacements: Tensor, weights: Tensor) -> Tensor:
    """sum_m w_m grad Y_m, for l >= 1."""
    if angular == 1:
        return weights
    if angular == 2:
        return _weighted_quadratic(displacements, weights)
    harmonics_of_d = _quadratic(displacements, displacements)
    gradient: Tensor = (_weights_of_d(weights) * harmonics_of_d[:, :, None]).sum(3)
    return gradient


def weighted_hessian(angular: int, displacements: Tensor, weights: Tensor, v: Tensor) -> Tensor:
    """sum_m w_m Y_m'' v, for l >= 2; the atoms of v may be one for all."""
    if angular == 2:
        return _weighted_quadratic(v, weights)
    along = (_weights_of_d(weights) * v[:, :, :, None]).sum(2)
    return _weighted_quadratic(displacements, along)


def _quadratic(left: Tensor, right: Tensor) -> Tensor:
    """a^T Q_m b, (batch, natoms, 5, npoints)."""
    products = (left[:, :, :, None] * right[:, :, None]).flatten(2, 3)
    return _QUADRATIC_FORMS.to(left.device) @ products


def _weighted_quadratic(vector: Tensor, weights: Tensor) -> Tensor:
    """2 sum_m w_m Q_m v, (batch, natoms, 3, npoints)."""
    forms = _QUADRATIC_FORMS.T.to(weights.device)
    matrices = (2.0 * forms @ weights).unflatten(2, (3, 3))
    result: Tensor = (matrices * vector[:, :, None]).sum(3)
    return result


def _weights_of_d(weights: Tensor) -> Tensor:
    """sum_m w_m G_amk, (batch, natoms, 3, 5, npoints)."""
    table = _DERIVATIVES_OF_F.transpose(1, 2).flatten(0, 1).to(weights.device)
    result: Tensor = (table @ weights).unflatten(2, (3, 5))
    return result
