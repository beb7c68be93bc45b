"""Exact exchange, by density fitting or from four-centre integrals.

Fitted, K[P]_mn = sum_Q B_mlQ P_ls B_nsQ with B = (ml|Q) L^-T and L L^T = V, the Cholesky
decomposition of the metric.  A density matrix has far fewer eigenvectors with an eigenvalue other
than zero than there are orbitals: with P = sum_k s_k x_k x_k^T, s_k = 1 or -1, it is
K_mn = sum_kQ s_k B_mkQ B_nkQ with B_mkQ = sum_l x_lk B_mlQ, a fraction of the work.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import claimed, laid_down
from ase_srdft.dft.integrals.cotangent_tape import ArrayCotangent, ExchangeCotangent
from ase_srdft.dft.integrals.fitted_exchange import eigenvectors, exchange_of_geometry
from ase_srdft.dft.integrals.packed_pairs import from_lower_triangle, triangle_index
from ase_srdft.dft.integrals.provider import Integrals
from ase_srdft.dft.kernels.library import wide_loops

__all__ = ["exchange_energy", "exchange_matrix", "exchange_on_occupied", "repeated_exchange"]

#: Numbers of (mn|Q) that are worked on at a time: they stay in a core's cache.
_CHUNK = 200_000


def _half_transformed(
    three_center: Float[Tensor, "npair naux"], vectors: Float[Tensor, "nao rank"]
) -> Float[Tensor, "nao rank naux"]:
    """sum_l x_lk (ml|Q), in the precision of x."""
    nao, rank = vectors.shape
    naux = three_center.shape[1]
    index = triangle_index(nao, three_center.device)
    result = vectors.new_empty((nao, rank, naux))
    step = max(1, _CHUNK // (nao * naux))
    for first in range(0, nao, step):
        rows = three_center[index[first : first + step]]  # (step, nao, naux)
        result[first : first + step] = vectors.T @ rows.to(vectors)
    return result


def _fitted_exchange(
    three_center: Float[Tensor, "npair naux"],
    factor: Float[Tensor, "naux naux"],
    matrix: Float[Tensor, "nao nao"],
) -> tuple[Float[Tensor, "nao nao"], tuple[Tensor, Tensor, Tensor]]:
    """K[P]; and B_mkQ with x and s."""
    vectors, signs = eigenvectors(matrix)
    half = _half_transformed(three_center, vectors)
    # one matrix for the solver, not one for each orbital; transposed, it is in BLAS's own order
    columns = half.flatten(0, 1).T
    fitted = torch.linalg.solve_triangular(factor, columns, upper=False).T.reshape(half.shape)
    signed = fitted if bool((signs > 0).all()) else signs[:, None] * fitted
    exchange = signed.flatten(1) @ fitted.flatten(1).T
    return exchange, (fitted, vectors, signs)


class _FittedExchangeEnergy(torch.autograd.Function):
    """Tr P K[P], and K, detached.

    With b_klQ = sum_m x_mk B_mlQ it is sum_kl s_k s_l b_kl^2: by P it is 2 K, and with
    c_kl = L^-T b_kl by (mn|Q) 2 sum_kl s_k s_l x_mk x_nl c_klQ, by the metric
    -sum_kl s_k s_l c_kl c_kl^T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        matrix: Tensor,
        slots: Tensor | None,
        three_center: Tensor,
        metric: Tensor | None,
        factor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        with wide_loops(matrix.shape[-1]):
            every = zip(three_center, factor, matrix, strict=True)
            found = [_fitted_exchange(*each) for each in every]
        exchange = torch.stack([each for each, _ in found])
        ctx.mark_non_differentiable(exchange)
        ctx.claims = claimed(slots, ctx.needs_input_grad[1])
        ctx.by_integrals = bool(ctx.claims) or ctx.needs_input_grad[2]
        ctx.save_for_backward(exchange, slots, factor)
        ctx.parts = [part for _, part in found] if ctx.by_integrals else []
        return (matrix * exchange).sum((1, 2)), exchange

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        exchange, slots, factor = ctx.saved_tensors
        scale = cotangents[0]
        by_matrix = 2.0 * scale[:, None, None] * exchange
        if not ctx.by_integrals:
            return by_matrix, None, None, None, None
        with wide_loops(exchange.shape[-1]):
            gradients = [
                [times * each for each in _by_integrals(own, *part)]
                for times, own, part in zip(scale, factor, ctx.parts, strict=True)
            ]
        if ctx.claims:
            terms = [
                ArrayCotangent(three_center=by_three.cpu().numpy(), metric=by_metric.cpu().numpy())
                for by_three, by_metric in gradients
            ]
            return by_matrix, laid_down(slots, ctx.claims, terms), None, None, None
        by_three, by_metric = map(torch.stack, zip(*gradients, strict=True))
        return by_matrix, None, by_three, by_metric, None


