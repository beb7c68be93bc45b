"""Atoms and ordered pairs of a batch of geometries, possibly of different molecules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ase_srdft.dft.prepared_geometry import Geometry

__all__ = ["Graph", "build_graph"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Every ordered pair of distinct atoms of each geometry, sorted by the first atom.

    The list is complete: the cutoff function does the rest, so indices depend on the molecules
    alone.

    Attributes:
        numbers: atomic numbers.
        first: receiving atom i of each pair.
        second: sending atom j.
        vectors: R_j - R_i (Bohr).
        nneighbours: neighbours of every atom if all have the same number, else None.
    """

    numbers: Int[Tensor, " natoms"]
    first: Int[Tensor, " npairs"]
    second: Int[Tensor, " npairs"]
    vectors: Float[Tensor, "npairs 3"]
    nneighbours: int | None

    def sum_by_first(self, messages: Float[Tensor, "npairs ..."]) -> Float[Tensor, "natoms ..."]:
        """Sum over the senders."""
        natoms = len(self.numbers)
        if self.nneighbours:
            by_sender: Tensor = messages.unflatten(0, (natoms, self.nneighbours)).sum(1)
            return by_sender
        result = messages.new_zeros((natoms, *messages.shape[1:]))
        return result.index_add(0, self.first, messages)


def _ordered_pairs(natoms: int, device: torch.device) -> tuple[Tensor, Tensor]:
    atoms = torch.arange(natoms, device=device)
    first = atoms.repeat_interleave(natoms)
    second = atoms.repeat(natoms)
    distinct = first != second
    return first[distinct], second[distinct]


def build_graph(geometries: Sequence[Geometry]) -> Graph:
    """The graph of a batch; differentiable in the positions."""
    numbers, firsts, seconds, positions = [], [], [], []
    start = 0
    for geometry in geometries:
        batch, natoms = geometry.positions.shape[:2]
        device = geometry.positions.device
        first, second = _ordered_pairs(natoms, device)
        offsets = start + natoms * torch.arange(batch, device=device)[:, None]
        firsts.append((first + offsets).flatten())
        seconds.append((second + offsets).flatten())
        numbers.append(torch.tensor(geometry.molecule.numbers, device=device).repeat(batch))
        positions.append(geometry.positions.flatten(0, 1))
        start += batch * natoms
    first, second = torch.cat(firsts), torch.cat(seconds)
    coordinates = torch.cat(positions)
    sizes = {geometry.molecule.natoms for geometry in geometries}
    return Graph(
        numbers=torch.cat(numbers),
        first=first,
        second=second,
        vectors=coordinates[second] - coordinates[first],
        nneighbours=sizes.pop() - 1 if len(sizes) == 1 else None,
    )
