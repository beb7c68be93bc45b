"""Fitted exchange of one geometry, and its derivative by the integrals.

K[P] = sum_Q B_Q P B_Q with B = (mn|Q) L^-T, L L^T = V the Cholesky decomposition of the metric.
Y = Tr(W K[P]) has by B_Q the derivative Z_Q + Z_Q^T, Z_Q = W B_Q P; by (mn|Q) the same times L^-1,
and by the metric -L^-T N L^-1 with N_QR = sum_mn B_mnQ Z_mnR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.integrals.cotangent_tape import ExchangeCotangent
from ase_srdft.dft.integrals.packed_pairs import triangle_index

__all__ = ["eigenvectors", "exchange_of_geometry", "pulled_through_exchange"]


#: Eigenvalues of a matrix below this part of its largest are zero.
_NEGLIGIBLE = 1.0e-12
#: Numbers of B that are unpacked at a time, so that they stay in a core's cache, but at least so
#: many columns.
_NUMBERS, _FEWEST = 200_000, 48


def eigenvectors(
    matrix: Float[Tensor, "nao nao"],
) -> tuple[Float[Tensor, "nao rank"], Float[Tensor, " rank"]]:
    """x and s with P = sum_k s_k x_k x_k^T, s_k = 1 or -1."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values.abs() > _NEGLIGIBLE * values.abs().max()
    values = values[kept]
    return vectors[:, kept] * values.abs().sqrt(), values.sign()


def _blocks(
    packed: Float[Tensor, "npair naux"], nao: int
) -> Iterator[tuple[slice, Float[Tensor, "nao nao nblock"]]]:
    """Some columns of B after the other, unpacked."""
    index = triangle_index(nao, packed.device)
    step = max(_FEWEST, _NUMBERS // nao**2)
    for first in range(0, packed.shape[1], step):
        columns = slice(first, first + step)
        yield columns, packed[:, columns][index]


def exchange_of_geometry(
    packed: Float[Tensor, "npair naux"], matrix: Float[Tensor, "nao nao"]
) -> Float[Tensor, "nao nao"]:
    """K of a symmetric matrix (Hartree) from B, m >= n packed by rows."""
    vectors, signs = eigenvectors(matrix)
    exchange = torch.zeros_like(matrix)
    for _, fitted in _blocks(packed, len(matrix)):
        half = vectors.T @ fitted  # sum_l x_lk B_mlQ, m first
        exchange += (signs[:, None] * half).flatten(1) @ half.flatten(1).T
    return exchange


def pulled_through_exchange(
    cotangents: Sequence[ExchangeCotangent],
) -> tuple[Float[np.ndarray, "npair naux"], Float[np.ndarray, "naux naux"]]:
    """Of nodes of one geometry together: cotangents of (mn|Q), m >= n packed by rows, and of V."""
    packed, factor = cotangents[0].fitted, cotangents[0].metric_factor
    nao = len(cotangents[0].matrix)
    parts = [(own.weights, *eigenvectors(own.matrix)) for own in cotangents]
    rows, columns = torch.tril_indices(nao, nao)
    # off the diagonal a packed element stands for two
    counts = torch.where(rows == columns, 1.0, 2.0).to(packed.dtype)[:, None]
    by_packed = torch.empty_like(packed)
    for block, fitted in _blocks(packed, nao):
        by_fitted = torch.zeros_like(fitted)  # Z
        for weights, vectors, signs in parts:
            half = vectors.T @ fitted
            turned = (weights @ half.flatten(1)).unflatten(1, half.shape[1:])
            by_fitted += (vectors * signs) @ turned
        by_packed[:, block] = counts * (by_fitted[rows, columns] + by_fitted[columns, rows])
    three_center = torch.linalg.solve_triangular(factor, by_packed, upper=False, left=False)
    inner = packed.T @ three_center  # 2 N L^-1
    metric = -0.5 * torch.linalg.solve_triangular(factor.T, inner, upper=True)
    return three_center.numpy(), (0.5 * (metric + metric.T)).numpy()