class _TapedExchange(torch.autograd.Function):
    """K[P], its derivative by the nuclei left in the slots."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, slots: Tensor, fitted: Tensor, factor: Tensor) -> Tensor:
        ctx.claims = claimed(slots, ctx.needs_input_grad[1])
        ctx.save_for_backward(matrix, slots, fitted, factor)
        return _exchange(fitted, matrix)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        matrix, slots, fitted, factor = ctx.saved_tensors
        weights = 0.5 * (cotangents[0] + cotangents[0].transpose(-1, -2))
        by_matrix = _exchange(fitted, weights) if ctx.needs_input_grad[0] else None
        if not ctx.claims:
            return by_matrix, None, None, None
        terms = [
            ExchangeCotangent(weights=own[0], matrix=own[1], fitted=own[2], metric_factor=own[3])
            for own in zip(weights.cpu(), matrix.cpu(), fitted.cpu(), factor.cpu(), strict=True)
        ]
        return by_matrix, laid_down(slots, ctx.claims, terms), None, None


def _exchange(fitted: Tensor, matrices: Tensor) -> Float[Tensor, "batch nao nao"]:
    """K of symmetric matrices from packed B, of one geometry after the other."""
    every = zip(fitted, matrices, strict=True)
    with wide_loops(matrices.shape[-1]):
        return torch.stack([exchange_of_geometry(*each) for each in every])


def _by_integrals(
    factor: Float[Tensor, "naux naux"],
    fitted: Float[Tensor, "nao rank naux"],
    vectors: Float[Tensor, "nao rank"],
    signs: Float[Tensor, " rank"],
) -> tuple[Float[Tensor, "npair naux"], Float[Tensor, "naux naux"]]:
    """Derivatives of Tr P K[P] by (mn|Q), packed, and by the metric."""
    nao, rank, naux = fitted.shape
    pairs = (vectors.T @ fitted.flatten(1)).reshape(rank * rank, naux)  # b_kl
    solved = torch.linalg.solve_triangular(factor, pairs, upper=False, left=False)  # b L^-1
    weighted = (signs[:, None] * signs).reshape(-1, 1) * solved
    by_metric = -solved.T @ weighted
    half = (vectors @ weighted.reshape(rank, -1)).reshape(nao, rank, naux)
    by_three = fitted.new_empty((nao * (nao + 1) // 2, naux))
    for row in range(nao):
        start = row * (row + 1) // 2
        own = by_three[start : start + row + 1]
        # packed elements off the diagonal stand for two; symmetric, as b_kl is
        torch.mm(vectors[: row + 1], 4.0 * half[row], out=own)
        own[-1] *= 0.5
    return by_three, by_metric


def exchange_energy(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch nao nao"]]:
    """Tr P K[P] (Hartree), differentiable by P and the nuclei, and K[P], detached."""
    if integrals.four_center is not None:
        exchange = exchange_matrix(integrals, density_matrix)
        return (density_matrix * exchange).sum((1, 2)), exchange.detach()
    slots, three_center, metric = (
        integrals.cotangent_slots,
        integrals.three_center,
        integrals.metric,
    )
    if slots is not None and three_center is not None:
        three_center, metric = three_center.detach(), None
    pair: tuple[Tensor, Tensor] = _FittedExchangeEnergy.apply(  # type: ignore[no-untyped-call]
        density_matrix, slots, three_center, metric, integrals.metric_factor
    )
    return pair


def exchange_matrix(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """K[P]_mn = sum_ls (ml|sn) P_ls (Hartree), differentiable by P and the nuclei."""
    nao = density_matrix.shape[-1]
    if integrals.four_center is not None:
        # (ml|sn) in the order it lies in memory: an einsum would copy it, at ten times the time
        rows = density_matrix.flatten(1)[:, None, None]
        exchange: Tensor = (rows @ integrals.four_center.flatten(2, 3))[:, :, 0]
        return exchange
    three_center, factor = integrals.three_center, integrals.metric_factor
    assert three_center is not None
    assert factor is not None
    differentiated = (density_matrix, three_center, integrals.metric)
    if not torch.is_grad_enabled() or not any(
        tensor is not None and tensor.requires_grad for tensor in differentiated
    ):
        every = zip(three_center, factor, density_matrix, strict=True)
        with wide_loops(nao):
            return torch.stack([_fitted_exchange(*each)[0] for each in every])
    if integrals.cotangent_slots is not None:
        exchange = _TapedExchange.apply(  # type: ignore[no-untyped-call]
            density_matrix, integrals.cotangent_slots, integrals.orthogonalised, factor
        )
        return exchange
    if integrals.metric is not None:
        factor = torch.linalg.cholesky(integrals.metric)  # to be differentiated
    upper = factor.transpose(1, 2)
    packed = torch.linalg.solve_triangular(upper, three_center, upper=True, left=False)
    fitted = from_lower_triangle(packed, nao)  # B, (batch, nao, nao, naux)
    half = density_matrix.transpose(1, 2)[:, None] @ fitted  # sum_l P_ls B_mlQ, m first
    return half.flatten(2) @ fitted.flatten(2).transpose(1, 2)


@torch.no_grad()
@torch.no_grad()
def repeated_exchange(
    integrals: Integrals, matrices: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """K (Hartree) of symmetric matrices, for who asks for many: the fit is orthogonalised once."""
    if integrals.four_center is not None:
        return exchange_matrix(integrals, matrices)
    return _exchange(integrals.orthogonalised, matrices)


def exchange_on_occupied(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """K[P] P, what exact exchange does to the occupied orbitals, for half the work of K[P] or less.

    Only products of two occupied orbitals need the metric: K x_i = sum_kQ (mk|Q) c_kiQ with
    V c_ki = (Q|ki).  The rest is in single precision: off by less than 1e-6 of it.

    Args:
        integrals: at the nuclei.
        density_matrix: P of occupied orbitals (no negative eigenvalue).
    """
    if integrals.four_center is not None:
        return exchange_matrix(integrals, density_matrix) @ density_matrix
    assert integrals.three_center is not None
    assert integrals.metric_factor is not None
    every = zip(integrals.three_center, integrals.metric_factor, density_matrix, strict=True)
    with wide_loops(density_matrix.shape[-1]):
        return torch.stack([_fitted_on_occupied(*each) for each in every])


def _fitted_on_occupied(
    three_center: Float[Tensor, "npair naux"],
    factor: Float[Tensor, "naux naux"],
    matrix: Float[Tensor, "nao nao"],
) -> Float[Tensor, "nao nao"]:
    vectors, _ = eigenvectors(matrix)
    rank, single = vectors.shape[1], vectors.float()
    half = _half_transformed(three_center, single)  # (mk|Q)
    pairs = (single.T @ half.flatten(1)).unflatten(1, half.shape[1:])  # (ik|Q)
    rows, columns = torch.tril_indices(rank, rank, device=matrix.device)
    solved = torch.cholesky_solve(pairs[rows, columns].to(matrix).T, factor).T.float()
    pairs[rows, columns] = solved
    pairs[columns, rows] = solved
    turned = half.flatten(1) @ pairs.flatten(1).T
    result: Tensor = turned.to(matrix) @ vectors.T
    return result
