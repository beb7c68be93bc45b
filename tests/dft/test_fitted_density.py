"""Fitted densities and matrices of potentials, with their derivatives by the nuclei."""

import pytest
import torch

from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.fitted_density import fitted_densities, potential_matrix
from ase_srdft.dft.kernels.library import using_torch
from ase_srdft.dft.preparation import prepare
from tests.tools.molecules import assert_gradient, symmetric, system

NAME = "def2-universal-jfit"
LEVELS = [{"basis": "sto-3g"}, {"basis": "sto-3g", "xc": "PBE0"}, {"density_fitting": False}]


def test_the_fitted_density_makes_the_coulomb_matrix():
    molecule, positions = system("H2O", basis="6-31g", grid_level=0)
    integrals = prepare(molecule, positions).integrals
    matrices = symmetric(1, 2, molecule.nao, molecule.nao)
    potentials, densities = fitted_densities(integrals, matrices)
    for k in range(2):
        matrix = potential_matrix(integrals, densities[..., k])
        torch.testing.assert_close(matrix, coulomb_matrix(integrals, matrices[:, k]))
        energy = (matrices[:, k] * matrix).sum()
        torch.testing.assert_close((potentials[..., k] * densities[..., k]).sum(), energy)


def value_of(molecule, positions, matrices, weights, u):
    integrals = prepare(molecule, positions).integrals
    potentials, densities = fitted_densities(integrals, matrices)
    value = (weights[0] * potentials + weights[1] * densities).sum()
    return value + (potential_matrix(integrals, u) * matrices[:, 0]).sum()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_derivatives_by_finite_differences(level, compiled):
    molecule, positions = system("H2O", potential_basis=NAME, grid_level=0, **level)
    naux = sum(2 * shell.angular + 1 for shell in molecule.potential_shells)
    matrices = symmetric(1, 2, molecule.nao, molecule.nao).requires_grad_()
    weights = 0.1 * torch.rand(2, naux, 2, dtype=torch.float64)
    u = torch.rand(1, naux, dtype=torch.float64).requires_grad_()
    start = positions.clone().requires_grad_()
    arguments = (start, matrices, u)

    def value(x, matrices, u):
        return value_of(molecule, x, 0.5 * (matrices + matrices.mT), weights, u)

    if compiled:
        gradients = torch.autograd.grad(value(*arguments), arguments)
    else:
        with using_torch():
            gradients = torch.autograd.grad(value(*arguments), arguments)
    plain = [argument.detach() for argument in arguments]
    with torch.no_grad():
        for k, gradient in enumerate(gradients):
            assert_gradient(
                lambda x, k=k: value(*plain[:k], x, *plain[k + 1 :]), gradient, plain[k], rtol=1e-6
            )
