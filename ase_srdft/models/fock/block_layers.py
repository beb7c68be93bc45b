"""Learned maps between equivariant features and the blocks of matrices, both ways.

Weights are addressed by the elements of both atoms and shared between molecules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.fock.block_layout import (
    block_layout,
    elements_by_placement,
    placements,
    rows_by_placement,
)
from ase_srdft.models.layers.exact_tables import ExactTables
from ase_srdft.models.layers.spherical_tensors import component_slice, ncomponents

__all__ = ["BlocksFromFeatures", "FeaturesFromBlocks"]


def _name(pair: tuple[int, int], key: tuple[int, int] | None = None) -> str:
    """Of the table of a pair of elements, or of its weights for (l, parity)."""
    name = "_".join(chemical_symbols[z] for z in pair)
    return name if key is None else f"{name}_{key[0]}_{'odd' if key[1] else 'even'}"


def _times(
    tensors: Float[Tensor, "n rows columns"], matrix: Float[Tensor, "columns results"]
) -> Float[Tensor, "n rows results"]:
    """One product for all: torch's own choice, and its rounding, depend on who needs gradients."""
    result: Tensor = (tensors.flatten(0, 1) @ matrix).unflatten(0, tensors.shape[:2])
    return result


class BlocksFromFeatures(nn.Module):
    """Linear maps from channels to the paths of every pair of elements, zero at the start."""

    def __init__(self, features: int, basis: str, pairs: list[tuple[int, int]]) -> None:
        super().__init__()
        self.basis = basis
        self.weights = nn.ParameterDict()
        self._tables = ExactTables(
            **{_name(pair): block_layout(basis, *pair).assembly for pair in pairs}
        )
        for pair in pairs:
            layout = block_layout(basis, *pair)
            for key, npaths in zip(layout.keys, layout.npaths, strict=True):
                self.weights[_name(pair, key)] = nn.Parameter(torch.zeros(features, npaths))

    def forward(self, pair: tuple[int, int], even: Tensor, odd: Tensor) -> Tensor:
        """Blocks (n, nelements) of one pair of elements from its features."""
        layout = block_layout(self.basis, *pair)
        coefficients = [
            _times((odd if key[1] else even)[:, component_slice(key[0])], weight).flatten(1)
            for key in layout.keys
            for weight in [self.weights[_name(pair, key)]]
        ]
        joined = torch.cat(coefficients, 1)
        return joined @ self._tables.get(_name(pair), joined)


class FeaturesFromBlocks(nn.Module):
    """Features of every atom, or every ordered pair, from their blocks of several matrices.

    The transpose of what :class:`BlocksFromFeatures` does.  Rotated orbitals give rotated features.

    Args:
        features: channels.
        lmax: highest angular momentum of the features, at least that of the blocks.
        basis: orbitals that the matrices are between.
        pairs: ordered pairs of elements whose blocks are read.
        nmatrices: how many matrices are read together.
        odd_features: channels of the odd tensors that are wanted, the last ones; None for all.
    """

    def __init__(
        self,
        features: int,
        lmax: int,
        basis: str,
        pairs: list[tuple[int, int]],
        nmatrices: int,
        odd_features: int | None = None,
    ) -> None:
        super().__init__()
        self.channels = (features, odd_features or features)
        self.lmax, self.basis = lmax, basis
        self.weights = nn.ParameterDict()
        layouts = {pair: block_layout(basis, *pair) for pair in pairs}
        self._tables = ExactTables(
            **{_name(pair): layout.assembly.T.copy() for pair, layout in layouts.items()}
        )
        for pair, layout in layouts.items():
            for key, npaths in zip(layout.keys, layout.npaths, strict=True):
                rows = nmatrices * npaths
                weight = torch.randn(rows, features) / rows**0.5
                self.weights[_name(pair, key)] = nn.Parameter(weight)

    def forward(
        self,
        molecules: Sequence[Molecule],
        matrices: Sequence[Float[Tensor, "_ nmatrices _ _"]],
        diagonal: bool,
    ) -> tuple[Tensor, Tensor]:
        """Even and odd tensors (n, ncomponents, channels) of all atoms (diagonal) or pairs."""
        parts = [self._read(*each, diagonal) for each in zip(molecules, matrices, strict=True)]
        even, odd = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return even, odd

    def _read(self, molecule: Molecule, matrices: Tensor, diagonal: bool) -> tuple[Tensor, Tensor]:
        batch, nmatrices = matrices.shape[:2]
        order = elements_by_placement(molecule, matrices.device)
        own = placements(molecule, diagonal)
        sizes = [each.targets.numel() for each in own]
        start = 0 if diagonal else len(order.order) - sum(sizes)
        elements = order.there(matrices.flatten(2), 2)[..., start : start + sum(sizes)]
        # with no rows it also says what the tensors of an atom alone, without pairs, look like
        evens, odds = [self._nothing(matrices, 0)], [self._nothing(matrices, 1)]
        for each, blocks in zip(own, elements.split(sizes, -1), strict=True):
            blocks = blocks.unflatten(-1, tuple(each.targets.shape)).transpose(1, 2)
            even, odd = self._features(
                each.elements, blocks.reshape(-1, nmatrices, blocks.shape[-1])
            )
            evens.append(even)
            odds.append(odd)
        rows = rows_by_placement(molecule, batch, diagonal, matrices.device)
        return rows.back(torch.cat(evens)), rows.back(torch.cat(odds))

    def _nothing(self, like: Tensor, parity: int) -> Tensor:
        return like.new_zeros((0, ncomponents(self.lmax), self.channels[parity]))

    def _features(self, pair: tuple[int, int], blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd tensors of blocks (n, nmatrices, nelements) of one pair of elements."""
        layout = block_layout(self.basis, *pair)
        coefficients = _times(blocks, self._tables.get(_name(pair), blocks))
        counts = list(zip(layout.keys, layout.npaths, strict=True))
        parts = coefficients.split([(2 * key[0] + 1) * npaths for key, npaths in counts], -1)
        found: dict[tuple[int, int], Tensor] = {}
        for (key, npaths), part in zip(counts, parts, strict=True):
            paths = part.unflatten(-1, (-1, npaths)).transpose(1, 2)
            weight = self.weights[_name(pair, key)][:, -self.channels[key[1]] :]
            found[key] = _times(paths.flatten(2), weight)  # all paths of all matrices
        even, odd = (self._joined(found, parity, blocks) for parity in (0, 1))
        return even, odd

    def _joined(self, found: dict[tuple[int, int], Tensor], parity: int, like: Tensor) -> Tensor:
        """All components of a parity; zero where there is no path."""
        components = [
            found[angular, parity]
            if (angular, parity) in found
            else like.new_zeros((len(like), 2 * angular + 1, self.channels[parity]))
            for angular in range(self.lmax + 1)
        ]
        return torch.cat(components, 1)
