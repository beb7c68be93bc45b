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
from ase_srdft.models.fock.block_layout import block_layout, placements
from ase_srdft.models.layers.exact_tables import ExactTables
from ase_srdft.models.layers.spherical_tensors import component_slice, ncomponents

__all__ = ["BlocksFromFeatures", "FeaturesFromBlocks"]


def _name(pair: tuple[int, int], key: tuple[int, int] | None = None) -> str:
    """Of the table of a pair of elements, or of its weights for (l, parity)."""
    name = "_".join(chemical_symbols[z] for z in pair)
    return name if key is None else f"{name}_{key[0]}_{'odd' if key[1] else 'even'}"


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
            ((odd if key[1] else even)[:, component_slice(key[0])] @ weight).flatten(1)
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
    """

    def __init__(
        self, features: int, lmax: int, basis: str, pairs: list[tuple[int, int]], nmatrices: int
    ) -> None:
        super().__init__()
        self.features, self.ncomponents, self.basis = features, ncomponents(lmax), basis
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
        """Even and odd tensors (n, ncomponents, features) of all atoms (diagonal) or pairs."""
        parts = [self._read(*each, diagonal) for each in zip(molecules, matrices, strict=True)]
        even, odd = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return even, odd

    def _read(self, molecule: Molecule, matrices: Tensor, diagonal: bool) -> tuple[Tensor, Tensor]:
        batch, natoms = len(matrices), molecule.natoms
        nblocks = natoms if diagonal else natoms * (natoms - 1)
        # odd after even
        read = matrices.new_zeros((batch, nblocks, 2 * self.ncomponents, self.features))
        flat = matrices.flatten(2)
        for placement in placements(molecule, diagonal):
            blocks = flat[:, :, placement.targets.to(flat.device)].transpose(1, 2)
            sources = placement.sources.to(flat.device)
            read = read.index_copy(1, sources, self._features(placement.elements, blocks))
        even, odd = read.flatten(0, 1).chunk(2, 1)
        return even, odd

    def _features(self, pair: tuple[int, int], blocks: Tensor) -> Tensor:
        """Of blocks (batch, nblocks, nmatrices, nelements) of one pair of elements."""
        layout = block_layout(self.basis, *pair)
        coefficients = blocks @ self._tables.get(_name(pair), blocks)
        read = blocks.new_zeros((*blocks.shape[:2], 2 * self.ncomponents, self.features))
        start = 0
        for key, npaths in zip(layout.keys, layout.npaths, strict=True):
            size = (2 * key[0] + 1) * npaths
            paths = coefficients[..., start : start + size].unflatten(-1, (-1, npaths))
            start += size
            joined = paths.transpose(2, 3).flatten(3)  # all paths of all matrices
            target = component_slice(key[0])
            shift = key[1] * self.ncomponents
            target = slice(target.start + shift, target.stop + shift)
            read[:, :, target] = joined @ self.weights[_name(pair, key)]
        return read
