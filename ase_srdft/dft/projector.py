"""Occupied projectors and the orthogonaliser, with exact derivatives free of singularities."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.errors import BadInput

__all__ = ["inverse_square_root", "occupied_projector"]

#: Smallest eigenvalue of S below which a basis is refused as linearly dependent.
_LINEAR_DEPENDENCE = 1.0e-7


class _InverseSquareRoot(torch.autograd.Function):
    """X = S^(-1/2); dX_ij = -dS_ij / (s_i^1/2 s_j^1/2 (s_i^1/2 + s_j^1/2)) between eigenvectors.

    The divided difference of s^(-1/2), written so that equal eigenvalues are no exception.
    """

    @staticmethod
    def forward(ctx: Any, overlap: Tensor) -> Tensor:
        eigenvalues, vectors = torch.linalg.eigh(overlap)
        smallest = float(eigenvalues.min())
        if not smallest > _LINEAR_DEPENDENCE:
            raise BadInput(
                f"smallest eigenvalue of the overlap matrix {smallest:.1e}: atoms too close "
                "together or a linearly dependent basis"
            )
        roots = eigenvalues.sqrt()
        ctx.save_for_backward(roots, vectors)
        result: Tensor = (vectors / roots[:, None]) @ vectors.transpose(-1, -2)
        return result

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        roots, vectors = ctx.saved_tensors
        rotated = vectors.transpose(-1, -2) @ cotangents[0] @ vectors
        left, right = roots[:, :, None], roots[:, None]
        rotated = -rotated / (left * right * (left + right))
        result: Tensor = vectors @ rotated @ vectors.transpose(-1, -2)
        return result


def inverse_square_root(
    overlap: Float[Tensor, "batch n n"],
) -> Float[Tensor, "batch n n"]:
    """Loewdin's orthogonaliser X = S^(-1/2), differentiable.

    Raises:
        BadInput: S is singular to working precision.
    """
    result: Tensor = _InverseSquareRoot.apply(overlap)  # type: ignore[no-untyped-call]
    return result


class _OccupiedProjector(torch.autograd.Function):
    """Gamma = O O^T; dL/dF' = V k O^T + (V k O^T)^T, k_ai = (V^T G O)_ai / (e_i - e_a).

    Only occupied-virtual pairs enter, so any positive gap will do: 1/(e_p - e_q) is not clipped.
    """

    @staticmethod
    def forward(ctx: Any, fock: Tensor, nocc: int) -> tuple[Tensor, Tensor, Tensor]:
        energies, vectors = torch.linalg.eigh(fock)
        occupied = vectors[..., :nocc]
        ctx.save_for_backward(energies, vectors)
        ctx.nocc = nocc
        ctx.mark_non_differentiable(energies, vectors)
        return occupied @ occupied.transpose(-1, -2), energies, vectors

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        energies, vectors = ctx.saved_tensors
        nocc: int = ctx.nocc
        occupied, virtual = vectors[..., :nocc], vectors[..., nocc:]
        symmetric = 0.5 * (cotangents[0] + cotangents[0].transpose(-1, -2))
        differences = energies[..., None, :nocc] - energies[..., nocc:, None]
        kappa = virtual.transpose(-1, -2) @ symmetric @ occupied / differences
        half = virtual @ kappa @ occupied.transpose(-1, -2)
        return half + half.transpose(-1, -2), None


def occupied_projector(
    fock: Float[Tensor, "batch n n"], nocc: int
) -> tuple[Float[Tensor, "batch n n"], Float[Tensor, "batch n"], Float[Tensor, "batch n n"]]:
    """Projector on the lowest ``nocc`` eigenvectors of a Fock matrix in an orthonormal basis.

    Args:
        fock: symmetric, orthonormal basis (Hartree).
        nocc: number of occupied orbitals.

    Returns:
        The projector, differentiable by ``fock`` for any positive gap; the orbital energies
        and the orbitals in columns, both without derivatives.
    """
    result: tuple[Tensor, Tensor, Tensor] = _OccupiedProjector.apply(fock, nocc)  # type: ignore[no-untyped-call]
    return result
