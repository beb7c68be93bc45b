"""Geometries made ready for Kohn-Sham theory, on their own grid or another."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.grid.molecular_grid import build_grid
from ase_srdft.dft.guess_fock import Guess, guess_changes, guess_fock
from ase_srdft.dft.integrals.provider import evaluate_integrals
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.prepared_geometry import Geometry, concatenate, detached
from ase_srdft.dft.projector import inverse_square_root
from ase_srdft.dft.xc.quadrature import Quadrature

__all__ = ["on_grid", "prepare"]


def prepare(
    molecule: Molecule,
    positions: Float[Tensor, "batch natoms 3"],
    grid_level: int | None = None,
    differentiable_guess: bool = True,
) -> Geometry:
    """Everything that Kohn-Sham theory needs at these nuclei, differentiable in them.

    Args:
        molecule: the molecule.
        positions: nuclei (Bohr), float64.
        grid_level: another grid than the level of theory's (training, ``COARSE_GRID``).
        differentiable_guess: whether the guess is to be differentiable as well.

    Raises:
        BadInput: positions not finite or not of this molecule; atoms too close together.
    """
    if positions.shape[1:] != (molecule.natoms, 3) or positions.dtype != torch.float64:
        raise BadInput(
            f"positions of shape {tuple(positions.shape)} and type {positions.dtype} for the "
            f"{molecule.natoms} atoms of {molecule.formula}: give float64 (batch, natoms, 3)"
        )
    if not bool(torch.isfinite(positions).all()):
        raise BadInput("positions are not finite: check the structure for NaN or infinity")
    level = molecule.level.grid_level if grid_level is None else grid_level
    if positions.device.type != "cpu":
        return _prepare(molecule, positions, level, differentiable_guess)
    # one by one, so that no digit of a geometry depends on what else is in its batch: a run that
    # goes on makes again, one at a time, what the sampler had made for several walkers
    every = (_prepare(molecule, one, level, differentiable_guess) for one in positions.split(1))
    return concatenate(list(every))


def _prepare(
    molecule: Molecule, positions: Tensor, level: int, differentiable_guess: bool
) -> Geometry:
    integrals = evaluate_integrals(positions, molecule.provider)
    grid = build_grid(positions, molecule.grid_template(level, positions.device))
    orthogonaliser = inverse_square_root(integrals.overlap)
    bare = Geometry(
        molecule=molecule,
        positions=positions,
        integrals=integrals,
        grid=grid,
        orthogonaliser=orthogonaliser,
        guess_fock=integrals.core_hamiltonian,  # until there is one
    )
    guess, changes = _guess(bare if differentiable_guess else detached(bare))
    return replace(bare, guess_fock=guess.fock, guess_step=guess.step, guess_changes=changes)


def _guess(bare: Geometry) -> tuple[Guess, Tensor | None]:
    """The guess, and what a model of a potential reads of it."""
    molecule, integrals = bare.molecule, bare.integrals
    guess = guess_fock(molecule, integrals, _coarse_quadrature(bare), bare.orthogonaliser)
    if molecule.potential_basis is None or not guess.density_matrices:
        return guess, None
    return guess, guess_changes(molecule, integrals, bare.orthogonaliser, guess)


def on_grid(geometry: Geometry, grid_level: int) -> Geometry:
    """The same geometries on another grid; integrals and guess are shared.

    Args:
        geometry: on any grid.
        grid_level: of PySCF's, or ``COARSE_GRID``.
    """
    template = geometry.molecule.grid_template(grid_level, geometry.positions.device)
    return replace(geometry, grid=build_grid(geometry.positions, template))


def _coarse_quadrature(bare: Geometry) -> Quadrature | None:
    """For the guess, always on the coarse grid: cheaper, and the same in training and in use."""
    if bare.molecule.guess in ("sap", "core"):
        return None
    if bare.grid.template.level == COARSE_GRID:
        return bare.quadrature
    return on_grid(bare, COARSE_GRID).quadrature
