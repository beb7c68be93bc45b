"""Values and derivatives of the atomic orbitals on grid points.

Rows are in *grid order*: orbitals grouped by element, then atom, then shell, so that each shell
of all atoms of an element is one strided block.  ``Basis.grid_order`` maps it to the natural
(PySCF) order.  Points run last, so every row is contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.basis import ElementBasis, element_basis

__all__ = ["Basis", "OrbitalValues", "contract_position_derivative", "evaluate_orbitals"]

# Real solid harmonics of l = 2 as quadratic forms, Y_m = d^T Q_m d, in the order
# xy, yz, z2, xz, x2-y2 (m = -2 ... 2).
_D_XY = 1.092548430592079070 / 2.0
_D_Z2 = 0.315391565252520002
_D_X2 = 0.546274215296039535
_QUADRATIC_FORMS = np.zeros((5, 3, 3))
_QUADRATIC_FORMS[0, 0, 1] = _QUADRATIC_FORMS[0, 1, 0] = _D_XY
_QUADRATIC_FORMS[1, 1, 2] = _QUADRATIC_FORMS[1, 2, 1] = _D_XY
_QUADRATIC_FORMS[2] = np.diag([-_D_Z2, -_D_Z2, 2.0 * _D_Z2])
_QUADRATIC_FORMS[3, 0, 2] = _QUADRATIC_FORMS[3, 2, 0] = _D_XY
_QUADRATIC_FORMS[4] = np.diag([_D_X2, -_D_X2, 0.0])


@dataclass(frozen=True, kw_only=True, eq=False)
class _ElementGroup:
    """The atoms of one element and where their orbitals stand."""

    basis: ElementBasis
    atoms: tuple[int, ...]
    start: int

    @property
    def nao(self) -> int:
        return len(self.atoms) * self.basis.nao


class Basis:
    """The atomic orbitals of a molecule.

    Args:
        numbers: atomic numbers, (natoms,).
        name: basis set.
    """

    def __init__(self, numbers: tuple[int, ...], name: str) -> None:
        self.numbers = numbers
        self.name = name
        self.groups: list[_ElementGroup] = []
        start = 0
        for number in sorted(set(numbers)):
            atoms = tuple(i for i, other in enumerate(numbers) if other == number)
            group = _ElementGroup(basis=element_basis(name, number), atoms=atoms, start=start)
            self.groups.append(group)
            start += group.nao
        self.nao = start

    @cached_property
    def atom_slices(self) -> tuple[slice, ...]:
        """The orbitals of each atom, natural order."""
        ends = np.cumsum([element_basis(self.name, number).nao for number in self.numbers])
        starts = [0, *ends[:-1]]
        return tuple(slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True))

    @cached_property
    def atom_of_orbital(self) -> Tensor:
        """Atom of each orbital, natural order, (nao,)."""
        sizes = [s.stop - s.start for s in self.atom_slices]
        return torch.tensor(np.repeat(np.arange(len(sizes)), sizes))

    @cached_property
    def grid_order(self) -> Tensor:
        """Natural index of each orbital in grid order, (nao,)."""
        order = [
            np.arange(self.atom_slices[atom].start, self.atom_slices[atom].stop)
            for group in self.groups
            for atom in group.atoms
        ]
        return torch.tensor(np.concatenate(order))

    @cached_property
    def natural_order(self) -> Tensor:
        """Grid-order index of each orbital in natural order, (nao,)."""
        return torch.argsort(self.grid_order)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shell:
    """One shell of all atoms of an element on the points.

    ``radial[k]`` is ``(1/x d/dx)^k R``: R itself, -2 a R, 4 a^2 R summed over primitives.
    """

    angular: int
    rows: slice
    displacements: Tensor  # d = r - R_atom, (batch, natoms, 3, npoints)
    radial: Tensor  # (order + 1, batch, natoms, npoints)

    def block(self, array: Tensor) -> Tensor:
        """This shell's view (..., natoms, 2l+1, npoints) of a group's rows (..., nao, npoints)."""
        natoms = self.radial.shape[2]
        return array.unflatten(-2, (natoms, -1))[..., self.rows, :]


@dataclass(frozen=True, kw_only=True, eq=False)
class OrbitalValues:
    """Orbitals on a block of points, rows in grid order.

    Attributes:
        values: orbitals, (batch, nao, npoints).
        gradients: derivatives by the point; None if not asked for.
    """

    values: Float[Tensor, "batch nao npoints"]
    gradients: Float[Tensor, "batch 3 nao npoints"] | None
    groups: list[tuple[slice, list[_Shell]]]


def _element_shells(
    group: _ElementGroup, positions: Tensor, points: Tensor, order: int
) -> list[_Shell]:
    displacements = points.transpose(-1, -2)[:, None] - positions[:, list(group.atoms), :, None]
    exponents = positions.new_tensor(group.basis.exponents)
    coefficients = positions.new_tensor(group.basis.coefficients)
    primitives = torch.exp(-exponents[:, None] * displacements.square().sum(-2)[:, :, None])
    stacked = torch.cat([coefficients * (-2.0 * exponents) ** k for k in range(order + 1)])
    radial = (stacked @ primitives).unflatten(-2, (order + 1, -1)).permute(2, 3, 0, 1, 4)
    return [
        _Shell(
            angular=angular,
            rows=slice(offset, offset + 2 * angular + 1),
            displacements=displacements,
            radial=radial[:, shell],
        )
        for shell, (angular, offset) in enumerate(
            zip(group.basis.angular_momenta, group.basis.shell_offsets, strict=True)
        )
    ]


def _quadratic(displacements: Tensor) -> tuple[Tensor, Tensor]:
    """l = 2: Y_m, (batch, natoms, m, n), and half its gradient, (batch, 3, natoms, m, n)."""
    half = torch.einsum(
        "mab,zibn->zaimn", displacements.new_tensor(_QUADRATIC_FORMS), displacements
    )
    return (half * displacements.transpose(1, 2)[:, :, :, None]).sum(1), half


def _write_values(shell: _Shell, values: Tensor) -> None:
    radial = shell.radial[0][:, :, None]
    if shell.angular == 0:
        values.copy_(radial)
    elif shell.angular == 1:
        torch.mul(radial, shell.displacements, out=values)
    else:
        torch.mul(radial, _quadratic(shell.displacements)[0], out=values)


def _write_gradients(shell: _Shell, gradients: Tensor) -> None:
    d = shell.displacements
    slope = shell.radial[1][:, None] * d.transpose(1, 2)
    if shell.angular == 0:
        gradients.copy_(slope[:, :, :, None])
    elif shell.angular == 1:
        torch.mul(slope[:, :, :, None], d[:, None], out=gradients)
        for axis in range(3):
            gradients[:, axis, :, axis] += shell.radial[0]
    else:
        harmonics, half = _quadratic(d)
        torch.mul(slope[:, :, :, None], harmonics[:, None], out=gradients)
        gradients.addcmul_(shell.radial[0][:, None, :, None], half, value=2.0)


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
        order: 0 for values, 1 for gradients too, 2 to allow
            :func:`contract_position_derivative` with gradient cotangents.
    """
    batch, npoints = points.shape[:2]
    values = positions.new_empty((batch, basis.nao, npoints))
    gradients = positions.new_empty((batch, 3, basis.nao, npoints)) if order > 0 else None
    groups = []
    for group in basis.groups:
        rows = slice(group.start, group.start + group.nao)
        shells = _element_shells(group, positions, points, order)
        groups.append((rows, shells))
        for shell in shells:
            _write_values(shell, shell.block(values[:, rows]))
            if gradients is not None:
                _write_gradients(shell, shell.block(gradients[:, :, rows]))
    return OrbitalValues(values=values, gradients=gradients, groups=groups)


