"""Exchange-correlation energy, potential and kernel against PySCF and by finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pyscf.dft.numint import NumInt

from ase_srdft.dft.grid.molecular_grid import build_grid
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.reference_scf import mean_field
from ase_srdft.dft.xc.quadrature import xc_energy, xc_potential
from tests.tools.molecules import (
    assert_gradient,
    electron_density,
    prepared,
    random_state,
    symmetric,
    system,
)

CPU = torch.device("cpu")
FUNCTIONALS = ["LDA", "PBE", "B3LYP"]
SYSTEMS = [("H2CO", "def2-svp"), ("CH3CH2OH", "6-31g")]


def pyscf_on_our_grid(geometry):
    """PySCF's molecule, its grid filled with our points, and the functional's semilocal part."""
    scf = mean_field(geometry.molecule, geometry.positions[0].numpy())
    scf.grids.coords = geometry.quadrature.points[0].numpy()
    scf.grids.weights = geometry.grid.weights[0].numpy()
    return scf.mol, scf.grids, geometry.molecule.level.functional.pyscf_name


@pytest.mark.parametrize("xc", FUNCTIONALS)
@pytest.mark.parametrize(("name", "basis"), SYSTEMS)
def test_energy_and_potential_are_pyscfs(xc, name, basis):
    geometry = prepared(name, xc=xc, basis=basis, grid_level=0)
    density_matrix = random_state(geometry)
    energy, potential = xc_energy(geometry.quadrature, density_matrix)
    mol, grids, code = pyscf_on_our_grid(geometry)
    nelectron, expected, matrix = NumInt().nr_rks(mol, grids, code, density_matrix[0].numpy())
    assert expected < -1.0
    assert np.abs(matrix).max() > 0.1
    np.testing.assert_allclose(float(energy), expected, atol=1e-10)
    np.testing.assert_allclose(potential[0], matrix, atol=1e-10)
    density = electron_density(geometry.quadrature, density_matrix)
    assert float((density * geometry.grid.weights).sum()) == pytest.approx(nelectron, abs=1e-9)


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_kernel_is_pyscfs(xc):
    geometry = prepared("H2CO", xc=xc, basis="def2-svp", grid_level=0)
    density_matrix = random_state(geometry).requires_grad_()
    trial = symmetric(*density_matrix.shape)
    potential = xc_potential(geometry.quadrature, density_matrix)
    (response,) = torch.autograd.grad(potential, density_matrix, trial)
    mol, grids, code = pyscf_on_our_grid(geometry)
    expected = NumInt().nr_rks_fxc(
        mol, grids, code, density_matrix[0].detach().numpy(), trial[0].numpy(), hermi=1
    )
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(response[0], expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_potential_is_the_derivative_of_the_energy(xc):
    geometry = prepared("H2O", xc=xc, basis="def2-svp", grid_level=0)
    density_matrix = random_state(geometry)
    _, potential = xc_energy(geometry.quadrature, density_matrix)
    torch.testing.assert_close(potential, potential.transpose(-1, -2), rtol=0, atol=1e-13)
    direction = 0.1 * symmetric(*density_matrix.shape)

    def energy(step):
        return xc_energy(geometry.quadrature, density_matrix + step * direction)[0]

    scale = torch.zeros((), dtype=torch.float64)
    slope = (potential * direction).sum().reshape(())
    assert_gradient(energy, slope, scale, rtol=1e-7)
    same = xc_potential(geometry.quadrature, density_matrix)
    torch.testing.assert_close(same, potential, rtol=0, atol=1e-13)


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_energy_and_potential_agree_on_their_gradients_by_the_matrix(xc):
    geometry = prepared("H2O", xc=xc, grid_level=0)
    density_matrix = random_state(geometry).requires_grad_()
    energy, potential = xc_energy(geometry.quadrature, density_matrix)
    (gradient,) = torch.autograd.grad(3.0 * energy.sum(), density_matrix)
    assert float(gradient.abs().max()) > 0.1
    torch.testing.assert_close(gradient, 3.0 * potential, rtol=1e-14, atol=1e-14)


def quadrature_at(molecule, positions):
    grid = build_grid(positions, molecule.grid_template(0, CPU))
    return replace(prepare(molecule, positions.detach()).quadrature, positions=positions, grid=grid)


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_energy_by_the_nuclei(xc):
    """Orbitals, points and weights move; the density matrix stays."""
    molecule, positions = system("H2CO", xc=xc, basis="def2-svp", grid_level=0)
    density_matrix = random_state(prepare(molecule, positions))
    start = positions.clone().requires_grad_()
    energy, _ = xc_energy(quadrature_at(molecule, start), density_matrix)
    (gradient,) = torch.autograd.grad(energy.sum(), start)

    def value(x):
        return xc_energy(quadrature_at(molecule, x), density_matrix)[0]

    assert_gradient(value, gradient, positions, rtol=1e-7, step=5e-4)
    np.testing.assert_allclose(gradient.sum(1), np.zeros((1, 3)), atol=1e-9)


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_potential_by_the_nuclei(xc):
    molecule, positions = system("H2O", xc=xc, basis="def2-svp", grid_level=0)
    density_matrix = random_state(prepare(molecule, positions))
    cotangent = torch.tensor(np.random.default_rng(7).standard_normal(density_matrix.shape))
    start = positions.clone().requires_grad_()
    potential = xc_potential(quadrature_at(molecule, start), density_matrix)
    (gradient,) = torch.autograd.grad(potential, start, cotangent)

    def value(x):
        return (xc_potential(quadrature_at(molecule, x), density_matrix) * cotangent).sum()

    assert_gradient(value, gradient, positions, rtol=1e-6, step=5e-4)
    np.testing.assert_allclose(gradient.sum(1), np.zeros((1, 3)), atol=1e-8)


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_potential_by_the_matrix(xc):
    geometry = prepared("H2O", xc=xc, basis="def2-svp", grid_level=0)
    density_matrix = random_state(geometry)
    cotangent = torch.tensor(np.random.default_rng(8).standard_normal(density_matrix.shape))
    start = density_matrix.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(xc_potential(geometry.quadrature, start), start, cotangent)
    direction = 0.1 * symmetric(*density_matrix.shape)

    def value(step):
        potential = xc_potential(geometry.quadrature, density_matrix + step * direction)
        return (potential * cotangent).sum()

    slope = (gradient * direction).sum().reshape(())
    assert_gradient(value, slope, torch.zeros((), dtype=torch.float64), rtol=1e-6)


def test_density_is_positive_and_a_batch_is_its_members():
    molecule, positions = system("H2O", grid_level=0)
    both = prepare(molecule, torch.cat([positions, 1.1 * positions]))
    states = random_state(both)
    energies, potentials = xc_energy(both.quadrature, states)
    assert float((energies[0] - energies[1]).abs()) > 1e-3
    for i in range(2):
        alone = prepare(molecule, both.positions[i : i + 1])
        energy, potential = xc_energy(alone.quadrature, states[i : i + 1])
        assert float(electron_density(alone.quadrature, states[i : i + 1]).min()) >= 0.0
        torch.testing.assert_close(energies[i : i + 1], energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(potentials[i : i + 1], potential, rtol=0, atol=1e-12)
