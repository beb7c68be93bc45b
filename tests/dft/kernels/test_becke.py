"""The compiled partition of space against the one in torch."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.grid.molecular_grid import GridTemplate, build_grid
from ase_srdft.dft.kernels.library import loaded, threads, using_torch
from tests.tools.molecules import ODD_PLACES, system

if loaded() is None:
    pytest.skip("no compiled kernels here", allow_module_level=True)

MOLECULES = ["H2", "H2O", "Ne", "CO2", "CH3CH2OH", "SO2", "NaCl", "KH", "C6H6", "CH3Cl"]


def weights_and_gradient(numbers, positions, level=COARSE_GRID, nthreads=1):
    """Of some sum of the weights."""
    start = positions.clone().requires_grad_()
    template = GridTemplate.of(numbers, level)
    with threads(nthreads):
        weights = build_grid(start, template).weights
        rng = np.random.default_rng(0)
        cotangent = torch.tensor(rng.standard_normal(weights.shape))
        (gradient,) = torch.autograd.grad(weights, start, cotangent)
    return weights.detach(), gradient


def assert_equals_torch(numbers, positions, level=COARSE_GRID):
    weights, gradient = weights_and_gradient(numbers, positions, level)
    with using_torch():
        expected, slope = weights_and_gradient(numbers, positions, level)
    assert float(weights.max()) > 0.1
    torch.testing.assert_close(weights, expected, rtol=1e-12, atol=1e-13)
    # the adjoint divides by what cancels where two atoms are far apart
    torch.testing.assert_close(gradient, slope, rtol=1e-11, atol=1e-11 * float(expected.sum()))


@pytest.mark.parametrize("name", MOLECULES)
def test_weights_and_their_adjoint_are_those_of_torch(name):
    molecule, positions = system(name)
    assert_equals_torch(molecule.numbers, positions)


def test_of_a_batch():
    molecule, positions = system("H2O")
    assert_equals_torch(molecule.numbers, torch.cat([positions, 1.2 * positions]))


@pytest.mark.parametrize("name", ODD_PLACES)
def test_in_odd_places(name):
    numbers, positions = ODD_PLACES[name]
    assert_equals_torch(numbers, torch.tensor(positions, dtype=torch.float64)[None], level=0)


def test_turned():
    molecule, positions = system("H2O")
    turns = Rotation.random(4, random_state=0).as_matrix()
    assert_equals_torch(molecule.numbers, positions @ torch.tensor(turns).transpose(1, 2))


@pytest.mark.parametrize("nthreads", [2, 5])
def test_no_digit_depends_on_the_threads(nthreads):
    molecule, positions = system("CH3CH2OH")
    alone = weights_and_gradient(molecule.numbers, positions)
    together = weights_and_gradient(molecule.numbers, positions, nthreads=nthreads)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
