"""From equivariant features to the blocks of a Fock matrix.

The block of shells a (on atom A) and b (on atom B) is ``sum_l C(la, lb; l) t_l`` with one
equivariant tensor t_l per path; paths with la + lb + l odd are pseudo-tensors.  Weights are
addressed by (element, shell) of both sides and shared between all molecules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ase_srdft.dft.basis.element_basis import ElementBasis, element_basis
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.layers.rearrangement import Rearrangement
from ase_srdft.models.layers.spherical_tensors import real_clebsch_gordan

__all__ = [
    "BlockLayout",
    "Placement",
    "block_layout",
    "elements_by_placement",
    "highest_angular_momentum",
    "placements",
    "rows_by_placement",
]

#: Where component m = -l ... l of a shell stands in PySCF's order: p is (x, y, z), others as here.
_ORBITAL_ORDER = {0: (0,), 1: (1, 2, 0), 2: tuple(range(5)), 3: tuple(range(7))}


def highest_angular_momentum(basis: str, elements: tuple[int, ...]) -> int:
    """The highest l a block of this basis couples to: twice that of the orbitals."""
    return 2 * max(max(element_basis(basis, z).angular_momenta) for z in elements)


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockLayout:
    """How the paths of one pair of elements make up their block.

    Attributes:
        npaths: paths per (l, parity), in the order of ``keys``.
        keys: (l, parity) pairs; parity 0 is even.
        assembly: orthogonal matrix from all coefficients, path by path within each key
            and component by component, to the elements of the block by rows.
    """

    keys: tuple[tuple[int, int], ...]
    npaths: tuple[int, ...]
    assembly: Float[np.ndarray, "ncoefficients nelements"]


def _shell_blocks(left: ElementBasis, right: ElementBasis) -> list[tuple[int, int, np.ndarray]]:
    """(l, parity, C spread over the block: (2l + 1, nao_left, nao_right)) of every path."""
    blocks = []
    for l1, start1 in zip(left.angular_momenta, left.shell_offsets, strict=True):
        for l2, start2 in zip(right.angular_momenta, right.shell_offsets, strict=True):
            rows = start1 + np.array(_ORBITAL_ORDER[l1])
            columns = start2 + np.array(_ORBITAL_ORDER[l2])
            for angular in range(abs(l1 - l2), l1 + l2 + 1):
                spread = np.zeros((2 * angular + 1, left.nao, right.nao))
                coupling = real_clebsch_gordan(l1, l2, angular)
                spread[:, rows[:, None], columns] = coupling.transpose(2, 0, 1)
                blocks.append((angular, (l1 + l2 + angular) % 2, spread))
    return blocks


@lru_cache(maxsize=4096)
def block_layout(basis: str, left: int, right: int) -> BlockLayout:
    """The layout of the block between two elements."""
    bases = element_basis(basis, left), element_basis(basis, right)
    blocks = _shell_blocks(*bases)
    keys = sorted({(angular, parity) for angular, parity, _ in blocks})
    rows, npaths = [], []
    for key in keys:
        spreads = [spread for angular, parity, spread in blocks if (angular, parity) == key]
        npaths.append(len(spreads))
        # components outside, paths inside: the order in which the head writes them
        rows.append(np.stack(spreads, 1).reshape(-1, bases[0].nao * bases[1].nao))
    return BlockLayout(
        keys=tuple(keys),
        npaths=tuple(npaths),
        assembly=np.concatenate(rows),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """Where the blocks of one ordered pair of elements stand in a molecule's matrix.

    Attributes:
        elements: of the two atoms.
        sources: rows among the molecule's atoms (diagonal blocks) or ordered pairs.
        targets: flat index into (nao, nao) of every element of every block.
    """

    elements: tuple[int, int]
    sources: Int[Tensor, " nblocks"]
    targets: Int[Tensor, "nblocks nelements"]


@lru_cache(maxsize=256)
def placements(molecule: Molecule, diagonal: bool) -> tuple[Placement, ...]:
    """All diagonal blocks of a molecule, or all others, by pair of elements."""
    natoms, nao = molecule.natoms, molecule.nao
    orbitals = [np.arange(s.start, s.stop) for s in molecule.basis.atom_slices]
    if diagonal:
        pairs = [(i, i) for i in range(natoms)]
    else:
        pairs = [(i, j) for i in range(natoms) for j in range(natoms) if i != j]
    grouped: dict[tuple[int, int], list[int]] = {}
    for source, (i, j) in enumerate(pairs):
        elements = (molecule.numbers[i], molecule.numbers[j])
        grouped.setdefault(elements, []).append(source)
    result = []
    for elements, sources in sorted(grouped.items()):
        targets = [
            (orbitals[i][:, None] * nao + orbitals[j]).ravel()
            for i, j in (pairs[source] for source in sources)
        ]
        result.append(
            Placement(
                elements=elements,
                sources=torch.tensor(sources),
                targets=torch.tensor(np.array(targets)),
            )
        )
    return tuple(result)


@lru_cache(maxsize=256)
def elements_by_placement(molecule: Molecule, device: torch.device) -> Rearrangement:
    """A matrix by rows (nao^2), and the same with one placement's blocks after the other's.

    Diagonal blocks come first.
    """
    every = (*placements(molecule, diagonal=True), *placements(molecule, diagonal=False))
    return Rearrangement(torch.cat([each.targets.flatten() for each in every]).to(device))


@lru_cache(maxsize=256)
def rows_by_placement(
    molecule: Molecule, batch: int, diagonal: bool, device: torch.device
) -> Rearrangement:
    """Atoms (or ordered pairs) of a batch, geometry by geometry, and the same by placement.

    The rows of one placement are those of the first geometry, then of the second.
    """
    count = molecule.natoms if diagonal else molecule.natoms * (molecule.natoms - 1)
    starts = count * torch.arange(batch)[:, None]
    rows = [(starts + each.sources).flatten() for each in placements(molecule, diagonal)]
    return Rearrangement(torch.cat([torch.empty(0, dtype=torch.long), *rows]).to(device))
