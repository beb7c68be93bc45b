"""The equivariant transformer of TorchMD-NET (Thoelke and De Fabritiis, arXiv:2202.02541).

Scalars x_i and vectors v_i of every atom; all pairs of a geometry attend to each other.  Written
by the equations of its section 3.  One thing differs: the envelope is (1 - (r/r_c)^2)^3 instead
of the cosine, whose second derivative jumps at the cutoff.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.models.layers.atom_graph import Graph
from ase_srdft.models.layers.so3net import SmoothCutoff

__all__ = ["AtomFeatures", "EquivariantTransformer", "ExponentialNormalBasis"]

#: Scalars (natoms, c) and vectors (natoms, 3, c).
AtomFeatures = tuple[Float[Tensor, "natoms c"], Float[Tensor, "natoms 3 c"]]
#: Heaviest element with an embedding, krypton.
_NELEMENTS = 37


class ExponentialNormalBasis(nn.Module):
    """e_k(r) = exp(-beta_k (exp(-a r) - mu_k)^2), mu_k evenly from exp(-a r_c) to 1.

    a = 5 / r_c and beta = (2/K (1 - exp(-a r_c)))^-2, both learned like mu (arXiv:1902.08408).
    The envelope is no part of it.
    """

    def __init__(self, nradial: int, cutoff_bohr: float) -> None:
        super().__init__()
        self.decay = 5.0 / cutoff_bohr
        lowest = math.exp(-self.decay * cutoff_bohr)
        self.means = nn.Parameter(torch.linspace(lowest, 1.0, nradial))
        width = 2.0 / nradial * (1.0 - lowest)
        self.sharpness = nn.Parameter(torch.full((nradial,), width**-2))

    def forward(self, distances: Float[Tensor, "npairs 1"]) -> Float[Tensor, "npairs nradial"]:
        """The functions at distances (Bohr)."""
        return torch.exp(-self.sharpness * (torch.exp(-self.decay * distances) - self.means) ** 2)


class _NeighbourEmbedding(nn.Module):
    """x_i = W [embedding(Z_i), sum_j embedding'(Z_j) * W' e(r_ij)]."""

    def __init__(self, features: int, nradial: int) -> None:
        super().__init__()
        self.own = nn.Embedding(_NELEMENTS, features)
        self.other = nn.Embedding(_NELEMENTS, features)
        self.filters = nn.Linear(nradial, features)
        self.combine = nn.Linear(2 * features, features)

    def forward(self, graph: Graph, radial: Tensor, envelope: Tensor) -> Tensor:
        messages = self.other(graph.numbers)[graph.second] * self.filters(radial) * envelope
        joined = torch.cat([self.own(graph.numbers), graph.sum_by_first(messages)], -1)
        combined: Tensor = self.combine(joined)
        return combined


class _Layer(nn.Module):
    """One update of scalars and vectors: equations 6 to 12 of the paper."""

    def __init__(self, features: int, heads: int, nradial: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(features)
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, 3 * features)
        self.key_filter = nn.Linear(nradial, features)
        self.value_filter = nn.Linear(nradial, 3 * features)
        self.vectors = nn.Linear(features, 3 * features, bias=False)
        self.out = nn.Linear(features, 3 * features)

    def _attention(self, normed: Tensor, graph: Graph, radial: Tensor, envelope: Tensor) -> Tensor:
        """A_ij of every pair and head, (npairs, heads)."""
        silu = nn.functional.silu
        products = self.query(normed)[graph.first] * self.key(normed)[graph.second]
        products = products * silu(self.key_filter(radial))
        attention: Tensor = silu(products.unflatten(-1, (self.heads, -1)).sum(-1)) * envelope
        return attention

    def forward(
        self, atoms: AtomFeatures, graph: Graph, radial: Tensor, envelope: Tensor, unit: Tensor
    ) -> AtomFeatures:
        """Changed features; ``unit`` holds the directions (npairs, 3, 1)."""
        scalars, vectors = atoms
        normed = self.norm(scalars)
        attention = self._attention(normed, graph, radial, envelope)
        filters = nn.functional.silu(self.value_filter(radial)) * envelope
        values = self.value(normed)[graph.second] * filters
        along_vectors, along_pairs, plain = values.chunk(3, -1)
        weighted = plain.unflatten(-1, (self.heads, -1)) * attention[..., None]
        gathered = self.out(graph.sum_by_first(weighted.flatten(-2)))
        for_vectors, for_products, for_scalars = gathered.chunk(3, -1)
        first, second, third = self.vectors(vectors).chunk(3, -1)
        messages = along_vectors[:, None] * vectors[graph.second] + along_pairs[:, None] * unit
        return (
            scalars + for_scalars + for_products * (first * second).sum(1),
            vectors + graph.sum_by_first(messages) + for_vectors[:, None] * third,
        )


class EquivariantTransformer(nn.Module):
    """Scalars and vectors of every atom; the vectors turn with the molecule.

    Args:
        features: channels, a multiple of ``heads``.
        layers: updates.
        heads: of the attention.
        cutoff_bohr: where messages vanish.
        nradial: radial basis functions.
    """

    def __init__(
        self, features: int, layers: int, heads: int, cutoff_bohr: float, nradial: int
    ) -> None:
        super().__init__()
        self.radial = ExponentialNormalBasis(nradial, cutoff_bohr)
        self.cutoff = SmoothCutoff(cutoff_bohr)
        self.embedding = _NeighbourEmbedding(features, nradial)
        self.layers = nn.ModuleList(_Layer(features, heads, nradial) for _ in range(layers))
        self.norm = nn.LayerNorm(features)

    def forward(self, graph: Graph) -> AtomFeatures:
        """Features of every atom, in the precision of the weights."""
        dtype = self.norm.weight.dtype
        distances = graph.vectors.norm(dim=-1, keepdim=True)
        unit = (graph.vectors / distances).to(dtype)[..., None]
        distances = distances.to(dtype)
        radial, envelope = self.radial(distances), self.cutoff(distances)
        scalars = self.embedding(graph, radial, envelope)
        vectors = scalars.new_zeros(len(scalars), 3, scalars.shape[-1])
        for layer in self.layers:
            scalars, vectors = layer((scalars, vectors), graph, radial, envelope, unit)
        return self.norm(scalars), vectors
