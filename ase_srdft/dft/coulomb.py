"""Coulomb matrices, by density fitting or from four-centre integrals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.integrals.cotangent_tape import Cotangent, CoulombCotangent, tape_of
from ase_srdft.dft.integrals.packed_pairs import from_lower_triangle, lower_triangle
from ase_srdft.dft.integrals.provider import Integrals

__all__ = [
    "claimed",
    "coulomb_energy",
    "coulomb_matrix",
    "laid_down",
    "projected",
    "solved",
]


class _MetricSolve(torch.autograd.Function):
    """c = V^-1 b by Cholesky; the derivative needs the solution only."""

    @staticmethod
    def forward(ctx: Any, metric: Tensor, factor: Tensor, rhs: Tensor) -> Tensor:
        solution = torch.cholesky_solve(rhs, factor)
        ctx.save_for_backward(factor, solution)
        return solution

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, Tensor]:
        factor, solution = ctx.saved_tensors
        by_rhs = torch.cholesky_solve(cotangents[0], factor)
        return -by_rhs @ solution.transpose(-1, -2), None, by_rhs


def projected(
    three_center: Float[Tensor, "batch npair naux"], matrices: Float[Tensor, "batch n nao nao"]
) -> Float[Tensor, "batch naux n"]:
    """(Q|P) of symmetric matrices."""
    # off the diagonal a packed element stands for two
    doubled = 2.0 * matrices - torch.diag_embed(matrices.diagonal(dim1=-2, dim2=-1))
    return three_center.transpose(1, 2) @ lower_triangle(doubled).transpose(1, 2)


def _fitted(
    three_center: Tensor, factor: Tensor, matrix: Tensor
) -> tuple[Float[Tensor, "batch nao nao"], Float[Tensor, "batch naux"]]:
    """J of a symmetric matrix, and its fitted density c = V^-1 (Q|P)."""
    density = torch.cholesky_solve(projected(three_center, matrix[:, None]), factor)
    coulomb = from_lower_triangle((three_center @ density)[..., 0], matrix.shape[-1])
    return coulomb, density[..., 0]


def claimed(slots: Tensor | None, wanted: bool) -> list[int]:
    """A slot for each geometry, where the nuclei are to be differentiated by."""
    return [] if slots is None or not wanted else [tape_of(row).claim() for row in slots]


def laid_down(slots: Tensor, claims: list[int], cotangents: Sequence[Cotangent]) -> Tensor:
    """Leave the cotangents at the slots; the derivative by the slots."""
    by_slots = torch.zeros_like(slots)
    for row, (slot, cotangent) in enumerate(zip(claims, cotangents, strict=True)):
        tape_of(slots[row]).lay_down(slot, cotangent)
        by_slots[row, slot] = 1.0
    return by_slots


class _FittedCoulomb(torch.autograd.Function):
    """J[P], its derivative by the nuclei left in the slots.

    Tr(W J[P]) = w^T V^-1 p with p_Q = (Q|P) and w_Q = (Q|W): by (mn|Q) it is W c[P] + P c[W],
    by the metric -c[W] c[P]^T.
    """

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, slots: Tensor | None, three_center: Tensor, factor: Tensor
    ) -> Tensor:
        coulomb, density = _fitted(three_center, factor, matrix)
        ctx.claims = claimed(slots, ctx.needs_input_grad[1])
        ctx.save_for_backward(matrix, slots, three_center, factor, density)
        return coulomb

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        matrix, slots, three_center, factor, density = ctx.saved_tensors
        weights = 0.5 * (cotangents[0] + cotangents[0].transpose(-1, -2))
        by_matrix, other = _fitted(three_center, factor, weights)
        if not ctx.claims:
            return by_matrix, None, None, None
        terms = [
            CoulombCotangent(
                matrices=torch.stack([weights[i], matrix[i]]).cpu().numpy(),
                coefficients=torch.stack([density[i], other[i]]).cpu().numpy(),
                left=-other[i].cpu().numpy(),
                right=density[i].cpu().numpy(),
            )
            for i in range(len(matrix))
        ]
        return by_matrix, laid_down(slots, ctx.claims, terms), None, None


class _FittedCoulombEnergy(torch.autograd.Function):
    """1/2 Tr P J[P] and J, detached; what was said of :class:`_FittedCoulomb` with W = P / 2."""

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, slots: Tensor | None, three_center: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        coulomb, density = _fitted(three_center, factor, matrix)
        ctx.claims = claimed(slots, ctx.needs_input_grad[1])
        ctx.save_for_backward(matrix, slots, coulomb, density)
        ctx.mark_non_differentiable(coulomb)
        return 0.5 * (matrix * coulomb).sum((1, 2)), coulomb

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        matrix, slots, coulomb, density = ctx.saved_tensors
        scale = cotangents[0]
        by_matrix = scale[:, None, None] * coulomb
        if not ctx.claims:
            return by_matrix, None, None, None
        terms = [
            CoulombCotangent(
                matrices=(scale[i] * matrix[i])[None].cpu().numpy(),
                coefficients=density[i][None].cpu().numpy(),
                left=(-0.5 * scale[i] * density[i]).cpu().numpy(),
                right=density[i].cpu().numpy(),
            )
            for i in range(len(matrix))
        ]
        return by_matrix, laid_down(slots, ctx.claims, terms), None, None


def solved(integrals: Integrals, rhs: Float[Tensor, "batch naux n"]) -> Tensor:
    """V^-1 b, differentiable by the metric as an array."""
    solution: Tensor = _MetricSolve.apply(  # type: ignore[no-untyped-call]
        integrals.metric, integrals.metric_factor, rhs
    )
    return solution


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
    assert integrals.metric_factor is not None
    if integrals.leaves_no_array:
        coulomb = _FittedCoulomb.apply(  # type: ignore[no-untyped-call]
            density_matrix,
            integrals.cotangent_slots,
            integrals.three_center.detach(),
            integrals.metric_factor,
        )
        return coulomb
    fitted = solved(integrals, projected(integrals.three_center, density_matrix[:, None]))
    return from_lower_triangle((integrals.three_center @ fitted)[..., 0], nao)


def coulomb_energy(
    integrals: Integrals, density_matrix: Float[Tensor, "batch nao nao"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch nao nao"]]:
    """E_J = 1/2 Tr P J[P] (Hartree), differentiable by P and the nuclei, and J[P], detached."""
    if integrals.four_center is None and integrals.leaves_no_array:
        assert integrals.three_center is not None
        pair: tuple[Tensor, Tensor] = _FittedCoulombEnergy.apply(  # type: ignore[no-untyped-call]
            density_matrix,
            integrals.cotangent_slots,
            integrals.three_center.detach(),
            integrals.metric_factor,
        )
        return pair
    coulomb = coulomb_matrix(integrals, density_matrix)
    return 0.5 * (density_matrix * coulomb).sum((1, 2)), coulomb.detach()
