"""Coulomb and exact-exchange matrices, by density fitting or from four-centre integrals."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.integrals.provider import Integrals

__all__ = ["coulomb_matrix", "exchange_matrix", "from_lower_triangle", "lower_triangle"]


def lower_triangle(matrix: Float[Tensor, "batch n n"]) -> Float[Tensor, "batch npair"]:
    """The lower triangle by rows."""
    rows, columns = torch.tril_indices(matrix.shape[-1], matrix.shape[-1], device=matrix.device)
    return matrix[:, rows, columns]


def from_lower_triangle(packed: Tensor, n: int) -> Tensor:
    """Symmetric matrices (batch, n, n, ...) from lower triangles (batch, npair, ...)."""
    index = torch.empty((n, n), dtype=torch.long, device=packed.device)
    rows, columns = torch.tril_indices(n, n, device=packed.device)
    numbering = torch.arange(len(rows), device=packed.device)
    index[rows, columns] = numbering
    index[columns, rows] = numbering
    return packed[:, index]


class _MetricSolve(torch.autograd.Function):
    """c = V^-1 b by Cholesky; the derivative needs the solution only."""

    @staticmethod
    def forward(ctx: Any, metric: Tensor, rhs: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(metric)
        solution = torch.cholesky_solve(rhs, factor)
        ctx.save_for_backward(factor, solution)
        return solution

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor]:
        factor, solution = ctx.saved_tensors
        by_rhs = torch.cholesky_solve(cotangents[0], factor)
        return -by_rhs @ solution.transpose(-1, -2), by_rhs


def coulomb_matrix(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """J[P]_mn = sum_ls (mn|ls) P_ls (Hartree); fitted: sum_Q (mn|Q) c_Q, V c = (Q|P)."""
    nao = density_matrix.shape[-1]
    if integrals.four_center is not None:
        flat = integrals.four_center.flatten(3, 4).flatten(1, 2)
        coulomb: Tensor = (flat @ density_matrix.flatten(1, 2)[..., None])[..., 0]
        return coulomb.reshape(-1, nao, nao)
    assert integrals.three_center is not None
    assert integrals.metric is not None
    # off the diagonal a packed element stands for two
    doubled = 2.0 * density_matrix - torch.diag_embed(density_matrix.diagonal(dim1=1, dim2=2))
    projected = integrals.three_center.transpose(1, 2) @ lower_triangle(doubled)[..., None]
    fitted = _MetricSolve.apply(integrals.metric, projected)  # type: ignore[no-untyped-call]
    return from_lower_triangle((integrals.three_center @ fitted)[..., 0], nao)


def exchange_matrix(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """K[P]_mn = sum_ls (ml|sn) P_ls (Hartree); fitted: sum_Q B_mlQ P_ls B_nsQ, B B^T = (ml|sn).

    B = (ml|Q) L^-T, where L L^T = V is the Cholesky decomposition of the metric.
    """
    nao = density_matrix.shape[-1]
    if integrals.four_center is not None:
        return torch.einsum("zmlsn,zls->zmn", integrals.four_center, density_matrix)
    assert integrals.three_center is not None
    assert integrals.metric is not None
    factor = torch.linalg.cholesky(integrals.metric).transpose(1, 2)
    packed = torch.linalg.solve_triangular(factor, integrals.three_center, upper=True, left=False)
    fitted = from_lower_triangle(packed, nao)  # B, (batch, nao, nao, naux)
    half = density_matrix.transpose(1, 2)[:, None] @ fitted  # sum_l P_ls B_mlQ, m first
    return half.flatten(2) @ fitted.flatten(2).transpose(1, 2)
