"""The molecular quadrature: atom-centred grids glued by Becke's partition, with derivatives.

The points come in blocks of `BLOCK` neighbours that one atom owns and takes along when it moves:
what integrates over them gives derivatives by nuclei that include the motion of the points.

Becke 1988 (J. Chem. Phys. 88, 2547), equations 13 to 22, with Treutler and Ahlrichs' size
adjustment (J. Chem. Phys. 102, 346, equation 4): PySCF's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ase_srdft.dft.grid.atomic_grid import BLOCK, atomic_grid, bragg_radius
from ase_srdft.dft.kernels.arrays import as_array, suits_kernels
from ase_srdft.dft.kernels.becke import Partition, becke_adjoint, becke_weights
from ase_srdft.dft.kernels.library import loaded

__all__ = ["Grid", "GridTemplate", "build_grid"]

_SMALLEST_SHARE = 1.0e-60
#: Elements of the largest temporary of one block, (batch x npair x npoints).
_BLOCK_ELEMENTS = {"cpu": 49_152, "cuda": 67_108_864}


@dataclass(frozen=True, kw_only=True, eq=False)
class GridTemplate:
    """What a molecule's grid is before the nuclei are placed.

    Attributes:
        level: of PySCF's, or ``COARSE_GRID``.
        offsets: points relative to the atom that owns them (Bohr).
        volumes: quadrature weights of the free atoms (Bohr^3).
        owners: the atom of each point.
        size_adjustment: a_ij of the partition.
    """

    level: int
    offsets: Float[Tensor, "npoints 3"]
    volumes: Float[Tensor, " npoints"]
    owners: Int[Tensor, " npoints"]
    size_adjustment: Float[Tensor, "natoms natoms"]

    def points(
        self, positions: Float[Tensor, "batch natoms 3"]
    ) -> Float[Tensor, "batch npoints 3"]:
        """The points around nuclei (Bohr), detached."""
        return positions.detach()[:, self.owners] + self.offsets

    @cached_property
    def block_owners(self) -> Int[np.ndarray, " nblocks"]:
        """The atom of each block of points."""
        owners: np.ndarray = self.owners[::BLOCK].cpu().numpy().astype(np.int32)
        return owners

    @cached_property
    def partition(self) -> Partition:
        """What the compiled kernels read."""
        return Partition(
            adjustment=as_array(self.size_adjustment),
            offsets=as_array(self.offsets.T),
            owners=self.block_owners,
            volumes=as_array(self.volumes),
        )

    @classmethod
    def of(cls, numbers: tuple[int, ...], level: int) -> GridTemplate:
        """The template of a molecule at a grid level."""
        grids = [atomic_grid(number, level).in_blocks for number in numbers]
        radii = np.sqrt([bragg_radius(number) for number in numbers])
        ratio = radii[:, None] / radii
        return cls(
            level=level,
            offsets=torch.tensor(np.concatenate([g.offsets for g in grids])),
            volumes=torch.tensor(np.concatenate([g.volumes for g in grids])),
            owners=torch.tensor(np.repeat(np.arange(len(grids)), [len(g.volumes) for g in grids])),
            size_adjustment=torch.tensor(np.clip(0.25 * (ratio.T - ratio), -0.5, 0.5)),
        )

    def to(self, device: torch.device) -> GridTemplate:
        """The template on a device."""
        return GridTemplate(
            level=self.level,
            offsets=self.offsets.to(device),
            volumes=self.volumes.to(device),
            owners=self.owners.to(device),
            size_adjustment=self.size_adjustment.to(device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Quadrature of a batch of geometries.

    Attributes:
        template: where the points are, seen from the nuclei.
        weights: (Bohr^3).
    """

    template: GridTemplate
    weights: Float[Tensor, "batch npoints"]

    def points(
        self, positions: Float[Tensor, "batch natoms 3"]
    ) -> Float[Tensor, "batch npoints 3"]:
        """Where the points are (Bohr), detached: they move with the nuclei that own them."""
        return self.template.points(positions)


class _Pairs:
    """Index tables over the pairs k < j of atoms."""

    def __init__(self, template: GridTemplate) -> None:
        natoms = len(template.size_adjustment)
        device = template.offsets.device
        first, second = torch.triu_indices(natoms, natoms, 1, device=device)
        self.natoms, self.first, self.second = natoms, first, second
        self.adjustment = template.size_adjustment[first, second][:, None]
        self.npair = len(first)
        # Row k of the table lists the shares s_kj: s of pair (k, j) or the other of pair (j, k).
        table = torch.full((natoms, natoms), 2 * self.npair, device=device)
        numbering = torch.arange(self.npair, device=device)
        table[first, second] = numbering
        table[second, first] = numbering + self.npair
        self.table = table.flatten()
        self.incidence = torch.zeros(natoms, self.npair, dtype=torch.float64, device=device)
        self.incidence[first, numbering] = 1.0
        self.incidence[second, numbering] = -1.0

    def smoothed(self, distances: Tensor, separations: Tensor) -> list[Tensor]:
        """Elliptic coordinate mu, x0 and the three iterates of p(x) = 1.5 x - 0.5 x^3."""
        mu = (self.incidence / separations[:, None]).transpose(1, 2) @ distances
        x = (mu + self.adjustment).addcmul_(mu * mu, self.adjustment, value=-1.0)
        iterates = [mu, x]
        for _ in range(3):
            x = (1.5 * x).addcmul_(x * x, x, value=-0.5)
            iterates.append(x)
        return iterates

    def cell_functions(self, x3: Tensor) -> tuple[Tensor, Tensor]:
        """Shares 2 s (batch, 2 npair + 1, n) and normalised cells p_k (batch, natoms, n).

        The factors of two cancel in the cells.
        """
        shares = x3.new_ones((len(x3), 2 * self.npair + 1, x3.shape[-1]))
        shares[:, : self.npair] -= x3
        shares[:, self.npair : -1] += x3
        factors = shares.index_select(1, self.table).unflatten(1, (self.natoms, self.natoms))
        cells = factors.prod(2)
        return shares, cells / cells.sum(1, keepdim=True)


