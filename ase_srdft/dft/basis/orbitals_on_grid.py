"""Values of the atomic orbitals on grid points, and sums over their derivatives.

Rows are in *grid order*: orbitals grouped by the list of shells of their atom (carbon and oxygen
often have the same), then atom, then shell, so that the shells of one l of a group are one strided
block.  ``Basis.grid_order`` maps it to the natural (PySCF) order.  Points run last, so every row
is contiguous.

With d = r - R_atom an orbital is ``chi = R(d^2) Y(d)``, and with ``R_k = (1/x d/dx)^k R(x^2)``::

    grad chi             = R_1 Y d + R_0 grad Y
    grad (v . grad chi)  = [R_2 (v.d) Y + R_1 v.grad Y] d + R_1 Y v + R_1 (v.d) grad Y + R_0 Y'' v

What is wanted of the derivatives are sums over orbitals or along one direction, so they are
never stored: the functions below sum over the shells of an atom before they multiply by vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.basis.atomic_orbitals import AtomGroup, Basis
from ase_srdft.dft.basis.solid_harmonics import (
    directional_derivative,
    harmonics,
    weighted_gradient,
    weighted_hessian,
)

__all__ = [
    "OrbitalValues",
    "contract_gradients",
    "evaluate_orbitals",
    "position_derivative",
    "weighted_orbitals",
]

#: exp(-100) = 4e-44 is nothing, and far below it the exponential itself gets slow (subnormals).
_LARGEST_EXPONENT = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shells:
    """The shells of one l of a group of atoms on the points.

    Attributes:
        angular: l.
        rows: their orbitals, counted on the atom.
        displacements: d, (batch, natoms, 3, npoints).
        radial: R_k for each k up to the order, (batch, natoms, nshell, npoints).
        harmonics: Y, (batch, natoms, 2l+1, npoints); None for l = 0, where it is in R.
    """

    angular: int
    rows: slice
    displacements: Tensor
    radial: tuple[Tensor, ...]
    harmonics: Tensor | None

    def block(self, array: Tensor) -> Tensor:
        """View (batch, natoms, nshell, 2l+1, npoints) of a group's rows (batch, nao, npoints)."""
        natoms, nshell = self.radial[0].shape[1:3]
        rows = array.unflatten(-2, (natoms, -1))[..., self.rows, :]
        block: Tensor = rows.unflatten(-2, (nshell, -1))
        return block

    def contract(self, derivative: int, coefficients: Tensor) -> Tensor:
        """w_m = sum_shell R_k c_m, (batch, natoms, 2l+1, npoints)."""
        products = self.radial[derivative].unsqueeze(-2) * coefficients
        return products.sum(2)

    def harmonic(self, weights: Tensor) -> Tensor:
        """sum_m w_m Y_m, (batch, natoms, 1, npoints)."""
        if self.harmonics is None:
            return weights
        return (weights * self.harmonics).sum(2, keepdim=True)

    def gradient(self, weights: Tensor) -> Tensor:
        """sum_m w_m grad Y_m, (batch, natoms, 3, npoints)."""
        return weighted_gradient(self.angular, self.displacements, weights)

    def hessian(self, weights: Tensor, vector: Tensor) -> Tensor:
        """sum_m w_m Y_m'' v, (batch, natoms, 3, npoints); v is (batch, 1, 3, npoints)."""
        return weighted_hessian(self.angular, self.displacements, weights, vector)

    def directional(self, vector: Tensor) -> Tensor:
        """v . grad Y, (batch, natoms or 1, 2l+1, npoints); v is (batch, 1, 3, npoints)."""
        return directional_derivative(self.angular, self.displacements, vector)


@dataclass(frozen=True, kw_only=True, eq=False)
class OrbitalValues:
    """Orbitals on a block of points, rows in grid order.

    Attributes:
        values: orbitals, (batch, nao, npoints).
        groups: what they are made of.
    """

    values: Float[Tensor, "batch nao npoints"]
    groups: list[tuple[AtomGroup, list[_Shells]]]


def _shells(group: AtomGroup, displacements: Tensor, order: int) -> Iterator[_Shells]:
    device = displacements.device
    basis = group.bases[0]
    nrows = (order + 1) * len(basis.angular_momenta)
    coefficients = group.coefficients[:, :nrows].to(device)
    exponents = group.exponents.to(device) * displacements.square().sum(2, keepdim=True)
    primitives = exponents.clamp_(min=-_LARGEST_EXPONENT).exp_()
    radial = (coefficients @ primitives).unflatten(2, (order + 1, -1))
    shell = row = 0
    for angular, members in groupby(basis.angular_momenta):
        nshell = len(list(members))
        size = nshell * (2 * angular + 1)
        yield _Shells(
            angular=angular,
            rows=slice(row, row + size),
            displacements=displacements,
            radial=radial[:, :, :, shell : shell + nshell].unbind(2),
            harmonics=harmonics(angular, displacements) if angular else None,
        )
        shell, row = shell + nshell, row + size


