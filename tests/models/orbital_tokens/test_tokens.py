"""Tokens of orbitals: configuration, identity, axes, batches."""

import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.prepared_geometry import concatenate
from ase_srdft.models.orbital_tokens.rotated_axes import random_rotations
from ase_srdft.models.orbital_tokens.tokens import OrbitalNetworkConfig, OrbitalTokens
from tests.tools.molecules import prepared
from tests.tools.small_models import ORBITAL_NETWORK

BACKBONES = ["et", "painn"]


def tokens_of(backbone="et", frame="none", basis="sto-3g"):
    torch.manual_seed(0)
    config = OrbitalNetworkConfig(**(ORBITAL_NETWORK | {"backbone": backbone, "frame": frame}))
    return OrbitalTokens(basis, (1, 6, 8), config).double()


def geometry_of(name, basis="sto-3g"):
    return prepared(name, basis=basis, grid_level=0, guess="core")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "features is 0: use a positive number"),
        ({"features": 20, "heads": 8}, "features is 20: use a multiple of the 8 heads"),
        ({"nradial": 1}, "nradial is 1: use at least 2"),
        ({"backbone": "gcn"}, "backbone is 'gcn': use et or painn"),
        ({"frame": "canonical"}, "frame is 'canonical': use none or random"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadInput) as caught:
        OrbitalNetworkConfig(**options)
    assert message in str(caught.value)


@torch.no_grad()
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("basis", ["sto-3g", "def2-svp", "def2-tzvp"])
def test_no_two_orbitals_look_the_same(backbone, basis):
    geometry = geometry_of("H2CO", basis)
    ((tokens, frame),) = tokens_of(backbone, basis=basis)([geometry])
    assert tokens.shape == (1, geometry.molecule.nao, 16)
    assert frame.rotations is None
    distances = torch.cdist(tokens[0], tokens[0]) + torch.eye(tokens.shape[1])
    assert float(distances.min()) > 0.02


@torch.no_grad()
@pytest.mark.parametrize("backbone", BACKBONES)
def test_several_molecules_in_one_batch_are_what_they_are_alone(backbone):
    network = tokens_of(backbone)
    water, methane = geometry_of("H2O"), geometry_of("CH4")
    pair = concatenate([water, geometry_of("H2O")])
    (both, _), (other, _) = network([pair, methane])
    for found, geometry in ((both[:1], water), (both[1:], water), (other, methane)):
        torch.testing.assert_close(found, network([geometry])[0][0], rtol=0, atol=1e-12)


@torch.no_grad()
def test_scalars_alone_are_the_same_in_all_axes_and_vectors_turn():
    network, geometry = tokens_of(frame="random"), geometry_of("H2CO")
    first, second = (network([geometry])[0] for _ in range(2))
    expected = random_rotations(1, int(network.ndrawn))
    torch.testing.assert_close(second[1].rotations, expected)
    assert float((first[0] - second[0]).abs().max()) > 1e-3
    network.mixing.weight[:, 16:] = 0.0  # blind for vectors
    first, second = (network([geometry])[0][0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


@torch.no_grad()
def test_axes_are_drawn_for_weights_that_are_trained_only():
    network, geometry = tokens_of(frame="random"), geometry_of("H2O")
    assert network([geometry])[0][1].rotations is not None
    assert int(network.ndrawn) == 1
    network.eval()
    assert network([geometry])[0][1].rotations is None
    network.train().requires_grad_(False)
    assert network([geometry])[0][1].rotations is None
    assert int(network.ndrawn) == 1