def _separations(positions: Tensor, pairs: _Pairs) -> tuple[Tensor, Tensor]:
    vectors = positions[:, pairs.first] - positions[:, pairs.second]
    return vectors, vectors.norm(dim=-1)


def _displacements(positions: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """From every atom to every point, (batch, natoms, 3, n), and their lengths."""
    vectors = points.transpose(1, 2).contiguous()[:, None] - positions[..., None]
    return vectors, vectors.square().sum(2).sqrt()


def _blocks(template: GridTemplate, batch: int) -> list[slice]:
    natoms = len(template.size_adjustment)
    limit = _BLOCK_ELEMENTS[template.offsets.device.type]
    size = max(64, limit // (batch * max(1, natoms * (natoms - 1) // 2)))
    return [slice(i, i + size) for i in range(0, len(template.volumes), size)]


class _BeckeWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, template: GridTemplate) -> Tensor:
        library = loaded() if suits_kernels(positions) else None
        if library is None:
            weights = _weights(positions, template)
        else:
            geometries = as_array(positions)
            rows = [becke_weights(library, template.partition, each) for each in geometries]
            weights = torch.from_numpy(np.stack(rows))
        ctx.save_for_backward(positions, weights)
        ctx.template, ctx.library = template, library
        return weights

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        positions, weights = ctx.saved_tensors
        template: GridTemplate = ctx.template
        if ctx.library is None:
            scaled = cotangents[0] * weights  # dL = sum_g scaled_g d ln w_g
            return _pulled_back(positions, template, scaled), None
        arrays = [as_array(tensor) for tensor in (positions, weights, cotangents[0])]
        rows = [
            becke_adjoint(ctx.library, template.partition, *each)
            for each in zip(*arrays, strict=True)
        ]
        return torch.from_numpy(np.stack(rows)), None


def _weights(positions: Tensor, template: GridTemplate) -> Tensor:
    """The quadrature weights, in torch."""
    points = template.points(positions)
    pairs = _Pairs(template)
    _, separations = _separations(positions, pairs)
    shares = []
    for block in _blocks(template, len(positions)):
        _, distances = _displacements(positions, points[:, block])
        *_, x3 = pairs.smoothed(distances, separations)
        _, cells = pairs.cell_functions(x3)
        owners = template.owners[block].expand(len(positions), 1, -1)
        shares.append(cells.gather(1, owners)[:, 0])
    return torch.cat(shares, 1) * template.volumes


def _pulled_back(positions: Tensor, template: GridTemplate, scaled: Tensor) -> Tensor:
    """Derivative of sum_g scaled_g ln w_g by the nuclei, in torch."""
    points = template.points(positions)
    pairs = _Pairs(template)
    vectors, separations = _separations(positions, pairs)
    by_atom = torch.zeros_like(positions)
    by_separation = torch.zeros_like(separations)
    for block in _blocks(template, len(positions)):
        towards, distances = _displacements(positions, points[:, block])
        slope, mu = _log_weight_slope(
            pairs, distances, separations, template.owners[block], scaled[:, block]
        )
        by_distance = (pairs.incidence / separations[:, None]) @ slope  # (batch, natoms, n)
        pull = towards * (by_distance / distances)[:, :, None]
        by_atom.index_add_(1, template.owners[block], pull.sum(1).transpose(1, 2))
        by_atom -= pull.sum(-1)
        by_separation -= (slope * mu).sum(-1) / separations
    along = vectors * (by_separation / separations)[..., None]
    by_atom += pairs.incidence @ along
    return by_atom


def _log_weight_slope(
    pairs: _Pairs, distances: Tensor, separations: Tensor, owners: Tensor, scaled: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivative of sum_g scaled_g ln w_g by mu of each pair, (batch, npair, n), and mu.

    ln w_g = ln p_owner, and d ln p_o = sum_k (delta_ok - p_k) d ln P_k, P_k = prod_j s_kj.
    """
    mu, *iterates, x3 = pairs.smoothed(distances, separations)
    shares, cells = pairs.cell_functions(x3)
    gain = -cells
    gain.scatter_add_(1, owners.expand(len(mu), 1, -1), torch.ones_like(gain[:, :1]))
    gain *= scaled[:, None]
    shares = shares.clamp_(min=_SMALLEST_SHARE)
    # d ln s_kj/dx3 = -1 / (1 - x3) and d ln s_jk/dx3 = 1 / (1 + x3)
    slope = gain.index_select(1, pairs.second) / shares[:, pairs.npair : -1]
    slope -= gain.index_select(1, pairs.first) / shares[:, : pairs.npair]
    slope *= 1.5**3 - (2.0 * 1.5**3 * pairs.adjustment) * mu  # dx0/dmu, and 1.5 of each p'
    for x in iterates:
        slope.addcmul_(slope, x * x, value=-1.0)  # p'(x) = 1.5 (1 - x^2)
    return slope, mu


def build_grid(positions: Float[Tensor, "batch natoms 3"], template: GridTemplate) -> Grid:
    """Place a template's grid on nuclei; differentiable in the positions.

    Args:
        positions: nuclei (Bohr).
        template: the molecule's grid, on the same device.
    """
    weights: Tensor = _BeckeWeights.apply(positions, template)  # type: ignore[no-untyped-call]
    return Grid(template=template, weights=weights)
