"""The least second derivative, against all of its eigenvalues."""

import math

import pytest
import torch

from ase_srdft.dft.descent import descend
from ase_srdft.dft.energy_surface import EnergySurface, canonical
from ase_srdft.dft.lowest_curvature import lowest_curvature
from tests.tools.molecules import prepared


def stationary(name, core=False, **level):
    geometry = prepared(name, grid_level=0, **level)
    surface = EnergySurface(geometry)
    fock = geometry.integrals.core_hamiltonian if core else geometry.guess_fock
    _, orbitals = torch.linalg.eigh(geometry.orthogonal(fock)[0])
    return surface, canonical(descend(surface, surface.at(orbitals), 1e-5))[0]


def second_derivative(surface, place):
    """All of it."""
    shape = place.slope.shape
    units = torch.eye(place.slope.numel(), dtype=torch.float64)
    return torch.stack([surface.response(place, e.view(shape)).flatten() for e in units], 1)


@pytest.mark.parametrize("level", [{"xc": "PBE"}, {"xc": "PBE0", "basis": "sto-3g"}])
def test_it_is_the_lowest_eigenvalue(level):
    surface, place = stationary("H2CO" if level["xc"] == "PBE0" else "H2O", **level)
    values, vectors = torch.linalg.eigh(second_derivative(surface, place))
    before = surface.nbuilds
    curvature, direction = lowest_curvature(surface, place, flat=-2e-4)
    assert surface.nbuilds - before < 15
    assert curvature == pytest.approx(float(values[0]), abs=1e-3)
    assert abs(float(direction.flatten() @ vectors[:, 0])) > 0.99


def test_a_saddle_point_is_told():
    surface, place = stationary("LiH", core=True, xc="PBE0", basis="6-31g", stretch=0.0)
    order = list(range(len(place.fock)))
    order[place.nocc - 1], order[place.nocc] = place.nocc, place.nocc - 1
    excited = canonical(surface.at(place.orbitals[:, order]))[0]
    assert float(torch.linalg.eigvalsh(second_derivative(surface, excited))[0]) < -0.1
    curvature, direction = lowest_curvature(surface, excited, flat=-2e-4)
    assert curvature < -0.1
    assert float(direction.norm()) == pytest.approx(1.0)


def test_it_is_the_same_each_time_and_leaves_the_random_numbers_alone():
    surface, place = stationary("H2O", xc="LDA", basis="sto-3g")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = lowest_curvature(surface, place, flat=-2e-4)
    assert torch.equal(torch.get_rng_state(), state)
    second = lowest_curvature(surface, place, flat=-2e-4)
    assert first[0] == second[0] > 0
    assert torch.equal(first[1], second[1])


def test_without_empty_orbitals_it_is_infinite():
    surface = EnergySurface(prepared("He", grid_level=0, basis="sto-3g", xc="LDA"))
    place = surface.at(torch.eye(1, dtype=torch.float64))
    assert lowest_curvature(surface, place, flat=0.0)[0] == math.inf
