"""What turns the backbone's features of atoms into tensors to be read off."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_srdft.models.layers.couplings import product
from ase_srdft.models.layers.exact_tables import ExactTables
from ase_srdft.models.layers.so3net import product_table

__all__ = ["AtomHead", "Gate"]


class Gate(nn.Module):
    """Per-l sigmoid gates from the scalars of the even features, for both parities."""

    def __init__(self, features: int, lmax: int) -> None:
        super().__init__()
        self.shape = (2, lmax + 1, features)
        self.hidden = nn.Linear(features, features)
        self.gates = nn.Linear(features, 2 * (lmax + 1) * features)
        angular = torch.arange(lmax + 1)
        index = torch.repeat_interleave(angular, 2 * angular + 1)
        self.register_buffer("index", index, persistent=False)

    def forward(self, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """Gated features, shapes kept."""
        hidden = nn.functional.silu(self.hidden(even[:, 0]))
        gates = torch.sigmoid(self.gates(hidden))
        gates = gates.unflatten(1, self.shape).index_select(2, self.index)
        return even * gates[:, 0], odd * gates[:, 1]


class AtomHead(nn.Module):
    """Even and odd tensors of each atom: x + x * x, the odd product, and what was read."""

    def __init__(self, features: int, lmax: int) -> None:
        super().__init__()
        self.left = nn.Linear(features, features, bias=False)
        self.right = nn.Linear(features, features, bias=False)
        self.gate = Gate(features, lmax)
        self._tables = ExactTables(product=product_table(lmax, (0, 1)))

    def forward(
        self, features: Tensor, read: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Features (natoms, ncomponents, c) to the same shape, even and odd."""
        table = self._tables.get("product", features)
        even, odd = product(table, self.left(features), self.right(features)).chunk(2, 1)
        even = features + even
        if read is not None:
            even, odd = even + read[0], odd + read[1]
        gated: tuple[Tensor, Tensor] = self.gate(even, odd)
        return gated
