"""Rotation-equivariant atom features: schnetpack's SO3net, made parity-exact and faster.

The layers (embedding, convolution filters, mixings, gates) are SO3net's own and so are its
equations; convolution and tensor product are contracted in another order: with
``K_ij[s, (l1, s2)] = sum_m1 C(l1 m1, s2; s) Y_l1m1(r_ij)`` one small matrix product per pair takes
the place of a gather over all non-zero Clebsch-Gordan coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.models.layers.atom_graph import Graph
from ase_srdft.models.layers.couplings import couple, product
from ase_srdft.models.layers.exact_tables import ExactTables
from ase_srdft.models.layers.schnetpack_shim import coupling_tables_from, schnetpack_modules
from ase_srdft.models.layers.spherical_tensors import (
    component_slice,
    coupling_table,
    ncomponents,
    spherical_harmonics,
)

__all__ = ["Backbone", "PairFeatures", "product_table"]


class SmoothCutoff(nn.Module):
    """(1 - x^2)^3 for x = r / cutoff < 1, else 0: two continuous derivatives."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, distances: Tensor) -> Tensor:
        """The envelope, the shape of distances (Bohr)."""
        return (1.0 - (distances / self.cutoff).square()).clamp(min=0.0).pow(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairFeatures:
    """What the geometry of each pair gives to every layer.

    Attributes:
        radial: radial basis functions.
        envelope: the smooth cutoff, a factor of every filter.
        couplings: K of the even paths, columns (l1, s2).
        odd_couplings: K of the odd paths.
    """

    radial: Float[Tensor, "npairs nradial"]
    envelope: Float[Tensor, "npairs 1"]
    couplings: Float[Tensor, "npairs ncomponents ncolumns"]
    odd_couplings: Float[Tensor, "npairs ncomponents ncolumns"]


class Backbone(nn.Module):
    """SO3net over complete graphs.

    Args:
        features: channels per component.
        layers: interaction layers.
        lmax: highest angular momentum of the features.
        cutoff_bohr: where messages and blocks vanish.
        nradial: radial basis functions.
    """

    def __init__(
        self, features: int, layers: int, lmax: int, cutoff_bohr: float, nradial: int
    ) -> None:
        super().__init__()
        snn, representation = schnetpack_modules()
        self.lmax, self.features = lmax, features
        with coupling_tables_from(lambda highest: torch.tensor(coupling_table(highest, 0))):
            self.net: Any = representation.SO3net(
                n_atom_basis=features,
                n_interactions=layers,
                lmax=lmax,
                radial_basis=snn.GaussianRBF(n_rbf=nradial, cutoff=cutoff_bohr, start=0.8),
                cutoff_fn=SmoothCutoff(cutoff_bohr),
            )
        self._tables = ExactTables(
            even=_columns_by_angular_momentum(lmax, 0),
            odd=_columns_by_angular_momentum(lmax, 1),
            product=product_table(lmax, (0,)),
        )

    def pair_basis(self, graph: Graph) -> PairFeatures:
        """Radial functions and couplings of every pair, in the precision of the weights."""
        dtype = self.net.embedding.weight.dtype
        distances = graph.vectors.norm(dim=-1, keepdim=True)
        harmonics = spherical_harmonics(graph.vectors / distances, self.lmax).to(dtype)
        distances = distances.to(dtype)
        envelope = self.net.cutoff_fn(distances)
        size = ncomponents(self.lmax)
        return PairFeatures(
            radial=self.net.radial_basis(distances)[:, 0],
            envelope=envelope,
            couplings=(harmonics @ self._tables.get("even", harmonics)).unflatten(1, (size, -1)),
            odd_couplings=(harmonics @ self._tables.get("odd", harmonics)).unflatten(1, (size, -1)),
        )

    def forward(
        self,
        graph: Graph,
        basis: PairFeatures,
        start: Float[Tensor, "natoms ncomponents c"] | None = None,
    ) -> Float[Tensor, "natoms ncomponents c"]:
        """Features of every atom, of parity (-1)^l.

        Args:
            graph: atoms and pairs.
            basis: of the pairs.
            start: added to the embedding of the elements.
        """
        net = self.net
        scalars: Tensor = net.embedding(graph.numbers)
        x = scalars.new_zeros(len(scalars), ncomponents(self.lmax), self.features)
        x = torch.cat([scalars[:, None], x[:, 1:]], 1)
        if start is not None:
            x = x + start
        for conv, mixing1, mixing2, gating, mixing3 in zip(
            net.so3convs, net.mixings1, net.mixings2, net.gatings, net.mixings3, strict=True
        ):
            filters = conv.filternet(basis.radial) * basis.envelope
            filters = filters.unflatten(1, (self.lmax + 1, self.features))
            senders = x.index_select(0, graph.second)
            dx = graph.sum_by_first(couple(basis.couplings, filters, senders))
            dx = dx + product(self._tables.get("product", dx), dx, mixing1(dx))
            dx = gating(mixing2(dx))
            x = x + mixing3(dx)
        return x


def _columns_by_angular_momentum(lmax: int, parity: int) -> np.ndarray:
    """C(s1, s2; s) as rows s1 and columns (s, l1, s2)."""
    table = coupling_table(lmax, parity)
    size = ncomponents(lmax)
    spread = np.zeros((size, size, lmax + 1, size))
    for l1 in range(lmax + 1):
        rows = component_slice(l1)
        spread[rows, :, l1] = table[rows].transpose(0, 2, 1)
    return spread.reshape(size, -1)


def product_table(lmax: int, parities: tuple[int, ...]) -> Float[np.ndarray, "nresult ncolumns"]:
    """C(s1, s2; s) as rows (parity, s) and columns (s1, s2)."""
    size = ncomponents(lmax)
    tables = [coupling_table(lmax, parity).reshape(size * size, size).T for parity in parities]
    return np.concatenate(tables)
