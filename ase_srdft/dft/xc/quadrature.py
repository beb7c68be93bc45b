"""Exchange-correlation energy and potential by quadrature, with exact derivatives.

E_xc[rho] = sum_g w_g e(rho_g, sigma_g) and V_xc = dE_xc/dP.  The grid is walked in blocks that
stay in cache; nothing of size (nao, npoints) outlives its block.  Two differentiable operations:
:func:`xc_energy` (by P, weights, and nuclei, whose orbitals and points move) and
:func:`xc_potential` (the same, of the matrix V_xc: the guess Fock matrix needs it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.basis.atomic_orbitals import Basis
from ase_srdft.dft.basis.orbitals_on_grid import (
    OrbitalValues,
    contract_gradients,
    evaluate_orbitals,
    position_derivative,
    weighted_orbitals,
)
from ase_srdft.dft.grid.molecular_grid import Grid
from ase_srdft.dft.kernels import quadrature as kernels
from ase_srdft.dft.kernels.arrays import as_array, suits_kernels
from ase_srdft.dft.kernels.library import loaded
from ase_srdft.dft.level_of_theory import Functional
from ase_srdft.dft.xc.functionals import energy_and_derivatives

__all__ = ["Quadrature", "xc_energy", "xc_potential"]

#: Elements of one (batch, nao, npoints) array of a block.
_BLOCK_ELEMENTS = {"cpu": 196_608, "cuda": 33_554_432}


@dataclass(frozen=True, kw_only=True, eq=False)
class Quadrature:
    """What an integral over the grid needs besides the density."""

    basis: Basis
    functional: Functional
    positions: Float[Tensor, "batch natoms 3"]
    grid: Grid

    @cached_property
    def points(self) -> Float[Tensor, "batch npoints 3"]:
        """Of the grid (Bohr)."""
        return self.grid.points(self.positions)

    def blocks(self) -> Iterator[slice]:
        """Slices of the points."""
        batch, npoints = self.grid.weights.shape
        size = max(128, _BLOCK_ELEMENTS[self.positions.device.type] // (batch * self.basis.nao))
        return (slice(i, i + size) for i in range(0, npoints, size))

    def orbitals(self, block: slice, order: int) -> OrbitalValues:
        """Orbitals on a block of points (:func:`evaluate_orbitals`), without autograd."""
        return evaluate_orbitals(self.basis, self.positions.detach(), self.points[:, block], order)

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


def _density(orbitals: OrbitalValues, matrix: Tensor, gga: bool) -> _Density:
    contracted = matrix @ orbitals.values
    rho = (contracted * orbitals.values).sum(-2)
    # D is symmetric: grad rho = 2 sum (D chi) grad chi.
    gradient = 2.0 * contract_gradients(orbitals, contracted) if gga else None
    return _Density(rho=rho, gradient=gradient, contracted=contracted)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Potential:
    """Derivatives of an integrand by rho and by grad rho on a block."""

    scalar: Tensor  # a, (batch, n)
    vector: Tensor | None  # v, (batch, 3, n); None without gradient correction

    def weighted(self, weights: Tensor) -> _Potential:
        vector = None if self.vector is None else self.vector * weights[:, None]
        return _Potential(scalar=self.scalar * weights, vector=vector)

    def half_applied(self, orbitals: OrbitalValues) -> Tensor:
        """a chi / 2 + v . grad chi, whose product with chi^T plus transpose is the matrix."""
        return weighted_orbitals(orbitals, 0.5 * self.scalar, self.vector)


def _pointwise(functional: Functional, density: _Density) -> tuple[Tensor, _Potential]:
    """e and its derivatives on a block."""
    if density.gradient is None:
        energy, by_rho, _ = energy_and_derivatives(functional, density.rho, None)
        return energy, _Potential(scalar=by_rho, vector=None)
    sigma = density.gradient.square().sum(1)
    energy, by_rho, by_sigma = energy_and_derivatives(functional, density.rho, sigma)
    vector = (2.0 * by_sigma)[:, None] * density.gradient
    return energy, _Potential(scalar=by_rho, vector=vector)


class _PositionGradient:
    """Accumulates the derivative by nuclei, as orbital centres and as owners of points."""

    def __init__(self, quadrature: Quadrature) -> None:
        self.owners = quadrature.grid.template.owners
        self.by_nucleus = torch.zeros_like(quadrature.positions)

    def add(
        self,
        block: slice,
        orbitals: OrbitalValues,
        density: _Density,
        potential: _Potential,
        contracted_potential: Tensor,
    ) -> None:
        """Derivative of sum_g a_g rho_g + v_g . grad rho_g at fixed D, a, v.

        The cotangent of chi is 2 D (a chi + v . grad chi), that of v . grad chi is 2 D chi.

        Args:
            block: the points.
            orbitals: on them.
            density: of D.
            potential: a and v.
            contracted_potential: D (a chi / 2 + v . grad chi), (batch, nao, n).
        """
        cotangent = 2.0 * contracted_potential
        cotangent.addcmul_(density.contracted, potential.scalar[:, None])
        twice = None if potential.vector is None else 2.0 * density.contracted
        by_point, by_nucleus = position_derivative(orbitals, cotangent, twice, potential.vector)
        self.by_nucleus.index_add_(1, self.owners[block], by_point.transpose(-1, -2))
        self.by_nucleus += by_nucleus


def _for_kernels(quadrature: Quadrature, *tensors: Tensor) -> kernels.GridProblem | None:
    """What the compiled kernels need besides P; None where torch is to compute."""
    basis, functional = quadrature.basis, quadrature.functional
    supported = kernels.supports(basis.highest_angular_momentum, functional)
    suitable = supported and suits_kernels(quadrature.positions, *tensors)
    library = loaded() if suitable else None
    if library is None:
        return None
    partition = quadrature.grid.template.partition
    return kernels.GridProblem(
        library=library,
        numbers=basis.numbers,
        basis=basis.name,
        functional=functional,
        owners=partition.owners,
        offsets=partition.offsets,
        positions=as_array(quadrature.positions),
        weights=as_array(quadrature.grid.weights),
    )


def _as_tensors(*arrays: np.ndarray | None) -> tuple[Any, ...]:
    return tuple(None if array is None else torch.from_numpy(array) for array in arrays)


class _XCEnergy(torch.autograd.Function):
    """Forward computes every derivative at once: the cotangent of an energy is a number."""

    @staticmethod
    def forward(
        ctx: Any,
        density_matrix: Tensor,
        positions: Tensor,
        weights: Tensor,
        quadrature: Quadrature,
    ) -> tuple[Tensor, Tensor]:
        moves = ctx.needs_input_grad[1]
        problem = _for_kernels(quadrature, density_matrix, weights)
        if problem is None:
            results = _energy_in_torch(quadrature, density_matrix, weights, moves)
        else:
            sums = kernels.xc_energy(problem, as_array(density_matrix), moves=moves)
            results = _as_tensors(sums.energy, *sums.derivatives)
        energy, potential, *others = results
        ctx.save_for_backward(potential, *others)
        ctx.mark_non_differentiable(potential)
        return energy, potential

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        potential, by_weight, by_nucleus = ctx.saved_tensors
        scale = cotangents[0][:, None]
        moved = None if by_nucleus is None else scale[..., None] * by_nucleus
        return scale[..., None] * potential, moved, scale * by_weight, None


def _energy_in_torch(
    quadrature: Quadrature, density_matrix: Tensor, weights: Tensor, moves: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """E_xc, V_xc, e and, if the nuclei move, the derivative by them."""
    functional = quadrature.functional
    gga = functional.needs_gradient
    matrix = quadrature.to_grid_order(density_matrix)
    position_gradient = _PositionGradient(quadrature) if moves else None
    by_weight = torch.empty_like(weights)
    half = torch.zeros_like(density_matrix)
    for block in quadrature.blocks():
        orbitals = quadrature.orbitals(block, int(gga) + int(moves))
        density = _density(orbitals, matrix, gga)
        by_weight[:, block], potential = _pointwise(functional, density)
        potential = potential.weighted(weights[:, block])
        applied = potential.half_applied(orbitals)
        half.baddbmm_(applied, orbitals.values.transpose(-1, -2))
        if position_gradient is not None:
            position_gradient.add(block, orbitals, density, potential, matrix @ applied)
    by_matrix = quadrature.to_natural_order(half + half.transpose(-1, -2))
    by_nucleus = None if position_gradient is None else position_gradient.by_nucleus
    return (by_weight * weights).sum(-1), by_matrix, by_weight, by_nucleus


def xc_energy(
    quadrature: Quadrature, density_matrix: Float[Tensor, "batch nao nao"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch nao nao"]]:
    """E_xc (Hartree), differentiable by P, nuclei and grid, and V_xc = dE_xc/dP, detached."""
    grid = quadrature.grid
    result: tuple[Tensor, Tensor] = _XCEnergy.apply(  # type: ignore[no-untyped-call]
        density_matrix, quadrature.positions, grid.weights, quadrature
    )
    return result


class _XCPotential(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        density_matrix: Tensor,
        positions: Tensor,
        weights: Tensor,
        quadrature: Quadrature,
    ) -> Tensor:
        ctx.save_for_backward(density_matrix, weights)
        ctx.quadrature = quadrature
        problem = _for_kernels(quadrature, density_matrix, weights)
        if problem is None:
            return _energy_in_torch(quadrature, density_matrix, weights, moves=False)[1]
        return torch.from_numpy(kernels.xc_potential(problem, as_array(density_matrix)))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of Tr(W V[P]) = sum_g w_g h(rho, grad rho; rho~, grad rho~), rho~ from W."""
        density_matrix, weights = ctx.saved_tensors
        symmetric = 0.5 * (cotangents[0] + cotangents[0].transpose(-1, -2))
        problem = _for_kernels(ctx.quadrature, density_matrix, weights, symmetric)
        if problem is None:
            gradient = _potential_gradient(ctx.quadrature, density_matrix, weights, symmetric)
            return *gradient, None
        arrays = as_array(density_matrix), as_array(symmetric)
        moves = ctx.needs_input_grad[1]
        result = kernels.potential_gradient(problem, *arrays, moves=moves)
        by_matrix, by_weight, by_nucleus = _as_tensors(*result.derivatives)
        return by_matrix, by_nucleus, by_weight, None


