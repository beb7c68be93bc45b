"""Exact exchange, by density fitting or from four-centre integrals.

Fitted (:mod:`ase_srdft.dft.integrals.fitted_exchange`), all is done on the eigenvectors of the
density matrix, derivatives too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import claimed, laid_down
from ase_srdft.dft.integrals.cotangent_tape import ExchangeCotangent
from ase_srdft.dft.integrals.fitted_exchange import (
    FittedExchange,
    dense_cotangents,
    eigenvectors,
    exchange_of_geometry,
    half_transformed,
)
from ase_srdft.dft.integrals.provider import Integrals
from ase_srdft.dft.kernels.library import wide_loops

__all__ = ["exchange_energy", "exchange_matrix", "exchange_on_occupied", "repeated_exchange"]


class _FittedExchangeMatrix(torch.autograd.Function):
    """K[P], and Tr P K[P] where the matrix itself is detached.

    Derivatives by the nuclei are left in the slots where there are any, and are arrays otherwise.
    """

    @staticmethod
    def forward(
        ctx: Any,
        matrix: Tensor,
        slots: Tensor | None,
        three_center: Tensor,
        metric: Tensor | None,
        factor: Tensor,
        traced: bool,
    ) -> tuple[Tensor, Tensor] | Tensor:
        with wide_loops(matrix.shape[-1]):
            every = zip(three_center, factor, matrix, strict=True)
            found = [FittedExchange.of(*each) for each in every]
            exchange = torch.stack([each.matrix() for each in found])
        ctx.claims = claimed(slots, ctx.needs_input_grad[1])
        ctx.by_integrals = bool(ctx.claims) or ctx.needs_input_grad[2]
        ctx.traced = traced
        needed = not traced or ctx.by_integrals
        ctx.found = found if needed else []
        ctx.save_for_backward(slots, three_center if not traced else None, exchange)
        if not traced:
            return exchange
        ctx.mark_non_differentiable(exchange)
        return (matrix * exchange).sum((1, 2)), exchange

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        slots, three_center, exchange = ctx.saved_tensors
        scale, found = cotangents[0], ctx.found
        with wide_loops(exchange.shape[-1]):
            if ctx.traced:
                by_matrix = 2.0 * scale[:, None, None] * exchange
                terms = []
                if ctx.by_integrals:
                    terms = [own.pulled_energy(by) for own, by in zip(found, scale, strict=True)]
            else:
                weights = 0.5 * (scale + scale.transpose(-1, -2))
                turned = [own.turned(by) for own, by in zip(found, weights, strict=True)]
                half = [own.by_half(each) for own, each in zip(found, turned, strict=True)]
                by_matrix = None
                if ctx.needs_input_grad[0]:
                    every = zip(found, three_center, half, strict=True)
                    by_matrix = torch.stack([own.by_matrix(*each) for own, *each in every])
                terms = []
                if ctx.by_integrals:
                    every = zip(found, turned, half, strict=True)
                    terms = [own.pulled(*each) for own, *each in every]
            if not ctx.by_integrals:
                return by_matrix, None, None, None, None, None
            if ctx.claims:
                return by_matrix, laid_down(slots, ctx.claims, terms), None, None, None, None
            by_three, by_metric = _stacked(terms)
        return by_matrix, None, by_three.to(scale), by_metric.to(scale), None, None


def _stacked(terms: Sequence[ExchangeCotangent]) -> tuple[Tensor, Tensor]:
    """Cotangents of (mn|Q) and of the metric, of one geometry after the other."""
    dense = [dense_cotangents([term]) for term in terms]
    by_three = torch.stack([torch.from_numpy(three) for three, _ in dense])
    return by_three, torch.stack([torch.from_numpy(metric) for _, metric in dense])


def _fitted(integrals: Integrals, density_matrix: Tensor, traced: bool) -> Any:
    slots, metric = integrals.cotangent_slots, integrals.metric
    three_center = integrals.three_center
    assert three_center is not None
    if slots is not None:
        three_center, metric = three_center.detach(), None
    return _FittedExchangeMatrix.apply(  # type: ignore[no-untyped-call]
        density_matrix, slots, three_center, metric, integrals.metric_factor, traced
    )


def exchange_energy(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch nao nao"]]:
    """Tr P K[P] (Hartree), differentiable by P and the nuclei, and K[P], detached."""
    if integrals.four_center is not None:
        exchange = exchange_matrix(integrals, density_matrix)
        return (density_matrix * exchange).sum((1, 2)), exchange.detach()
    pair: tuple[Tensor, Tensor] = _fitted(integrals, density_matrix, traced=True)
    return pair


def exchange_matrix(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """K[P]_mn = sum_ls (ml|sn) P_ls (Hartree), differentiable by P and the nuclei.

    Fitted, the derivative by P is that along changes which keep P's rank, as those of a density
    matrix of so many orbitals do.
    """
    exchange: Tensor
    if integrals.four_center is not None:
        # (ml|sn) in the order it lies in memory: an einsum would copy it, at ten times the time
        rows = density_matrix.flatten(1)[:, None, None]
        exchange = (rows @ integrals.four_center.flatten(2, 3))[:, :, 0]
    else:
        exchange = _fitted(integrals, density_matrix, traced=False)
    return exchange


@torch.no_grad()
def repeated_exchange(
    integrals: Integrals, matrices: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """K (Hartree) of symmetric matrices, for who asks for many: the fit is orthogonalised once."""
    if integrals.four_center is not None:
        return exchange_matrix(integrals, matrices)
    every = zip(integrals.orthogonalised, matrices, strict=True)
    with wide_loops(matrices.shape[-1]):
        return torch.stack([exchange_of_geometry(*each) for each in every])


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
    half = half_transformed(three_center, single)  # (mk|Q)
    pairs = (single.T @ half.flatten(1)).unflatten(1, half.shape[1:])  # (ik|Q)
    rows, columns = torch.tril_indices(rank, rank, device=matrix.device)
    solved = torch.cholesky_solve(pairs[rows, columns].to(matrix).T, factor).T.float()
    pairs[rows, columns] = solved
    pairs[columns, rows] = solved
    turned = half.flatten(1) @ pairs.flatten(1).T
    result: Tensor = turned.to(matrix) @ vectors.T
    return result
