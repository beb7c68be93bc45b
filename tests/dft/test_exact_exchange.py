"""Tr P K[P] with its derivatives, and K from the eigenvectors of P alone."""

from dataclasses import replace

import pytest
import torch

from ase_srdft.dft.exact_exchange import (
    exchange_energy,
    exchange_matrix,
    exchange_on_occupied,
    repeated_exchange,
)
from ase_srdft.dft.integrals.provider import evaluate_integrals
from tests.tools.molecules import assert_gradient, prepared, random_state, symmetric, system

LEVELS = [{"xc": "PBE0"}, {"xc": "PBE0", "density_fitting": False}]


def low_rank(nao, rank=3, batch=2):
    left = torch.rand(batch, nao, rank, dtype=torch.float64, generator=torch.manual_seed(0))
    signs = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    return (left * signs) @ left.mT


@pytest.mark.parametrize("level", LEVELS)
def test_the_trace_is_that_of_the_matrix(level):
    molecule, positions = system("H2O", **level)
    both = torch.cat([positions, 1.05 * positions])
    integrals = evaluate_integrals(both, molecule.provider)
    matrix = low_rank(molecule.nao)
    energy, exchange = exchange_energy(integrals, matrix)
    whole = exchange_matrix(integrals, matrix.clone().requires_grad_()).detach()
    torch.testing.assert_close(exchange, whole, rtol=0, atol=1e-11)
    torch.testing.assert_close(energy, (matrix * whole).sum((1, 2)))
    assert float((energy[0] - energy[1]).abs()) > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_derivatives_by_the_state_and_the_nuclei(level):
    molecule, positions = system("H2O", **level)
    matrix = low_rank(molecule.nao, batch=1)

    def energy(x, matrix):
        even = 0.5 * (matrix + matrix.mT)
        return exchange_energy(evaluate_integrals(x, molecule.provider), even)[0]

    start, free = positions.clone().requires_grad_(), matrix.clone().requires_grad_()
    by_nuclei, by_matrix = torch.autograd.grad(energy(start, free).sum(), (start, free))
    with torch.no_grad():
        assert_gradient(lambda x: energy(x, matrix), by_nuclei, positions, rtol=1e-7)
        assert_gradient(lambda m: energy(positions, m), by_matrix, matrix, rtol=1e-7)


def test_the_energy_alone_needs_no_derivative_of_the_integrals():
    geometry = prepared("H2O", xc="PBE0", guess="core", grid_level=0)
    matrix = random_state(geometry).requires_grad_()
    energy, exchange = exchange_energy(geometry.integrals, matrix)
    (gradient,) = torch.autograd.grad(energy.sum(), matrix)
    torch.testing.assert_close(gradient, 2.0 * exchange)
    assert not exchange.requires_grad


@torch.no_grad()
def test_a_matrix_of_full_rank():
    molecule, positions = system("H2O", xc="PBE0")
    integrals = evaluate_integrals(positions, molecule.provider)
    matrix = symmetric(1, molecule.nao, molecule.nao)
    found = exchange_matrix(integrals, matrix)
    with torch.enable_grad():
        whole = exchange_matrix(integrals, matrix.clone().requires_grad_()).detach()
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-9)
    zero = exchange_matrix(replace(integrals, metric=None), torch.zeros_like(matrix))
    assert float(zero.abs().max()) == 0.0


@pytest.mark.parametrize("level", LEVELS)
def test_on_occupied_orbitals_it_is_that_of_the_matrix(level):
    geometry = prepared("H2CO", **level)
    matrix = random_state(geometry, 0.1)
    whole = exchange_matrix(geometry.integrals, matrix) @ matrix
    assert float(whole.norm()) > 1.0
    found = exchange_on_occupied(geometry.integrals, matrix)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6 * float(whole.norm()))


@pytest.mark.parametrize("level", LEVELS)
def test_asked_for_often_it_is_the_same(level):
    geometry = prepared("H2CO", **level)
    change = random_state(geometry, 0.1) - random_state(geometry, 0.2)
    whole = exchange_matrix(geometry.integrals, change)
    assert float(whole.norm()) > 0.01
    found = repeated_exchange(geometry.integrals, change)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-10)
    assert not found.requires_grad