def _directional_hessian(shell: _Shell, direction: Tensor) -> Tensor:
    """sum_b v_b d_a d_b chi, (batch, 3, natoms, m, n), for v of shape (batch, 3, n)."""
    radial, radial1, radial2 = shell.radial
    d = shell.displacements.transpose(1, 2)  # (batch, 3, natoms, n)
    v = direction[:, :, None]
    along = (d * v).sum(1)  # v . d, (batch, natoms, n)
    outer = d * (radial2 * along)[:, None] + v * radial1[:, None]
    if shell.angular == 0:
        return outer[:, :, :, None]
    if shell.angular == 1:
        # R2 q d_a d_m + R1 (v_a d_m + v_m d_a + q delta_am)
        hessian = outer[:, :, :, None] * shell.displacements[:, None]
        slope = (d * radial1[:, None])[:, :, :, None]
        hessian += slope * direction[:, None, None]
        for axis in range(3):
            hessian[:, axis, :, axis] += radial1 * along
        return hessian
    harmonics, half = _quadratic(shell.displacements)
    forms = direction.new_tensor(_QUADRATIC_FORMS)
    v_half = torch.einsum("mab,zbn->zamn", forms, direction)  # Q_m v
    v_gradient = 2.0 * (half * direction[:, :, None, None]).sum(1)  # v . grad Y_m
    hessian = outer[:, :, :, None] * harmonics[:, None]
    hessian += (d * radial1[:, None])[:, :, :, None] * v_gradient[:, None]
    hessian += 2.0 * (radial1 * along)[:, None, :, None] * half
    hessian += 2.0 * radial[:, None, :, None] * v_half[:, :, None]
    return hessian


def contract_position_derivative(
    orbitals: OrbitalValues,
    value_cotangent: Float[Tensor, "batch nao npoints"],
    density: Float[Tensor, "batch nao npoints"] | None,
    direction: Float[Tensor, "batch 3 npoints"] | None,
) -> Float[Tensor, "batch 3 nao npoints"]:
    """``t_a = c d_a chi + u sum_b v_b d_a d_b chi`` per orbital and point.

    The derivative by a point of ``sum c chi + u v . grad chi`` at fixed c, u, v; by the
    orbital's own nucleus it is the negative.

    Args:
        orbitals: evaluated with order 1, or 2 if ``density`` is given.
        value_cotangent: c.
        density: u; None where the functional has no gradient correction.
        direction: v.
    """
    assert orbitals.gradients is not None
    result = orbitals.gradients * value_cotangent[:, None]
    if density is not None and direction is not None:
        for rows, shells in orbitals.groups:
            for shell in shells:
                term = _directional_hessian(shell, direction)
                target = shell.block(result[:, :, rows])
                target.addcmul_(term, shell.block(density[:, rows])[:, None])
    return result
