"""Entries of a tensor in another order, at the cost of one gather in each direction."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Rearrangement"]


class _Gather(torch.autograd.Function):
    """``y[i] = x[order[i]]`` along a dimension; its adjoint is the gather by the inverse.

    torch's own adjoint of a gather adds into zeros, entry by entry: it cannot know that an index
    names every entry once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.dim, ctx.order, ctx.inverse = dim, order, inverse
        return x.index_select(dim, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        back = _Gather.apply(gradients[0], ctx.dim, ctx.inverse, ctx.order)  # type: ignore[no-untyped-call]
        return back, None, None, None


class Rearrangement:
    """A permutation of the entries of a dimension, differentiable in both directions.

    Args:
        order: which entry stands at each place afterwards; every entry once.
    """

    def __init__(self, order: Int[Tensor, " n"]) -> None:
        self.order = order
        self.inverse = torch.argsort(order)

    def there(self, x: Tensor, dim: int = 0) -> Tensor:
        """Entries in the new order."""
        result: Tensor = _Gather.apply(x, dim, self.order, self.inverse)  # type: ignore[no-untyped-call]
        return result

    def back(self, x: Tensor, dim: int = 0) -> Tensor:
        """From the new order to the first one."""
        result: Tensor = _Gather.apply(x, dim, self.inverse, self.order)  # type: ignore[no-untyped-call]
        return result
