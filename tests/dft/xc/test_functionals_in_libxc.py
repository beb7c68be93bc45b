"""Every term of the functionals, and its derivatives to second order, against libxc."""

import numpy as np
import pytest
import torch
from pyscf.dft import libxc

from ase_srdft.dft.level_of_theory import FUNCTIONALS
from ase_srdft.dft.xc.functionals import DENSITY_THRESHOLD, energy_and_derivatives
from tests.tools.energy_densities import TERMS, energy_density

IN_LIBXC = {
    "slater": "slater,",
    "vwn5": ",vwn5",
    "vwn_rpa": ",vwn_rpa",
    "pbe_x": "pbe,",
    "pbe_c": ",pbe",
    "b88": "b88,",
    "lyp": ",lyp",
}
LOCAL = ("slater", "vwn5", "vwn_rpa")


def densities(seed=0, n=400):
    """Densities from a molecule's tail to its core, reduced gradients s from 0.01 to 10."""
    rng = np.random.default_rng(seed)
    rho = 10.0 ** rng.uniform(-5, 2.5, n)
    reduced = 10.0 ** rng.uniform(-2, 1, n)
    gradient = 2.0 * (3.0 * np.pi**2) ** (1 / 3) * rho ** (4 / 3) * reduced
    return torch.tensor(rho), torch.tensor(gradient**2)


def in_libxc(code, rho, sigma):
    """Energy per volume, first and second derivatives by (rho, sigma)."""
    zeros = np.zeros(len(rho))
    local = libxc.xc_type(code) == "LDA"
    variables = rho.numpy() if local else np.array([rho, sigma.sqrt(), zeros, zeros])
    energy, first, second, _ = libxc.eval_xc(code, variables, spin=0, deriv=2)
    first = [first[0], zeros] if local else first[:2]
    second = [second[0], zeros, zeros] if local else second[:3]
    return [energy * rho.numpy(), *first, *second]


def by_autograd(function, rho, sigma):
    rho, sigma = rho.clone().requires_grad_(), sigma.clone().requires_grad_()
    energy = function(rho, sigma)
    # not every term depends on sigma
    first = torch.autograd.grad(
        energy.sum() + 0.0 * sigma.sum(), (rho, sigma), create_graph=True, materialize_grads=True
    )
    second = []
    for derivative in first:
        total = derivative.sum() + 0.0 * (rho.sum() + sigma.sum())
        second.append(torch.autograd.grad(total, (rho, sigma), retain_graph=True))
    (by_rho_rho, by_rho_sigma), (_, by_sigma_sigma) = second
    everything = [energy, *first, by_rho_rho, by_rho_sigma, by_sigma_sigma]
    return [value.detach().numpy() for value in everything]


def test_every_term_is_tested():
    assert set(IN_LIBXC) == set(TERMS)


@pytest.mark.parametrize("name", TERMS)
def test_term_is_libxcs(name):
    rho, sigma = densities()
    ours, theirs = by_autograd(TERMS[name], rho, sigma), in_libxc(IN_LIBXC[name], rho, sigma)
    for i in range(6):
        # local terms do not depend on sigma, and LYP only linearly
        vanishes = i in (2, 4, 5) if name in LOCAL else i == 5 and name == "lyp"
        assert vanishes == (np.abs(theirs[i]).max() == 0.0)
        # second derivatives cancel digits where the two sides sum in another order
        scale = np.abs(theirs[i]) + 1e-9 * np.abs(theirs[i]).max() + 1e-300
        error = np.abs(ours[i] - theirs[i]) / scale
        assert error.max() < (1e-9 if i < 3 else 1e-6), (i, error.max())


@pytest.mark.parametrize("functional", FUNCTIONALS.values(), ids=FUNCTIONALS)
def test_functional_is_libxcs(functional):
    rho, sigma = densities(seed=1)
    ours = energy_and_derivatives(functional, rho, sigma)
    theirs = in_libxc(functional.pyscf_name, rho, sigma)[:3]
    for mine, libxcs, rtol in zip(ours, theirs, (1e-11, 1e-9, 1e-9), strict=True):
        scale = np.abs(libxcs) + 1e-12 * np.abs(libxcs).max() + 1e-300
        assert (np.abs(mine.numpy() - libxcs) / scale).max() < rtol
    np.testing.assert_allclose(ours[0], energy_density(functional, rho, sigma), rtol=1e-11)


def test_slater_exchange_in_closed_form():
    rho = torch.tensor([1.0], dtype=torch.float64)
    expected = -0.738558766382022405884230032680836
    assert float(TERMS["slater"](rho, rho)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("pair", [("pbe_x", "slater"), ("b88", "slater")])
def test_gradient_exchange_without_gradient_is_the_uniform_gas(pair):
    rho, sigma = densities()
    corrected, local = (TERMS[name](rho, torch.zeros_like(sigma)) for name in pair)
    assert float((TERMS[pair[0]](rho, sigma) / local - 1.0).abs().max()) > 0.1
    torch.testing.assert_close(corrected, local, rtol=1e-13, atol=0)


@pytest.mark.parametrize("functional", FUNCTIONALS.values(), ids=FUNCTIONALS)
def test_empty_space_contributes_nothing(functional):
    rho = torch.tensor([0.0, 1e-300, -1e-20, DENSITY_THRESHOLD, 1e-3], dtype=torch.float64)
    sigma = torch.tensor([0.0, 1e-10, 1e-3, 1.0, 1e-6], dtype=torch.float64)
    rho.requires_grad_()
    sigma.requires_grad_()
    energy = energy_density(functional, rho, sigma)
    gradients = torch.autograd.grad(energy.sum(), (rho, sigma), materialize_grads=True)
    assert energy[-1].item() < -1e-5
    for value in (energy, *gradients):
        assert bool(torch.isfinite(value).all())
        assert not value[:-1].any()


@pytest.mark.parametrize("functional", FUNCTIONALS.values(), ids=FUNCTIONALS)
def test_derivatives_are_finite_where_the_gradient_vanishes(functional):
    rho = torch.logspace(-12, 3, 40, dtype=torch.float64).requires_grad_()
    sigma = torch.zeros_like(rho).requires_grad_()
    energy = energy_density(functional, rho, sigma)
    first = torch.autograd.grad(energy.sum(), (rho, sigma), create_graph=True, allow_unused=True)
    assert first[0].abs().min().item() > 1e-5
    second = torch.autograd.grad(first[0].sum(), (rho, sigma), allow_unused=True)
    assert second[0].abs().min().item() > 1e-8
    for value in (*first, *second):
        assert value is None or bool(torch.isfinite(value).all())
