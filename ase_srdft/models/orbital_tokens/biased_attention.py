"""Attention between orbitals, biased by matrices of quantum chemistry.

``A_h = softmax(Q_h K_h^T / sqrt(d_h) + sum_b w_hb B_b)`` with one learned weight per head and
matrix (Mathiasen et al., arXiv:2402.04030; Hassan et al., arXiv:2506.01225, appendix B).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PairProduct", "QuantumLayer"]

#: Core orbitals have elements of -33 Hartree: more than this would let them have all attention.
_INITIAL_BIAS_WEIGHT = 0.02


class QuantumAttention(nn.Module):
    """Multi-head attention with additive biases; ``nbiases`` matrices, of unit order of ten."""

    def __init__(self, features: int, heads: int, nbiases: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)
        self.bias_weights = nn.Parameter(_INITIAL_BIAS_WEIGHT * torch.randn(heads, nbiases))

    def forward(
        self,
        tokens: Float[Tensor, "batch nao c"],
        biases: Float[Tensor, "batch nbiases nao nao"],
    ) -> Float[Tensor, "batch nao c"]:
        """What every orbital gathers from all."""
        projected = self.projections(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        bias = torch.einsum("hb,zbij->zhij", self.bias_weights, biases)
        gathered = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed: Tensor = self.out(gathered.transpose(1, 2).flatten(-2))
        return mixed


class QuantumLayer(nn.Module):
    """Attention and a two-layer perceptron, each of normalised tokens and added to them.

    Args:
        features: channels, a multiple of ``heads``.
        heads: of the attention.
        mlp_features: hidden channels of the perceptron.
        nbiases: bias matrices.
    """

    def __init__(self, features: int, heads: int, mlp_features: int, nbiases: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(features)
        self.attention = QuantumAttention(features, heads, nbiases)
        self.mlp = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, mlp_features),
            nn.SiLU(),
            nn.Linear(mlp_features, features),
        )

    def forward(
        self,
        tokens: Float[Tensor, "batch nao c"],
        biases: Float[Tensor, "batch nbiases nao nao"],
    ) -> Float[Tensor, "batch nao c"]:
        """Tokens of the next layer."""
        tokens = tokens + self.attention(self.attention_norm(tokens), biases)
        changed: Tensor = tokens + self.mlp(tokens)
        return changed


class PairProduct(nn.Module):
    """A matrix from tokens, Z = Q K^T / sqrt(c), multiplied in double precision.

    Args:
        features: channels.
        starts_at_zero: Z is zero before training.
    """

    def __init__(self, features: int, starts_at_zero: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        if starts_at_zero:
            nn.init.zeros_(self.key.weight)
            nn.init.zeros_(self.key.bias)

    def forward(self, tokens: Float[Tensor, "batch nao c"]) -> Float[Tensor, "batch nao nao"]:
        """Z, float64."""
        normed = self.norm(tokens)
        query, key = self.query(normed).double(), self.key(normed).double()
        product: Tensor = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return product
