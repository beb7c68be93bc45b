"""The equivariant transformer: closed forms, symmetries, cutoff, batches."""

import math
from dataclasses import replace

import pytest
import torch

from ase_srdft.models.layers.atom_graph import build_graph
from ase_srdft.models.orbital_tokens.torchmd_net import (
    EquivariantTransformer,
    ExponentialNormalBasis,
)
from tests.tools.molecules import prepared, rotation_matrix

OPTIONS = {"basis": "sto-3g", "grid_level": 0, "guess": "core"}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EquivariantTransformer(16, 3, 4, 12.0, 10).double()


def close(actual, expected, atol=1e-12):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@torch.no_grad()
def test_radial_functions_peak_at_one_where_they_stand():
    basis = ExponentialNormalBasis(5, 10.0).double()
    distances = torch.tensor([[0.0], [10.0], [3.0]]).double()
    values = basis(distances)
    assert values[0, -1].item() == pytest.approx(1.0, abs=1e-12)
    assert values[1, 0].item() == pytest.approx(1.0, abs=1e-7)
    lowest = math.exp(-5.0)
    mean = lowest + (1 - lowest) / 4
    expected = math.exp(-((math.exp(-1.5) - mean) ** 2) / (0.4 * (1 - lowest)) ** 2)
    assert values[2, 1].item() == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("improper", [False, True])
def test_scalars_stay_and_vectors_turn_with_the_molecule(network, improper):
    graph = build_graph([prepared("CH3CH2OH", **OPTIONS)])
    matrix = rotation_matrix(3, improper)
    turned = replace(graph, vectors=graph.vectors @ matrix.T)
    (scalars, vectors), (same, moved) = network(graph), network(turned)
    assert float(vectors.abs().max()) > 1e-2
    close(same, scalars)
    close(moved, torch.einsum("ab,nbc->nac", matrix, vectors))
    assert float((moved - vectors).abs().max()) > 1e-2


@torch.no_grad()
def test_the_order_of_atoms_is_carried_through(network):
    geometry = prepared("H2CO", **OPTIONS)
    order = [2, 0, 3, 1]
    molecule = replace(
        geometry.molecule, numbers=tuple(geometry.molecule.numbers[i] for i in order)
    )
    permuted = replace(geometry, molecule=molecule, positions=geometry.positions[:, order])
    here, there = network(build_graph([geometry])), network(build_graph([permuted]))
    for own, other in zip(here, there, strict=True):
        assert float((own[0] - own[1]).abs().max()) > 1e-2
        close(other, own[order])


@torch.no_grad()
def test_a_batch_of_two_molecules_is_each_alone(network):
    water, methane = (prepared(name, **OPTIONS) for name in ("H2O", "CH4"))
    together = network(build_graph([water, methane]))
    alone = [network(build_graph([geometry])) for geometry in (water, methane)]
    for part, both in enumerate(together):
        assert float(both.abs().max()) > 1e-2
        close(both, torch.cat([own[part] for own in alone]))


@torch.no_grad()
def test_nothing_is_felt_beyond_the_cutoff(network):
    graph = build_graph([prepared("H2", **OPTIONS)])
    x = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    near, edge, far = (
        network(replace(graph, vectors=r * torch.stack([x, -x]))) for r in (6.0, 11.999, 15.0)
    )
    assert float((near[0] - far[0]).abs().max()) > 1e-2
    assert not far[1].any()
    close(edge[0], far[0], 1e-9)
    assert float((edge[0] - far[0]).abs().max()) > 0.0
