"""The quadrature against PySCF's, against closed integrals, and its derivatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pyscf.dft.gen_grid import Grids
from scipy.spatial import cKDTree

from ase_srdft.dft.grid.atomic_grid import BLOCK, COARSE_GRID, atomic_grid, bragg_radius
from ase_srdft.dft.grid.molecular_grid import build_grid
from ase_srdft.dft.reference_scf import mean_field
from tests.tools.molecules import assert_gradient, electron_density, prepared, random_state, system

CPU = torch.device("cpu")


def grid_of(molecule, positions, level=0):
    return build_grid(positions, molecule.grid_template(level, CPU))


def placed(grid, positions):
    """Points and weights but for the padding."""
    real = grid.template.volumes != 0.0
    return grid.points(positions)[0, real].numpy(), grid.weights[0, real].numpy()


def assert_same_quadrature(ours, theirs):
    """The same points with the same weights, in any order."""
    (points, weights), (others, expected) = ours, theirs
    assert len(points) == len(others)
    distances, places = cKDTree(others).query(points)
    assert distances.max() < 1e-12
    assert len(set(places.tolist())) == len(points)
    np.testing.assert_allclose(weights, expected[places], rtol=1e-10, atol=1e-13)


# of KH the radii differ so much that the shift of the cell boundary is cut
@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "SO2", "NaCl", "KH", "Ne"])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_points_and_weights_are_pyscfs(name, level):
    molecule, positions = system(name)
    grid = grid_of(molecule, positions, level)
    expected = Grids(mean_field(molecule, positions[0].numpy()).mol)
    expected.level = level
    expected.build(sort_grids=False)
    npoints = int((grid.template.volumes != 0.0).sum())  # the rest is PySCF's padding
    assert np.ptp(expected.weights[:npoints]) > 1.0
    assert not expected.weights[npoints:].any()
    theirs = (expected.coords[:npoints], expected.weights[:npoints])
    assert_same_quadrature(placed(grid, positions), theirs)


def test_one_atom_keeps_its_weights():
    molecule, positions = system("Ne")
    grid = grid_of(molecule, positions)
    atom = atomic_grid(10, 0)
    expected = (positions[0].numpy() + atom.offsets, atom.volumes)
    assert_same_quadrature(placed(grid, positions), expected)


@pytest.mark.parametrize("level", [COARSE_GRID, 0, 1, 2, 3])
def test_integrates_gaussians(level):
    molecule, positions = system("H2CO")
    grid = grid_of(molecule, positions, level)
    squares = (grid.points(positions)[:, :, None] - positions[:, None]).square().sum(-1)[0]
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

    def value(x):
        return (grid_of(molecule, x, level).weights * by_weight).sum()

    (gradient,) = torch.autograd.grad(grid.weights, start, grad_outputs=by_weight)
    assert_gradient(value, gradient, positions, rtol=1e-6)


@pytest.mark.parametrize("name", ["H2O", "SO2"])
def test_points_come_in_blocks_of_neighbours_that_one_atom_owns(name):
    molecule, _ = system(name)
    template = molecule.grid_template(1, CPU)
    assert len(template.volumes) % BLOCK == 0
    owners = template.owners.reshape(-1, BLOCK)
    assert (owners == owners[:, :1]).all()
    assert template.block_owners.tolist() == owners[:, 0].tolist()
    assert sorted(set(template.block_owners.tolist())) == list(range(molecule.natoms))
    padding = template.volumes == 0.0
    assert 0 < int(padding.sum()) < BLOCK * molecule.natoms
    blocks = template.offsets.reshape(-1, BLOCK, 3)
    spread = (blocks - blocks.mean(1, keepdim=True)).norm(dim=-1).mean()
    assert spread < 0.8 * template.offsets.norm(dim=-1).mean()


def test_moving_everything_changes_no_weight():
    molecule, positions = system("H2O")
    here, there = grid_of(molecule, positions), grid_of(molecule, positions + 3.0)
    assert float((here.points(positions) - there.points(positions + 3.0)).abs().min()) > 1.0
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
