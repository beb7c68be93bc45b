"""Exchange-correlation energy and potential by quadrature, with exact derivatives.

E_xc[rho] = sum_g w_g e(rho_g, sigma_g) and V_xc = dE_xc/dP.  The grid is walked in blocks that
stay in cache; nothing of size (nao, npoints) outlives its block.  Two differentiable operations:
:func:`xc_energy` (by P, nuclei, points, weights) and :func:`xc_potential` (the same, of the
matrix V_xc: the guess Fock matrix needs it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.functionals import energy_density
from ase_srdft.dft.grid import Grid
from ase_srdft.dft.level import Functional
from ase_srdft.dft.orbitals import (
    Basis,
    OrbitalValues,
    contract_position_derivative,
    evaluate_orbitals,
)

__all__ = ["Quadrature", "electron_density", "xc_energy", "xc_potential"]

#: Elements of one (batch, nao, npoints) array of a block.
_BLOCK_ELEMENTS = {"cpu": 131_072, "cuda": 33_554_432}


@dataclass(frozen=True, kw_only=True, eq=False)
class Quadrature:
    """What an integral over the grid needs besides the density."""

    basis: Basis
    functional: Functional
    positions: Float[Tensor, "batch natoms 3"]
    grid: Grid

    def blocks(self) -> Iterator[slice]:
        """Slices of the points."""
        batch, npoints = self.grid.weights.shape
        size = max(128, _BLOCK_ELEMENTS[self.positions.device.type] // (batch * self.basis.nao))
        return (slice(i, i + size) for i in range(0, npoints, size))

    def to_grid_order(self, matrix: Tensor) -> Tensor:
        """Permute a matrix (batch, nao, nao) from natural to grid order."""
        order = self.basis.grid_order.to(matrix.device)
        return matrix[:, order[:, None], order]

    def to_natural_order(self, matrix: Tensor) -> Tensor:
        """The inverse of :meth:`to_grid_order`."""
        order = self.basis.natural_order.to(matrix.device)
        return matrix[:, order[:, None], order]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Density:
    """rho and its gradient on a block, and u = D chi."""

    rho: Tensor  # (batch, n)
    gradient: Tensor | None  # (batch, 3, n)
    contracted: Tensor  # (batch, nao, n)


def _density(orbitals: OrbitalValues, matrix: Tensor) -> _Density:
    contracted = matrix @ orbitals.values
    rho = (contracted * orbitals.values).sum(-2)
    gradient = None
    if orbitals.gradients is not None:
        # D is symmetric: grad rho = 2 sum (D chi) grad chi.
        gradient = 2.0 * (contracted[:, None] * orbitals.gradients).sum(-2)
    return _Density(rho=rho, gradient=gradient, contracted=contracted)


def _weighted_orbitals(orbitals: OrbitalValues, scalar: Tensor, vector: Tensor | None) -> Tensor:
    """a chi / 2 + v . grad chi, whose product with chi^T plus transpose is the potential."""
    weighted = orbitals.values * (0.5 * scalar[:, None])
    if vector is not None and orbitals.gradients is not None:
        for axis in range(3):
            weighted.addcmul_(orbitals.gradients[:, axis], vector[:, axis, None])
    return weighted


def _potential_matrix(orbitals: OrbitalValues, scalar: Tensor, vector: Tensor | None) -> Tensor:
    half = _weighted_orbitals(orbitals, scalar, vector) @ orbitals.values.transpose(-1, -2)
    return half + half.transpose(-1, -2)


@torch.enable_grad()
def _pointwise(
    functional: Functional, rho: Tensor, gradient: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """e, de/drho and de/d(grad rho) on a block."""
    rho = rho.detach().requires_grad_()
    if not functional.needs_gradient or gradient is None:
        energy = energy_density(functional, rho, torch.zeros_like(rho))
        return energy.detach(), torch.autograd.grad(energy.sum(), rho)[0], None
    sigma = gradient.square().sum(1).requires_grad_()
    energy = energy_density(functional, rho, sigma)
    by_rho, by_sigma = torch.autograd.grad(energy.sum(), (rho, sigma))
    return energy.detach(), by_rho, 2.0 * by_sigma[:, None] * gradient


class _PositionGradient:
    """Accumulates the derivative by nuclei (as orbital centres) and by points."""

    def __init__(self, quadrature: Quadrature) -> None:
        self.quadrature = quadrature
        self.by_point = torch.zeros_like(quadrature.grid.points)
        positions = quadrature.positions
        self._by_orbital = positions.new_zeros((len(positions), 3, quadrature.basis.nao))

    def add(
        self,
        block: slice,
        orbitals: OrbitalValues,
        matrix: Tensor,
        density: _Density,
        scalar: Tensor,
        vector: Tensor | None,
    ) -> None:
        """Derivative of sum_g a_g rho_g + v_g . grad rho_g at fixed D, a, v.

        The cotangent of chi is 2 D (a chi + v . grad chi), that of v . grad chi is 2 D chi.
        """
        cotangent = 2.0 * matrix @ _weighted_orbitals(orbitals, scalar, vector)
        cotangent.addcmul_(density.contracted, scalar[:, None])
        twice = 2.0 * density.contracted if vector is not None else None
        terms = contract_position_derivative(orbitals, cotangent, twice, vector)
        self.by_point[:, block] += terms.sum(-2).transpose(-1, -2)
        self._by_orbital += terms.sum(-1)

    def by_nucleus(self) -> Tensor:
        """(batch, natoms, 3): a nucleus moves its orbitals against the points."""
        basis = self.quadrature.basis
        atoms = basis.atom_of_orbital[basis.grid_order].to(self.by_point.device)
        result = torch.zeros_like(self.quadrature.positions)
        return result.index_add_(1, atoms, -self._by_orbital.transpose(-1, -2))


def electron_density(
    quadrature: Quadrature, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch npoints"]:
    """The density on the grid (Bohr^-3), without autograd."""
    matrix = quadrature.to_grid_order(density_matrix.detach())
    positions, points = quadrature.positions.detach(), quadrature.grid.points.detach()
    blocks = [
        _density(evaluate_orbitals(quadrature.basis, positions, points[:, block], 0), matrix).rho
        for block in quadrature.blocks()
    ]
    return torch.cat(blocks, 1)


class _XCEnergy(torch.autograd.Function):
    """Forward computes every derivative at once: the cotangent of an energy is a number."""

    @staticmethod
    def forward(
        ctx: Any,
        density_matrix: Tensor,
        positions: Tensor,
        points: Tensor,
        weights: Tensor,
        quadrature: Quadrature,
    ) -> tuple[Tensor, Tensor]:
        moves = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        gga = quadrature.functional.needs_gradient
        order = int(gga) + int(moves)
        matrix = quadrature.to_grid_order(density_matrix)
        position_gradient = _PositionGradient(quadrature) if moves else None
        by_weight = torch.empty_like(weights)
        potential = torch.zeros_like(density_matrix)
        for block in quadrature.blocks():
            orbitals = evaluate_orbitals(quadrature.basis, positions, points[:, block], order)
            density = _density(orbitals, matrix)
            gradient = density.gradient if gga else None
            energy, scalar, vector = _pointwise(quadrature.functional, density.rho, gradient)
            by_weight[:, block] = energy
            weight = weights[:, block]
            scalar = scalar * weight
            vector = None if vector is None else vector * weight[:, None]
            potential += _potential_matrix(orbitals, scalar, vector)
            if position_gradient is not None:
                position_gradient.add(block, orbitals, matrix, density, scalar, vector)
        potential = quadrature.to_natural_order(potential)
        if position_gradient is None:
            ctx.save_for_backward(potential, by_weight)
        else:
            ctx.save_for_backward(
                potential, by_weight, position_gradient.by_nucleus(), position_gradient.by_point
            )
        ctx.mark_non_differentiable(potential)
        return (by_weight * weights).sum(-1), potential

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        potential, by_weight, *moved = ctx.saved_tensors
        scale = cotangents[0][:, None]
        by_nucleus, by_point = (scale[..., None] * m for m in moved) if moved else (None, None)
        return scale[..., None] * potential, by_nucleus, by_point, scale * by_weight, None


def xc_energy(
    quadrature: Quadrature, density_matrix: Float[Tensor, "batch nao nao"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch nao nao"]]:
    """E_xc (Hartree), differentiable by P, nuclei and grid, and V_xc = dE_xc/dP, detached."""
    grid = quadrature.grid
    energy, potential = _XCEnergy.apply(
        density_matrix, quadrature.positions, grid.points, grid.weights, quadrature
    )
    return energy, potential


class _XCPotential(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        density_matrix: Tensor,
        positions: Tensor,
        points: Tensor,
        weights: Tensor,
        quadrature: Quadrature,
    ) -> Tensor:
        ctx.save_for_backward(density_matrix, positions, points, weights)
        ctx.quadrature = quadrature
        gga = quadrature.functional.needs_gradient
        matrix = quadrature.to_grid_order(density_matrix)
        potential = torch.zeros_like(density_matrix)
        for block in quadrature.blocks():
            orbitals = evaluate_orbitals(quadrature.basis, positions, points[:, block], int(gga))
            density = _density(orbitals, matrix)
            _, scalar, vector = _pointwise(quadrature.functional, density.rho, density.gradient)
            weight = weights[:, block]
            vector = None if vector is None else vector * weight[:, None]
            potential += _potential_matrix(orbitals, scalar * weight, vector)
        return quadrature.to_natural_order(potential)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of Tr(W V[P]) = sum_g w_g h(rho, grad rho; rho~, grad rho~), rho~ from W."""
        density_matrix, positions, points, weights = ctx.saved_tensors
        quadrature: Quadrature = ctx.quadrature
        gga = quadrature.functional.needs_gradient
        symmetric = 0.5 * (cotangents[0] + cotangents[0].transpose(-1, -2))
        matrices = [quadrature.to_grid_order(m) for m in (density_matrix, symmetric)]
        gradient = _PositionGradient(quadrature)
        by_weight = torch.empty_like(weights)
        by_matrix = torch.zeros_like(density_matrix)
        for block in quadrature.blocks():
            orbitals = evaluate_orbitals(quadrature.basis, positions, points[:, block], 1 + gga)
            densities = [_density(orbitals, matrix) for matrix in matrices]
            response = _response(quadrature.functional, densities)
            by_weight[:, block] = response[0]
            weight = weights[:, block]
            for matrix, density, scalar, vector in zip(
                matrices, densities, response[1::2], response[2::2], strict=True
            ):
                scaled = None if vector is None else vector * weight[:, None]
                gradient.add(block, orbitals, matrix, density, scalar * weight, scaled)
                if density is densities[0]:
                    by_matrix += _potential_matrix(orbitals, scalar * weight, scaled)
        by_matrix = quadrature.to_natural_order(by_matrix)
        return by_matrix, gradient.by_nucleus(), gradient.by_point, by_weight, None


