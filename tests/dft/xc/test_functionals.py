"""Closed derivatives of the functionals against autograd of their energies."""

import pytest
import torch

from ase_srdft.dft.level_of_theory import FUNCTIONALS, Functional
from ase_srdft.dft.xc.functionals import DENSITY_THRESHOLD, TERMS, energy_and_derivatives
from tests.tools import energy_densities
from tests.tools.energy_densities import energy_density


def densities():
    """Densities over ten decades with reduced gradients over four, both wanting gradients."""
    generator = torch.Generator().manual_seed(2)
    uniform = torch.rand(2, 500, dtype=torch.float64, generator=generator)
    rho = torch.exp(-17.0 + 23.0 * uniform[0])
    sigma = rho ** (8.0 / 3.0) * torch.exp(-4.0 + 9.0 * uniform[1])
    return rho.requires_grad_(), sigma.requires_grad_()


def derivatives(output, inputs, **options):
    options = {"allow_unused": True, "materialize_grads": True, **options}
    return torch.autograd.grad(output.sum(), inputs, **options)


def alone(name):
    return Functional(terms=((name, 1.0),), exact_exchange=0.0, needs_gradient=True)


def test_every_term_has_its_derivatives():
    assert set(TERMS) == set(energy_densities.TERMS)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_energies_and_first_derivatives_are_autograds(name):
    rho, sigma = densities()
    expected = energy_density(alone(name), rho, sigma)
    slopes = derivatives(expected, (rho, sigma))
    energy, by_rho, by_sigma = energy_and_derivatives(alone(name), rho, sigma)
    assert float(expected.detach().abs().min()) > 0.0
    torch.testing.assert_close(energy, expected, rtol=1e-11, atol=0.0)
    torch.testing.assert_close(by_rho, slopes[0], rtol=1e-11, atol=0.0)
    torch.testing.assert_close(by_sigma, slopes[1], rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("xc", sorted(FUNCTIONALS))
def test_second_derivatives_are_autograds(xc):
    functional = FUNCTIONALS[xc]
    rho, sigma = densities()
    expected = derivatives(energy_density(functional, rho, sigma), (rho, sigma), create_graph=True)
    slopes = energy_and_derivatives(functional, rho, sigma)[1:]
    for slope, wanted in zip(slopes, expected, strict=True):
        if not slope.requires_grad:
            assert not functional.needs_gradient
            continue
        for ours, autograds in zip(
            derivatives(slope, (rho, sigma), retain_graph=True),
            derivatives(wanted, (rho, sigma), retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(ours, autograds, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("xc", sorted(FUNCTIONALS))
def test_empty_space_gives_exactly_nothing(xc):
    rho = torch.tensor([0.0, -1e-16, 0.5 * DENSITY_THRESHOLD, 0.1], dtype=torch.float64)
    sigma = torch.tensor([0.0, 1e-40, 1e-30, 0.1], dtype=torch.float64)
    parts = energy_and_derivatives(FUNCTIONALS[xc], rho, sigma)
    assert all(part[:3].tolist() == [0.0, 0.0, 0.0] for part in parts)
    assert all(float(part[3]) < 0.0 for part in parts[:2])
