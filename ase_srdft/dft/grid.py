"""The molecular quadrature: atom-centred grids glued by Becke's partition, with derivatives.

Becke 1988 (J. Chem. Phys. 88, 2547), equations 13 to 22, with Treutler and Ahlrichs' size
adjustment (J. Chem. Phys. 102, 346, equation 4): PySCF's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ase_srdft.dft.grid_template import atomic_grid, bragg_radius

__all__ = ["Grid", "GridTemplate", "build_grid"]

_SMALLEST_SHARE = 1.0e-60
#: Elements of the largest temporary of one block, (batch x npair x npoints).
_BLOCK_ELEMENTS = {"cpu": 131_072, "cuda": 67_108_864}


@dataclass(frozen=True, kw_only=True, eq=False)
class GridTemplate:
    """What a molecule's grid is before the nuclei are placed.

    Attributes:
        offsets: points relative to the atom that owns them (Bohr).
        volumes: quadrature weights of the free atoms (Bohr^3).
        owners: the atom of each point.
        size_adjustment: a_ij of the partition.
    """

    offsets: Float[Tensor, "npoints 3"]
    volumes: Float[Tensor, " npoints"]
    owners: Int[Tensor, " npoints"]
    size_adjustment: Float[Tensor, "natoms natoms"]

    @classmethod
    def of(cls, numbers: tuple[int, ...], level: int) -> GridTemplate:
        """The template of a molecule at a grid level."""
        grids = [atomic_grid(number, level) for number in numbers]
        radii = np.sqrt([bragg_radius(number) for number in numbers])
        ratio = radii[:, None] / radii
        return cls(
            offsets=torch.tensor(np.concatenate([g.offsets for g in grids])),
            volumes=torch.tensor(np.concatenate([g.volumes for g in grids])),
            owners=torch.tensor(np.repeat(np.arange(len(grids)), [len(g.volumes) for g in grids])),
            size_adjustment=torch.tensor(np.clip(0.25 * (ratio.T - ratio), -0.5, 0.5)),
        )

    def to(self, device: torch.device) -> GridTemplate:
        """The template on a device."""
        return GridTemplate(
            offsets=self.offsets.to(device),
            volumes=self.volumes.to(device),
            owners=self.owners.to(device),
            size_adjustment=self.size_adjustment.to(device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Quadrature points and weights of a batch of geometries.

    Attributes:
        points: (Bohr).
        weights: (Bohr^3).
    """

    points: Float[Tensor, "batch npoints 3"]
    weights: Float[Tensor, "batch npoints"]


class _Pairs:
    """Index tables over the pairs k < j of atoms."""

    def __init__(self, template: GridTemplate) -> None:
        natoms = len(template.size_adjustment)
        device = template.offsets.device
        first, second = torch.triu_indices(natoms, natoms, 1, device=device)
        self.natoms, self.first, self.second = natoms, first, second
        self.adjustment = template.size_adjustment[first, second][:, None]
        npair = len(first)
        # Row k of the table lists the shares s_kj: s of pair (k, j) or 1 - s of pair (j, k).
        table = torch.full((natoms, natoms), 2 * npair, device=device)
        numbering = torch.arange(npair, device=device)
        table[first, second] = numbering
        table[second, first] = numbering + npair
        self.table = table
        self.incidence = torch.zeros(natoms, npair, dtype=torch.float64, device=device)
        self.incidence[first, numbering] = 1.0
        self.incidence[second, numbering] = -1.0

    def smoothed(self, distances: Tensor, separations: Tensor) -> tuple[Tensor, ...]:
        """Elliptic coordinate mu and the three iterates of p(x) = 1.5 x - 0.5 x^3."""
        mu = (distances[:, self.first] - distances[:, self.second]) / separations[..., None]
        x0 = mu + self.adjustment * (1.0 - mu * mu)
        x1 = x0 * (1.5 - 0.5 * x0 * x0)
        x2 = x1 * (1.5 - 0.5 * x1 * x1)
        x3 = x2 * (1.5 - 0.5 * x2 * x2)
        return mu, x0, x1, x2, x3

    def cell_functions(self, x3: Tensor) -> tuple[Tensor, Tensor]:
        """Shares s (batch, 2 npair + 1, n) and normalised cells p_k (batch, natoms, n)."""
        one = x3.new_ones((len(x3), 1, x3.shape[-1]))
        shares = torch.cat([0.5 * (1.0 - x3), 0.5 * (1.0 + x3), one], 1)
        cells = shares[:, self.table].prod(2)
        return shares, cells / cells.sum(1, keepdim=True)