def evaluate_orbitals(
    basis: Basis,
    positions: Float[Tensor, "batch natoms 3"],
    points: Float[Tensor, "batch npoints 3"],
    order: int,
) -> OrbitalValues:
    """Orbitals on points, without autograd.

    Args:
        basis: the molecule's basis.
        positions: nuclei (Bohr).
        points: grid points (Bohr).
        order: 0 for values, 1 to allow gradients and nuclear derivatives of values, 2 nuclear
            derivatives of gradients.
    """
    batch, npoints = points.shape[:2]
    values = positions.new_empty((batch, basis.nao, npoints))
    coordinates = points.transpose(-1, -2).contiguous()[:, None]
    groups = []
    for group in basis.groups:
        displacements = coordinates - positions[:, list(group.atoms), :, None]
        shells = list(_shells(group, displacements, order))
        groups.append((group, shells))
        for shell in shells:
            block = shell.block(values[:, group.rows])
            radial = shell.radial[0].unsqueeze(-2)
            if shell.harmonics is None:
                block.copy_(radial)
            else:
                torch.mul(radial, shell.harmonics[:, :, None], out=block)
    return OrbitalValues(values=values, groups=groups)


def contract_gradients(
    orbitals: OrbitalValues, coefficients: Float[Tensor, "batch nao npoints"]
) -> Float[Tensor, "batch 3 npoints"]:
    """sum_mu c_mu grad chi_mu at each point."""
    total = coefficients.new_zeros((len(coefficients), 3, coefficients.shape[-1]))
    for group, shells in orbitals.groups:
        for shell in shells:
            total += _value_slope(shell, shell.block(coefficients[:, group.rows])).sum(1)
    return total


def weighted_orbitals(
    orbitals: OrbitalValues,
    scalar: Float[Tensor, "batch npoints"],
    vector: Float[Tensor, "batch 3 npoints"] | None,
) -> Float[Tensor, "batch nao npoints"]:
    """a chi + v . grad chi."""
    if vector is None:
        return orbitals.values * scalar[:, None]
    weighted = torch.empty_like(orbitals.values)
    for group, shells in orbitals.groups:
        along = (shells[0].displacements * vector[:, None]).sum(2, keepdim=True)  # v . d
        for shell in shells:
            block = shell.block(weighted[:, group.rows])
            radial = shell.radial[0] * scalar[:, None, None]
            radial = radial.addcmul_(shell.radial[1], along).unsqueeze(-2)
            if shell.harmonics is None:
                block.copy_(radial)
            else:
                torch.mul(radial, shell.harmonics[:, :, None], out=block)
                slope = shell.directional(vector[:, None])[:, :, None]
                block.addcmul_(shell.radial[0].unsqueeze(-2), slope)
    return weighted


def position_derivative(
    orbitals: OrbitalValues,
    cotangent: Float[Tensor, "batch nao npoints"],
    gradient_cotangent: Float[Tensor, "batch nao npoints"] | None,
    direction: Float[Tensor, "batch 3 npoints"] | None,
) -> tuple[Float[Tensor, "batch 3 npoints"], Float[Tensor, "batch natoms 3"]]:
    """Derivatives of ``sum c chi + u v . grad chi`` at fixed c, u, v.

    Args:
        orbitals: evaluated with order 1, or 2 if u is given.
        cotangent: c.
        gradient_cotangent: u; None where the functional has no gradient correction.
        direction: v.

    Returns:
        By each point, and by each nucleus as the centre of its orbitals (summed over points).
    """
    by_point = cotangent.new_zeros((len(cotangent), 3, cotangent.shape[-1]))
    natoms = sum(len(group.atoms) for group, _ in orbitals.groups)
    by_nucleus = cotangent.new_zeros((len(cotangent), natoms, 3))
    for group, shells in orbitals.groups:
        for shell in shells:
            c = shell.block(cotangent[:, group.rows])
            if gradient_cotangent is None or direction is None:
                slope = _value_slope(shell, c)
            else:
                u = shell.block(gradient_cotangent[:, group.rows])
                slope = _slope(shell, c, u, direction[:, None])
            by_point += slope.sum(1)
            by_nucleus[:, list(group.atoms)] -= slope.sum(-1)
    return by_point, by_nucleus


def _value_slope(shells: _Shells, c: Tensor) -> Tensor:
    """sum c grad chi over the shells of each atom, (batch, natoms, 3, npoints)."""
    slope = shells.displacements * shells.harmonic(shells.contract(1, c))
    return slope if shells.angular == 0 else slope.add_(shells.gradient(shells.contract(0, c)))


def _slope(shells: _Shells, c: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """sum c grad chi + u grad (v . grad chi) over the shells, (batch, natoms, 3, npoints)."""
    along = (shells.displacements * v).sum(2, keepdim=True)  # v . d
    u1 = shells.contract(1, u)
    scale = shells.harmonic(shells.contract(1, c).addcmul_(along, shells.contract(2, u)))
    slope = v * shells.harmonic(u1)
    if shells.angular > 0:
        scale = scale + (shells.gradient(u1) * v).sum(2, keepdim=True)
        slope += shells.gradient(shells.contract(0, c).addcmul_(along, u1))
    if shells.angular > 1:
        slope += shells.hessian(shells.contract(0, u), v)
    return slope.addcmul_(shells.displacements, scale)
