"""Projectors and the orthogonaliser, with exact derivatives free of singularities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.errors import BadInput

__all__ = [
    "DEGENERATE_GAP",
    "inverse_square_root",
    "noted_gaps",
    "occupied_projector",
    "span_projector",
]

#: Gap (Hartree) between the last occupied and the first empty orbital below which they are one
#: level to us: which of them is occupied is a matter of rounding.  In twisted ethylene, forces
#: agree with finite differences to 1e-4 of their size at a gap of 4e-5, and at 4e-7 the energy is
#: too rough to differentiate, by whatever means.
DEGENERATE_GAP = 1.0e-5

#: Smallest eigenvalue of S below which a basis is refused as linearly dependent.
_LINEAR_DEPENDENCE = 1.0e-7
#: Smallest diagonal element of R, relative to the largest, below which columns have no span.
_RANK_DEFICIENCY = 1.0e-13


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

    Only occupied-virtual pairs enter, and their 1/(e_i - e_a) is not clipped.  Pairs that are
    degenerate (:data:`DEGENERATE_GAP`) are left out: what they would give is rounding noise over
    zero, and it would drown all else.
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
        inverse = torch.where(differences < -DEGENERATE_GAP, differences.reciprocal(), 0.0)
        kappa = virtual.transpose(-1, -2) @ symmetric @ occupied * inverse
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
        The projector, differentiable by ``fock`` where the gap is above
        :data:`DEGENERATE_GAP` (:func:`noted_gaps` tells where it is not); the orbital energies
        and the orbitals in columns, both without derivatives.
    """
    result: tuple[Tensor, Tensor, Tensor] = _OccupiedProjector.apply(fock, nocc)  # type: ignore[no-untyped-call]
    noted = _NOTED.get()
    if noted is not None and nocc < fock.shape[-1]:
        noted.append(result[1][:, nocc] - result[1][:, nocc - 1])
    return result


#: Where the gaps of this thread go, if anyone listens.
_NOTED: ContextVar[list[Tensor] | None] = ContextVar("noted_gaps", default=None)


@contextmanager
def noted_gaps() -> Iterator[list[Float[Tensor, " batch"]]]:
    """A list that gets the gap (Hartree) of every `occupied_projector` in the block.

    Guesses, what networks read of them, and the states themselves take projectors: where any of
    these is degenerate, the result is no smooth function of the nuclei.
    """
    noted: list[Tensor] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


class _SpanProjector(torch.autograd.Function):
    """Gamma = Q Q^T from A = Q R; dL/dA = (1 - Gamma) (G + G^T) Q R^-T, G = dL/dGamma.

    From dGamma = (1 - Gamma) dA A^+ + transpose: a turn of the columns among themselves, and
    with it the sign of each, makes no difference.
    """

    @staticmethod
    def forward(ctx: Any, columns: Tensor) -> tuple[Tensor, Tensor]:
        vectors, triangular = torch.linalg.qr(columns, mode="complete")
        nocc = columns.shape[-1]
        spanning, triangular = vectors[..., :nocc], triangular[..., :nocc, :]
        diagonal = triangular.diagonal(dim1=-2, dim2=-1).abs()
        if not bool((diagonal.amin(-1) > _RANK_DEFICIENCY * diagonal.amax(-1)).all()):
            raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
                f"{nocc} predicted orbitals are linearly dependent: their span is no state"
            )
        ctx.save_for_backward(spanning, triangular)
        ctx.mark_non_differentiable(vectors)
        return spanning @ spanning.transpose(-1, -2), vectors

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        spanning, triangular = ctx.saved_tensors
        applied = (cotangents[0] + cotangents[0].transpose(-1, -2)) @ spanning
        outside = applied - spanning @ (spanning.transpose(-1, -2) @ applied)
        # X R^T = outside
        upper = triangular.transpose(-1, -2)
        result: Tensor = torch.linalg.solve_triangular(upper, outside, upper=False, left=False)
        return result


def span_projector(
    columns: Float[Tensor, "batch n nocc"],
) -> tuple[Float[Tensor, "batch n n"], Float[Tensor, "batch n n"]]:
    """Projector on the span of columns, by thin QR.

    Args:
        columns: of full rank, in an orthonormal basis.

    Returns:
        The projector, differentiable by the columns, and an orthogonal matrix whose first columns
        span the same and whose others complete the basis, without derivatives.

    Raises:
        torch.linalg.LinAlgError: columns that are dependent to working precision.
    """
    result: tuple[Tensor, Tensor] = _SpanProjector.apply(columns)  # type: ignore[no-untyped-call]
    return result
