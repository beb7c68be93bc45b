"""Solid harmonics against the closed form on the sphere, their derivatives against autograd."""

import numpy as np
import pytest
import torch

from ase_srdft.dft.basis.solid_harmonics import (
    directional_derivative,
    harmonics,
    weighted_gradient,
    weighted_hessian,
)
from ase_srdft.models.layers.spherical_tensors import spherical_harmonics


def vectors(seed):
    """Vectors of two atoms to seven points, (1, 2, 3, 7)."""
    return torch.tensor(np.random.default_rng(seed).standard_normal((1, 2, 3, 7)))


def weights_of(angular):
    shape = (1, 2, 2 * angular + 1, 7)
    return torch.tensor(np.random.default_rng(angular).standard_normal(shape))


@pytest.mark.parametrize("angular", [2, 3])
def test_values_are_those_on_the_unit_sphere_times_a_power_of_the_distance(angular):
    d = vectors(0)
    distances = d.norm(dim=2)
    directions = (d / distances[:, :, None]).movedim(2, -1).reshape(-1, 3)
    on_sphere = spherical_harmonics(directions, angular)[:, angular**2 :]
    expected = on_sphere.reshape(1, 2, 7, -1).movedim(-1, 2) * distances[:, :, None] ** angular
    assert float(expected.abs().max()) > 0.1
    torch.testing.assert_close(harmonics(angular, d), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("angular", [1, 2, 3])
def test_derivatives_are_those_of_the_values(angular):
    d, w, v = vectors(1).requires_grad_(), weights_of(angular), vectors(2)
    total = (w * harmonics(angular, d)).sum()
    (gradient,) = torch.autograd.grad(total, d, create_graph=True)
    assert float(gradient.detach().abs().max()) > 0.1
    torch.testing.assert_close(weighted_gradient(angular, d, w), gradient, rtol=0, atol=1e-12)
    along = (w * directional_derivative(angular, d, v)).sum(2)
    torch.testing.assert_close(along, (gradient * v).sum(2), rtol=0, atol=1e-12)
    if angular > 1:
        (curvature,) = torch.autograd.grad((gradient * v).sum(), d)
        assert float(curvature.abs().max()) > 0.1
        ours = weighted_hessian(angular, d, w, v)
        torch.testing.assert_close(ours, curvature, rtol=0, atol=1e-12)


def test_one_vector_serves_all_atoms():
    d, w, v = vectors(3), weights_of(3), vectors(4)[:, :1]
    spread = v.expand(1, 2, 3, 7)
    for function, arguments in [(directional_derivative, (3, d)), (weighted_hessian, (3, d, w))]:
        expected = function(*arguments, spread)
        assert float(expected.abs().max()) > 0.1
        torch.testing.assert_close(function(*arguments, v), expected, rtol=0, atol=1e-14)
