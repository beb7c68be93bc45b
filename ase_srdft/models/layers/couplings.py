"""The two bilinear maps of an equivariant network, a few rows at a time.

What they multiply out first is many times larger than what goes in and comes out.  Piece by piece
it stays in the processor's cache, and the adjoint makes it again instead of keeping it: at these
sizes fresh memory costs more than arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["couple", "product"]

#: Numbers of a piece: half a megabyte in single precision.
_PIECE = 2**17


def _pieces(like: Tensor, per_row: int) -> Iterator[slice]:
    """Slices of the rows; all at once where there is no cache to care for."""
    size = max(1, _PIECE // per_row) if like.device.type == "cpu" else max(1, len(like))
    for start in range(0, len(like), size):
        yield slice(start, start + size)


class _Couple(torch.autograd.Function):
    """``y_s = sum_(l1, s2) K[s, (l1, s2)] W_l1 x_s2`` and its adjoint."""

    @staticmethod
    def forward(ctx: Any, couplings: Tensor, filters: Tensor, features: Tensor) -> Tensor:
        ctx.save_for_backward(couplings, filters, features)
        result = torch.empty_like(features)
        for piece in _pieces(features, couplings.shape[2] * features.shape[2]):
            weighted = _outer(filters[piece], features[piece])
            torch.bmm(couplings[piece], weighted, out=result[piece])
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = couplings, filters, features = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        results = [torch.empty_like(t) if w else None for t, w in zip(saved, wanted, strict=True)]
        of_couplings, of_filters, of_features = results
        inner = (filters.shape[1], features.shape[1])
        for piece in _pieces(features, couplings.shape[2] * features.shape[2]):
            own, w, x = gradient[piece], filters[piece], features[piece]
            if of_couplings is not None:
                torch.bmm(own, _outer(w, x).mT, out=of_couplings[piece])
            back = torch.bmm(couplings[piece].mT, own).unflatten(1, inner)
            if of_filters is not None:
                torch.sum(back * x[:, None], 2, out=of_filters[piece])
            if of_features is not None:
                torch.sum(back.mul_(w[:, :, None]), 1, out=of_features[piece])
        return tuple(results)


class _Product(torch.autograd.Function):
    """``y_t = sum_ab C[t, (a, b)] x_a z_b`` and its adjoint; C is constant."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(table, left, right)
        result = left.new_empty((len(left), len(table), left.shape[2]))
        for piece in _pieces(left, table.shape[1] * left.shape[2]):
            products = _outer(left[piece], right[piece])
            torch.bmm(_repeated(table, products), products, out=result[piece])
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        table, left, right = ctx.saved_tensors
        of_left, of_right = torch.empty_like(left), torch.empty_like(right)
        inner = (left.shape[1], right.shape[1])
        for piece in _pieces(left, table.shape[1] * left.shape[2]):
            own, x, z = gradient[piece], left[piece], right[piece]
            back = torch.bmm(_repeated(table.mT, own), own).unflatten(1, inner)
            torch.sum(back * z[:, None], 2, out=of_left[piece])
            torch.sum(back.mul_(x[:, :, None]), 1, out=of_right[piece])
        return None, of_left, of_right


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """``x_a z_b`` of each channel, (n, a b, c)."""
    return (left[:, :, None] * right[:, None]).flatten(1, 2)


def _repeated(table: Tensor, like: Tensor) -> Tensor:
    """The same table for every row, without copies."""
    return table.expand(len(like), *table.shape)


def couple(
    couplings: Float[Tensor, "n ncomponents ncolumns"],
    filters: Float[Tensor, "n nangular c"],
    features: Float[Tensor, "n ncomponents c"],
) -> Float[Tensor, "n ncomponents c"]:
    """``y_s = sum_(l1, s2) K[s, (l1, s2)] W_l1 x_s2``, the SO3 convolution of one pair."""
    result: Tensor = _Couple.apply(couplings, filters, features)  # type: ignore[no-untyped-call]
    return result


def product(
    table: Float[Tensor, "nresult ncolumns"],
    left: Float[Tensor, "n ncomponents c"],
    right: Float[Tensor, "n ncomponents c"],
) -> Float[Tensor, "n nresult c"]:
    """``y_t = sum_ab C[t, (a, b)] x_a z_b``, the product of two sets of tensors, by channel."""
    result: Tensor = _Product.apply(table, left, right)  # type: ignore[no-untyped-call]
    return result
