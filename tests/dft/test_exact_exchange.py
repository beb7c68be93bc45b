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
from ase_srdft.dft.integrals.packed_pairs import from_lower_triangle
from ase_srdft.dft.integrals.provider import evaluate_integrals
from tests.tools.molecules import assert_gradient, prepared, random_state, symmetric, system

LEVELS = [{"xc": "PBE0"}, {"xc": "PBE0", "density_fitting": False}]


def low_rank(nao, rank=3, batch=2):
    left = torch.rand(batch, nao, rank, dtype=torch.float64, generator=torch.manual_seed(0))
    signs = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    return (left * signs) @ left.mT


def dense(integrals, matrix):
    """K[P] from all pairs of orbitals, by autograd alone."""
    if integrals.four_center is not None:
        return torch.einsum("bmlsn,bls->bmn", integrals.four_center, matrix)
    metric = integrals.metric
    factor = integrals.metric_factor if metric is None else torch.linalg.cholesky(metric)
    packed = torch.linalg.solve_triangular(
        factor.mT, integrals.three_center, upper=True, left=False
    )
    pairs = from_lower_triangle(packed, matrix.shape[-1])
    return torch.einsum("bmlp,bls,bnsp->bmn", pairs, matrix, pairs)


@pytest.mark.parametrize("level", LEVELS)
def test_the_trace_is_that_of_the_matrix(level):
    molecule, positions = system("H2O", **level)
    both = torch.cat([positions, 1.05 * positions])
    integrals = evaluate_integrals(both, molecule.provider)
    matrix = low_rank(molecule.nao)
    energy, exchange = exchange_energy(integrals, matrix)
    whole = dense(integrals, matrix)
    torch.testing.assert_close(exchange, whole, rtol=0, atol=1e-11)
    torch.testing.assert_close(exchange_matrix(integrals, matrix), whole, rtol=0, atol=1e-11)
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


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kept", [slice(2), slice(3)], ids=["occupied", "both signs"])
def test_derivatives_of_the_matrix_along_states_of_one_rank(level, kept):
    """By the eigenvectors of P, and by the nuclei, on the path with slots and without."""
    molecule, positions = system("H2O", **level)
    vectors = torch.rand(1, molecule.nao, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    vectors, signs = vectors[..., kept], torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)[kept]
    weights = symmetric(1, molecule.nao, molecule.nao)
    gradients = []
    for exchange, taped in ((dense, False), (exchange_matrix, False), (exchange_matrix, True)):
        start, free = positions.clone().requires_grad_(), vectors.clone().requires_grad_()
        integrals = evaluate_integrals(start, molecule.provider)
        if not taped:
            integrals = replace(integrals, cotangent_slots=None)
        total = (weights * exchange(integrals, (free * signs) @ free.mT)).sum()
        gradients.append(torch.autograd.grad(total, (start, free)))
    whole, *others = gradients
    assert min(float(each.abs().max()) for each in whole) > 0.1
    for found in others:
        torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-9)


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
    torch.testing.assert_close(found, dense(integrals, matrix), rtol=1e-9, atol=1e-9)
    zero = exchange_matrix(replace(integrals, metric=None), torch.zeros_like(matrix))
    assert float(zero.abs().max()) == 0.0


@pytest.mark.parametrize("level", LEVELS)
def test_on_occupied_orbitals_it_is_that_of_the_matrix(level):
    geometry = prepared("H2CO", **level)
    matrix = random_state(geometry, 0.1)
    whole = dense(geometry.integrals, matrix) @ matrix
    assert float(whole.norm()) > 1.0
    found = exchange_on_occupied(geometry.integrals, matrix)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6 * float(whole.norm()))


@pytest.mark.parametrize("level", LEVELS)
def test_asked_for_often_it_is_the_same(level):
    geometry = prepared("H2CO", **level)
    change = random_state(geometry, 0.1) - random_state(geometry, 0.2)
    whole = dense(geometry.integrals, change)
    assert float(whole.norm()) > 0.01
    found = repeated_exchange(geometry.integrals, change)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-10)
    assert not found.requires_grad
