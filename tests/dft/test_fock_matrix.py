"""F[P] as an operation: the matrix of the energy, and its derivatives."""

import numpy as np
import pytest
import torch

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.fock_matrix import fock_matrix
from ase_srdft.dft.preparation import prepare
from tests.tools.molecules import assert_gradient, prepared, random_state, symmetric, system

FUNCTIONALS = ["LDA", "PBE", "B3LYP"]


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_it_is_the_derivative_of_the_energy(xc):
    geometry = prepared("H2O", xc=xc, grid_level=0)
    density_matrix = random_state(geometry).requires_grad_()
    fock = fock_matrix(geometry.integrals, geometry.quadrature, density_matrix)
    energies, detached = kohn_sham(geometry, density_matrix)
    torch.testing.assert_close(fock.detach(), detached, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(energies.total.sum(), density_matrix)
    symmetrised = 0.5 * (gradient + gradient.transpose(-1, -2))
    assert float(fock.detach().abs().max()) > 1.0
    torch.testing.assert_close(fock.detach(), symmetrised, rtol=0, atol=1e-11)


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_by_the_density_matrix(xc):
    """Along states of the same number of orbitals."""
    geometry = prepared("H2O", xc=xc, basis="def2-svp", grid_level=0)
    values, vectors = torch.linalg.eigh(random_state(geometry))
    occupied = (vectors * values.clamp(min=0.0).sqrt()[:, None])[..., -geometry.molecule.nocc :]
    direction = torch.tensor(0.1 * np.random.default_rng(2).standard_normal(occupied.shape))
    cotangent = 0.1 * symmetric(1, geometry.molecule.nao, geometry.molecule.nao, seed=1)

    def value(step):
        moved = occupied + step * direction
        fock = fock_matrix(geometry.integrals, geometry.quadrature, moved @ moved.mT)
        return (fock * cotangent).sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(step), step)
    assert_gradient(value, gradient, step.detach(), rtol=1e-7)


@pytest.mark.parametrize("xc", FUNCTIONALS)
def test_by_the_nuclei(xc):
    molecule, positions = system("H2O", xc=xc, basis="6-31g", grid_level=0)
    density_matrix = random_state(prepare(molecule, positions))
    cotangent = torch.tensor(np.random.default_rng(6).standard_normal(density_matrix.shape))

    def value(x):
        geometry = prepare(molecule, x)
        fock = fock_matrix(geometry.integrals, geometry.quadrature, density_matrix)
        return (fock * cotangent).sum()

    start = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(start), start)
    assert_gradient(value, gradient, positions, rtol=1e-6, step=5e-4)
