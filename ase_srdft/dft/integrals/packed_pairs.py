"""Symmetric matrices as their lower triangles."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["from_lower_triangle", "lower_triangle", "triangle_index"]


def lower_triangle(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch npair"]:
    """The lower triangle by rows."""
    rows, columns = torch.tril_indices(matrix.shape[-1], matrix.shape[-1], device=matrix.device)
    return matrix[..., rows, columns]


def triangle_index(n: int, device: torch.device) -> Int[Tensor, "n n"]:
    """Where each element of a symmetric matrix stands in its lower triangle by rows."""
    index = torch.empty((n, n), dtype=torch.long, device=device)
    rows, columns = torch.tril_indices(n, n, device=device)
    numbering = torch.arange(len(rows), device=device)
    index[rows, columns] = numbering
    index[columns, rows] = numbering
    return index


def from_lower_triangle(packed: Tensor, n: int) -> Tensor:
    """Symmetric matrices (batch, n, n, ...) from lower triangles (batch, npair, ...)."""
    return packed[:, triangle_index(n, packed.device)]
