"""The quadrature against PySCF's, against closed integrals, and its derivatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pyscf.dft.gen_grid import Grids

from ase_srdft.dft.grid.atomic_grid import COARSE_GRID, atomic_grid, bragg_radius
from ase_srdft.dft.grid.molecular_grid import _BeckeWeights, build_grid
from ase_srdft.dft.reference_scf import mean_field
from tests.tools.molecules import assert_gradient, electron_density, prepared, random_state, system

CPU = torch.device("cpu")


def grid_of(molecule, positions, level=0):
    return build_grid(positions, molecule.grid_template(level, CPU))


# of KH the radii differ so much that the shift of the cell boundary is cut
@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "SO2", "NaCl", "KH", "Ne"])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_points_and_weights_are_pyscfs(name, level):
    molecule, positions = system(name)
    grid = grid_of(molecule, positions, level)
    expected = Grids(mean_field(molecule, positions[0].numpy()).mol)
    expected.level = level
    expected.build(sort_grids=False)
    npoints = grid.weights.shape[1]
    assert np.ptp(expected.weights[:npoints]) > 1.0
    np.testing.assert_allclose(grid.points[0], expected.coords[:npoints], rtol=0, atol=1e-12)
    np.testing.assert_allclose(grid.weights[0], expected.weights[:npoints], rtol=1e-10, atol=1e-13)
    assert not expected.weights[npoints:].any()  # PySCF's padding


def test_one_atom_keeps_its_weights():
    molecule, positions = system("Ne")
    grid = grid_of(molecule, positions)
    atom = atomic_grid(10, 0)
    np.testing.assert_array_equal(grid.weights[0], atom.volumes)
    np.testing.assert_array_equal(grid.points[0], positions[0] + torch.tensor(atom.offsets))


@pytest.mark.parametrize("level", [COARSE_GRID, 0, 1, 2, 3])
def test_integrates_gaussians(level):
    molecule, positions = system("H2CO")
    grid = grid_of(molecule, positions, level)
    squares = (grid.points[:, :, None] - positions[:, None]).square().sum(-1)[0]
    for exponent in (0.3, 1.0, 3.0):
        numeric = (grid.weights[0, :, None] * torch.exp(-exponent * squares)).sum(0)
        exact = (np.pi / exponent) ** 1.5
        tolerance = {COARSE_GRID: 2e-2, 0: 2e-2, 1: 2e-3, 2: 1e-3, 3: 1e-4}[level]
        np.testing.assert_allclose(numeric, np.full(len(numeric), exact), rtol=tolerance)


@pytest.mark.parametrize("number", [1, 8, 17])
def test_finer_grids_are_larger(number):
    sizes = [len(atomic_grid(number, level).volumes) for level in (0, COARSE_GRID, 1, 2, 3)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(("number", "nshells"), [(1, 20), (6, 25), (17, 30), (35, 35)])
def test_coarse_grid_has_the_shells_it_says(number, nshells):
    radii = np.linalg.norm(atomic_grid(number, COARSE_GRID).offsets, axis=1)
    assert len(np.unique(radii.round(9))) == nshells


@pytest.mark.parametrize("level", [COARSE_GRID, 1])
def test_counts_the_electrons(level):
    geometry = prepared("H2O", grid_level=1)
    coarse = grid_of(geometry.molecule, geometry.positions, level)
    quadrature = replace(geometry.quadrature, grid=coarse)
    density = electron_density(quadrature, random_state(geometry))
    total = float((density * coarse.weights).sum())
    assert total == pytest.approx(10.0, abs=5e-3 if level == COARSE_GRID else 1e-3)


@pytest.mark.parametrize(("name", "level"), [("H2", 0), ("H2CO", COARSE_GRID), ("KH", 0)])
def test_weight_derivatives_by_finite_differences(name, level):
    molecule, positions = system(name)
    start = positions.clone().requires_grad_()
    grid = grid_of(molecule, start, level)
    rng = np.random.default_rng(5)
    by_weight = torch.tensor(rng.standard_normal(grid.weights.shape))
    by_point = torch.tensor(rng.standard_normal(grid.points.shape))

    def value(x):
        moved = grid_of(molecule, x, level)
        return (moved.weights * by_weight).sum() + (moved.points * by_point).sum()

    (gradient,) = torch.autograd.grad(
        [grid.weights, grid.points], start, grad_outputs=[by_weight, by_point]
    )
    assert_gradient(value, gradient, positions, rtol=1e-6)


def test_weights_respond_to_points_that_move_alone():
    molecule, positions = system("H2CO")
    template = molecule.grid_template(COARSE_GRID, CPU)
    points = build_grid(positions, template).points
    cotangent = torch.tensor(np.random.default_rng(6).standard_normal(points.shape[:2]))

    def value(x):
        return (_BeckeWeights.apply(positions, x, template) * cotangent).sum()

    start = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(start), start)
    assert_gradient(value, gradient, points, rtol=1e-6)


def test_moving_everything_changes_no_weight():
    molecule, positions = system("H2O")
    here, there = grid_of(molecule, positions), grid_of(molecule, positions + 3.0)
    assert float((here.points - there.points).abs().min()) > 1.0
    torch.testing.assert_close(here.weights, there.weights, rtol=1e-9, atol=1e-12)


def test_a_batch_is_its_members():
    molecule, positions = system("H2O")
    both = torch.cat([positions, 1.1 * positions])
    together = grid_of(molecule, both)
    assert float((together.weights[0] - together.weights[1]).abs().max()) > 1e-3
    for i in range(2):
        alone = grid_of(molecule, both[i : i + 1])
        torch.testing.assert_close(together.weights[i], alone.weights[0], rtol=0, atol=1e-14)


def test_radii_are_braggs():
    assert bragg_radius(6) * 0.52917721 == pytest.approx(0.70, abs=1e-6)