@torch.enable_grad()
def _response(functional: Functional, densities: list[_Density]) -> list[Any]:
    """h = (de/drho) rho~ + de/d(grad rho) . grad rho~ and its derivatives.

    Returns h, dh/drho, dh/d(grad rho), dh/drho~, dh/d(grad rho~).
    """
    rho = densities[0].rho.requires_grad_()
    trial = densities[1].rho
    if not functional.needs_gradient:
        energy = energy_density(functional, rho, torch.zeros_like(rho))
        (by_rho,) = torch.autograd.grad(energy.sum(), rho, create_graph=True)
        (kernel,) = torch.autograd.grad((by_rho * trial).sum(), rho)
        return [(by_rho * trial).detach(), kernel, None, by_rho.detach(), None]
    assert densities[0].gradient is not None
    assert densities[1].gradient is not None
    gradient = densities[0].gradient.detach()
    sigma = gradient.square().sum(1).requires_grad_()
    energy = energy_density(functional, rho, sigma)
    by_rho, by_sigma = torch.autograd.grad(energy.sum(), (rho, sigma), create_graph=True)
    overlap = 2.0 * (gradient * densities[1].gradient).sum(1)  # 2 grad rho . grad rho~
    response = by_rho * trial + by_sigma * overlap
    kernel_rho, kernel_sigma = torch.autograd.grad(response.sum(), (rho, sigma))
    by_sigma = by_sigma.detach()
    by_gradient = 2.0 * kernel_sigma[:, None] * gradient
    by_gradient = by_gradient + 2.0 * by_sigma[:, None] * densities[1].gradient
    return [
        response.detach(),
        kernel_rho,
        by_gradient,
        by_rho.detach(),
        2.0 * by_sigma[:, None] * gradient,
    ]


def xc_potential(
    quadrature: Quadrature, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """V_xc[P] (Hartree), differentiable by P, nuclei and grid."""
    grid = quadrature.grid
    result: Tensor = _XCPotential.apply(
        density_matrix, quadrature.positions, grid.points, grid.weights, quadrature
    )
    return result