def _potential_gradient(
    quadrature: Quadrature, density_matrix: Tensor, weights: Tensor, cotangent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of Tr(W V[P]) by P, nuclei and weights, for a symmetric W."""
    gga = quadrature.functional.needs_gradient
    matrix, trial = (quadrature.to_grid_order(m) for m in (density_matrix, cotangent))
    gradient = _PositionGradient(quadrature)
    by_weight = torch.empty_like(weights)
    half = torch.zeros_like(density_matrix)
    for block in quadrature.blocks():
        orbitals = quadrature.orbitals(block, 1 + gga)
        density, trial_density = (_density(orbitals, m, gga) for m in (matrix, trial))
        by_weight[:, block], by_density, by_trial = _response(
            quadrature.functional, density, trial_density
        )
        kernel = by_density.weighted(weights[:, block])
        potential = by_trial.weighted(weights[:, block])
        applied = kernel.half_applied(orbitals)
        half.baddbmm_(applied, orbitals.values.transpose(-1, -2))
        gradient.add(block, orbitals, density, kernel, matrix @ applied)
        applied = potential.half_applied(orbitals)
        gradient.add(block, orbitals, trial_density, potential, trial @ applied)
    by_matrix = quadrature.to_natural_order(half + half.transpose(-1, -2))
    return by_matrix, gradient.by_nucleus, by_weight


@torch.enable_grad()
def _response(
    functional: Functional, density: _Density, trial: _Density
) -> tuple[Tensor, _Potential, _Potential]:
    """h = (de/drho) rho~ + de/d(grad rho) . grad rho~ and its derivatives by rho and rho~."""
    rho = density.rho.detach().requires_grad_()
    if density.gradient is None or trial.gradient is None:
        _, by_rho, _ = energy_and_derivatives(functional, rho, None)
        response = by_rho * trial.rho
        (kernel_rho,) = torch.autograd.grad(response.sum(), rho)
        by_density = _Potential(scalar=kernel_rho, vector=None)
        return response.detach(), by_density, _Potential(scalar=by_rho.detach(), vector=None)
    gradient = density.gradient
    sigma = gradient.square().sum(1).requires_grad_()
    _, by_rho, by_sigma = energy_and_derivatives(functional, rho, sigma)
    overlap = 2.0 * (gradient * trial.gradient).sum(1)  # 2 grad rho . grad rho~
    response = by_rho * trial.rho + by_sigma * overlap
    kernel_rho, kernel_sigma = torch.autograd.grad(response.sum(), (rho, sigma))
    by_gradient = (2.0 * by_sigma.detach())[:, None]
    by_density = _Potential(
        scalar=kernel_rho,
        vector=(2.0 * kernel_sigma)[:, None] * gradient + by_gradient * trial.gradient,
    )
    by_trial = _Potential(scalar=by_rho.detach(), vector=by_gradient * gradient)
    return response.detach(), by_density, by_trial


def xc_potential(
    quadrature: Quadrature, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """V_xc[P] (Hartree), differentiable by P, nuclei and grid."""
    grid = quadrature.grid
    result: Tensor = _XCPotential.apply(  # type: ignore[no-untyped-call]
        density_matrix, quadrature.positions, grid.weights, quadrature
    )
    return result
