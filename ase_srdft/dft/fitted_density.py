"""Densities and potentials in an auxiliary basis, differentiable in the nuclei.

Both are linear in (mn|Q), whose cotangents they leave in the slots
(:mod:`ase_srdft.dft.integrals.cotangent_tape`) where there are any.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import (
    claimed,
    laid_down,
    projected,
    solved,
)
from ase_srdft.dft.integrals.cotangent_tape import CoulombCotangent
from ase_srdft.dft.integrals.packed_pairs import from_lower_triangle
from ase_srdft.dft.integrals.provider import Integrals

__all__ = ["fitted_densities", "potential_matrix"]


class _FittedDensities(torch.autograd.Function):
    """w = (Q|P) and d = V^-1 w of several matrices.

    With cotangents w' and d' and y = V^-1 d': by P it is sum_Q (w' + y)_Q (mn|Q), by (mn|Q)
    P (w' + y), by the metric -y d^T.
    """

    @staticmethod
    def forward(
        ctx: Any, matrices: Tensor, slots: Tensor | None, three_center: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        potentials = projected(three_center, matrices)
        densities = torch.cholesky_solve(potentials, factor)
        ctx.claims = [claimed(slots, ctx.needs_input_grad[1]) for _ in range(matrices.shape[1])]
        ctx.save_for_backward(matrices, slots, three_center, factor, densities)
        return potentials, densities

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        matrices, slots, three_center, factor, densities = ctx.saved_tensors
        left = torch.cholesky_solve(cotangents[1], factor)
        both = cotangents[0] + left
        by_matrices = _symmetric_from(three_center @ both, matrices.shape[-1])
        if not ctx.claims[0]:
            return by_matrices, None, None, None
        by_slots = torch.zeros_like(slots)
        for k, claims in enumerate(ctx.claims):
            terms = [
                CoulombCotangent(
                    matrices=matrices[i, k][None].cpu().numpy(),
                    coefficients=both[i, :, k][None].cpu().numpy(),
                    left=-left[i, :, k].cpu().numpy(),
                    right=densities[i, :, k].cpu().numpy(),
                )
                for i in range(len(matrices))
            ]
            by_slots = by_slots + laid_down(slots, claims, terms)
        return by_matrices, by_slots, None, None


class _PotentialMatrix(torch.autograd.Function):
    """sum_Q u_Q (mn|Q); with a cotangent W: by u it is (Q|W), by (mn|Q) W u."""

    @staticmethod
    def forward(
        ctx: Any, coefficients: Tensor, slots: Tensor | None, three_center: Tensor, nao: int
    ) -> Tensor:
        ctx.claims = claimed(slots, ctx.needs_input_grad[1])
        ctx.save_for_backward(coefficients, slots, three_center)
        return _symmetric_from(three_center @ coefficients[..., None], nao)[:, 0]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        coefficients, slots, three_center = ctx.saved_tensors
        weights = 0.5 * (cotangents[0] + cotangents[0].transpose(-1, -2))
        by_coefficients = projected(three_center, weights[:, None])[..., 0]
        if not ctx.claims:
            return by_coefficients, None, None, None
        terms = [
            CoulombCotangent(
                matrices=weights[i][None].cpu().numpy(),
                coefficients=coefficients[i][None].cpu().numpy(),
            )
            for i in range(len(weights))
        ]
        return by_coefficients, laid_down(slots, ctx.claims, terms), None, None


def _symmetric_from(
    packed: Float[Tensor, "batch npair n"], nao: int
) -> Float[Tensor, "batch n nao nao"]:
    return from_lower_triangle(packed, nao).permute(0, 3, 1, 2)


def fitted_densities(
    integrals: Integrals, matrices: Float[Tensor, "batch n nao nao"]
) -> tuple[Float[Tensor, "batch naux n"], Float[Tensor, "batch naux n"]]:
    """Potentials w_Q = (Q|P) (Hartree) and fitted densities d = V^-1 w of symmetric matrices.

    In the auxiliary functions of the model's potential.
    """
    own = integrals.of_potential()
    assert own.three_center is not None
    assert own.metric_factor is not None
    if own.leaves_no_array:
        pair: tuple[Tensor, Tensor] = _FittedDensities.apply(  # type: ignore[no-untyped-call]
            matrices, own.cotangent_slots, own.three_center.detach(), own.metric_factor
        )
        return pair
    potentials = projected(own.three_center, matrices)
    return potentials, solved(own, potentials)


def potential_matrix(
    integrals: Integrals, coefficients: Float[Tensor, "batch naux"]
) -> Float[Tensor, "batch nao nao"]:
    """sum_Q u_Q (mn|Q) (Hartree), in the auxiliary functions of the model's potential."""
    own = integrals.of_potential()
    assert own.three_center is not None
    nao = own.overlap.shape[-1]
    if own.leaves_no_array:
        matrix: Tensor = _PotentialMatrix.apply(  # type: ignore[no-untyped-call]
            coefficients, own.cotangent_slots, own.three_center.detach(), nao
        )
        return matrix
    return _symmetric_from(own.three_center @ coefficients[..., None], nao)[:, 0]
