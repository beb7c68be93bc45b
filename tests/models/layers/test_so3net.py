"""The backbone against schnetpack's own SO3net, its symmetries and its cutoff."""

import pytest
import torch

from ase_srdft.models.layers.atom_graph import Graph, build_graph
from ase_srdft.models.layers.schnetpack_shim import coupling_tables_from, schnetpack_modules
from ase_srdft.models.layers.so3net import Backbone, SmoothCutoff
from ase_srdft.models.layers.spherical_tensors import component_slice
from tests.tools.molecules import harmonics_rotation, prepared, rotation_matrix


def backbone_of(lmax, layers=2, cutoff=12.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone(8, layers, lmax, cutoff, 12).double()


def graph_of(*names):
    return build_graph([prepared(name, basis="sto-3g", grid_level=0) for name in names])


def features_of(backbone, graph):
    return backbone(graph, backbone.pair_basis(graph)).detach()


def turned(graph, matrix):
    return Graph(**(vars(graph) | {"vectors": graph.vectors @ matrix.T}))


@pytest.mark.parametrize("names", [("H2CO",), ("H2O", "H2", "H2CO")])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_features_are_those_of_schnetpacks_network(lmax, names):
    backbone, graph = backbone_of(lmax), graph_of(*names)
    snn, representation = schnetpack_modules()
    radial_basis = snn.GaussianRBF(n_rbf=12, cutoff=12.0, start=0.8)
    net = representation.SO3net(8, 2, lmax, radial_basis, SmoothCutoff(12.0)).double()
    net.load_state_dict(backbone.net.state_dict())
    inputs = {
        "_atomic_numbers": graph.numbers,
        "_Rij": graph.vectors,
        "_idx_i": graph.first,
        "_idx_j": graph.second,
    }
    with torch.no_grad():
        expected = net(inputs)["multipole_representation"]
    ours = features_of(backbone, graph)
    for angular in range(lmax + 1):
        part = expected[:, component_slice(angular)]
        assert float(part.abs().max()) > 1e-3
        # schnetpack's couplings are rounded to float32
        torch.testing.assert_close(ours[:, component_slice(angular)], part, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("lmax", [2, 4, 6])
def test_features_turn_with_the_molecule(lmax, improper):
    """Parity included: features of l carry (-1)^l, none is a pseudo-tensor."""
    backbone, graph = backbone_of(lmax), graph_of("H2CO")
    matrix = rotation_matrix(2, improper)
    here, there = features_of(backbone, graph), features_of(backbone, turned(graph, matrix))
    for angular in range(lmax + 1):
        columns = component_slice(angular)
        expected = harmonics_rotation(angular, matrix) @ here[:, columns]
        assert float(expected.abs().max()) > 1e-4
        torch.testing.assert_close(there[:, columns], expected, rtol=0, atol=1e-11)


def test_a_cast_to_single_precision_and_back_changes_the_weights_alone():
    backbone, graph = backbone_of(2), graph_of("H2CO")
    weights = {name: t.float().double() for name, t in backbone.state_dict().items()}
    backbone.load_state_dict(weights)
    before = features_of(backbone, graph)
    assert features_of(backbone.float(), graph).dtype == torch.float32
    torch.testing.assert_close(features_of(backbone.double(), graph), before, rtol=0, atol=0)


def test_the_cutoff_is_smooth():
    cutoff = SmoothCutoff(5.0)
    distances = torch.linspace(0.0, 7.0, 71, dtype=torch.float64).requires_grad_()
    envelope = cutoff(distances)
    (slope,) = torch.autograd.grad(envelope.sum(), distances, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), distances)
    assert envelope[0].item() == 1.0
    assert bool((envelope.detach().diff()[:50] < 0).all())
    for values in (envelope, slope, curvature):
        assert not values[50:].any()
    # near the cutoff e goes as x^3, so its curvature still vanishes linearly
    assert 0.0 < curvature[49].item() < 0.3


def test_sums_over_senders_agree_for_equal_and_unequal_molecules():
    graph = graph_of("H2O", "H2O")
    assert graph.nneighbours == 2
    messages = torch.randn(len(graph.first), 4, dtype=torch.float64)
    general = Graph(**(vars(graph) | {"nneighbours": None}))
    expected = torch.stack([messages[graph.first == atom].sum(0) for atom in range(6)])
    torch.testing.assert_close(graph.sum_by_first(messages), expected)
    torch.testing.assert_close(general.sum_by_first(messages), expected)


def test_graphs_hold_every_ordered_pair_of_each_molecule():
    geometries = [prepared(name, basis="sto-3g", grid_level=0) for name in ("H2O", "H2")]
    graph = build_graph(geometries)
    assert graph.numbers.tolist() == [8, 1, 1, 1, 1]
    assert graph.nneighbours is None
    pairs = list(zip(graph.first.tolist(), graph.second.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 4), (4, 3)]
    positions = torch.cat([geometry.positions[0] for geometry in geometries])
    expected = positions[graph.second] - positions[graph.first]
    assert float(expected.norm(dim=-1).min()) > 1.0
    torch.testing.assert_close(graph.vectors, expected)


def test_schnetpack_makes_its_own_tables_again_after_a_network_or_an_error():
    modules, _ = schnetpack_modules()
    own = modules.so3.generate_clebsch_gordan_rsh
    backbone_of(2)
    assert modules.so3.generate_clebsch_gordan_rsh is own
    with pytest.raises(ZeroDivisionError), coupling_tables_from(lambda lmax: 1 / 0):
        modules.so3.generate_clebsch_gordan_rsh(2)
    assert modules.so3.generate_clebsch_gordan_rsh is own