def _separations(positions: Tensor, pairs: _Pairs) -> tuple[Tensor, Tensor]:
    vectors = positions[:, pairs.first] - positions[:, pairs.second]
    return vectors, vectors.norm(dim=-1)


def _blocks(template: GridTemplate, batch: int) -> list[slice]:
    natoms = len(template.size_adjustment)
    limit = _BLOCK_ELEMENTS[template.offsets.device.type]
    size = max(64, limit // (batch * max(1, natoms * (natoms - 1) // 2)))
    return [slice(i, i + size) for i in range(0, len(template.volumes), size)]


class _BeckeWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, points: Tensor, template: GridTemplate) -> Tensor:
        pairs = _Pairs(template)
        _, separations = _separations(positions, pairs)
        shares = []
        for block in _blocks(template, len(positions)):
            distances = (points[:, block][:, None] - positions[:, :, None]).norm(dim=-1)
            *_, x3 = pairs.smoothed(distances, separations)
            _, cells = pairs.cell_functions(x3)
            owners = template.owners[block].expand(len(positions), 1, -1)
            shares.append(cells.gather(1, owners)[:, 0])
        weights = torch.cat(shares, 1) * template.volumes
        ctx.save_for_backward(positions, points, weights)
        ctx.template = template
        return weights

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, None]:
        positions, points, weights = ctx.saved_tensors
        template: GridTemplate = ctx.template
        scaled = cotangents[0] * weights  # dL = sum_g scaled_g d ln w_g
        pairs = _Pairs(template)
        vectors, separations = _separations(positions, pairs)
        by_point = torch.empty_like(points)
        by_atom = torch.zeros_like(positions)
        by_separation = torch.zeros_like(separations)
        for block in _blocks(template, len(positions)):
            towards = points[:, block][:, None] - positions[:, :, None]
            distances = towards.norm(dim=-1)
            slope, mu = _log_weight_slope(
                pairs, distances, separations, template.owners[block], scaled[:, block]
            )
            slope = slope / separations[..., None]
            by_distance = pairs.incidence @ slope  # (batch, natoms, n)
            pull = towards * (by_distance / distances)[..., None]
            by_point[:, block] = pull.sum(1)
            by_atom -= pull.sum(2)
            by_separation -= (slope * mu).sum(-1)
        along = vectors * (by_separation / separations)[..., None]
        by_atom += torch.einsum("kp,zpc->zkc", pairs.incidence, along)
        return by_atom, by_point, None


def _log_weight_slope(
    pairs: _Pairs, distances: Tensor, separations: Tensor, owners: Tensor, scaled: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivative of sum_g scaled_g ln w_g by mu of each pair, (batch, npair, n), and mu.

    ln w_g = ln p_owner, and d ln p_o = sum_k (delta_ok - p_k) d ln P_k, P_k = prod_j s_kj.
    """
    mu, x0, x1, x2, x3 = pairs.smoothed(distances, separations)
    shares, cells = pairs.cell_functions(x3)
    gain = -cells
    gain.scatter_add_(1, owners.expand(len(mu), 1, -1), torch.ones_like(gain[:, :1]))
    gain *= scaled[:, None]
    npair = len(pairs.first)
    shares = shares.clamp(min=_SMALLEST_SHARE)
    difference = gain[:, pairs.first] / shares[:, :npair]
    difference -= gain[:, pairs.second] / shares[:, npair : 2 * npair]
    # ds/dx3 = -1/2, and p'(x) = 1.5 (1 - x^2) for each of the three iterations.
    chain = -0.5 * 1.5**3 * (1.0 - x0 * x0) * (1.0 - x1 * x1) * (1.0 - x2 * x2)
    return difference * chain * (1.0 - 2.0 * pairs.adjustment * mu), mu


def build_grid(positions: Float[Tensor, "batch natoms 3"], template: GridTemplate) -> Grid:
    """Place a template's grid on nuclei; differentiable in the positions.

    Args:
        positions: nuclei (Bohr).
        template: the molecule's grid, on the same device.
    """
    points = positions[:, template.owners] + template.offsets
    weights: Tensor = _BeckeWeights.apply(positions, points, template)  # type: ignore[no-untyped-call]
    return Grid(points=points, weights=weights)
