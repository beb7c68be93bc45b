"""The energy by turns of orbitals: its derivatives against finite differences, and its tilt."""

import math

import pytest
import torch

from ase_srdft.dft.correction import residual
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_surface import EnergySurface, canonical
from tests.tools.molecules import prepared

LEVELS = {
    "LDA": {"xc": "LDA"},
    "PBE": {"xc": "PBE"},
    "B3LYP": {"xc": "B3LYP"},
    "exact PBE0": {"xc": "PBE0", "density_fitting": False},
}


def begun(seed=1, **level):
    """A surface, and a place on it that is no solution."""
    geometry = prepared("H2O", grid_level=0, basis="sto-3g", **level)
    surface = EnergySurface(geometry)
    _, orbitals = torch.linalg.eigh(geometry.orthogonal(geometry.guess_fock)[0])
    place = surface.at(orbitals)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.randn(place.slope.shape, generator=generator, dtype=torch.float64)
    return surface, place, turn / turn.norm()


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_slope_and_answer_are_the_derivatives_of_the_energy(level):
    surface, place, turn = begun(**level)
    step = 1e-3
    ahead, behind = (surface.at(place.turned(s * step * turn)) for s in (1, -1))
    slope = float((place.slope * turn).sum())
    assert abs(slope) > 1e-2
    assert (ahead.energy - behind.energy) / (2 * step) == pytest.approx(slope, abs=1e-5)
    curvature = float((turn * surface.response(place, turn)).sum())
    bend = (ahead.energy - 2 * place.energy + behind.energy) / step**2
    assert curvature == pytest.approx(bend, rel=1e-4)


def test_the_second_derivative_is_symmetric_whatever_the_orbitals():
    surface, place, turn = begun(xc="PBE")
    _, _, other = begun(seed=2, xc="PBE")
    there = float((other * surface.response(place, turn)).sum())
    back = float((turn * surface.response(place, other)).sum())
    assert there == pytest.approx(back, abs=1e-10)
    same, of_occupied, of_virtual = canonical(place)
    rotated = of_virtual.T @ turn @ of_occupied
    again = float((rotated * surface.response(same, rotated)).sum())
    assert again == pytest.approx(float((turn * surface.response(place, turn)).sum()), abs=1e-9)


def test_canonical_orbitals_are_of_the_same_state():
    _, place, _ = begun(xc="LDA")
    same, _, _ = canonical(place)
    torch.testing.assert_close(same.projector, place.projector, rtol=0, atol=1e-12)
    nocc = place.nocc
    for block in (same.fock[:nocc, :nocc], same.fock[nocc:, nocc:]):
        torch.testing.assert_close(block, torch.diag(block.diagonal()), rtol=0, atol=1e-10)


def test_a_residual_is_that_of_a_correction():
    surface, place, _ = begun(xc="LDA")
    density_matrix = surface.geometry.density_matrix(place.projector[None])
    _, fock = kohn_sham(surface.geometry, density_matrix)
    norm = residual(surface.geometry.orthogonal(fock)[0], place.projector).norm()
    assert place.residual == pytest.approx(float(norm), rel=1e-9)
    assert place.residual > 1e-2


def test_a_tilt_adds_to_slope_and_energy():
    surface, place, _ = begun(xc="LDA")
    tilt = torch.diag(torch.linspace(-0.1, 0.2, len(place.fock), dtype=torch.float64))
    tilted = EnergySurface(surface.geometry, tilt).at(place.orbitals)
    added = 2 * float((tilt * place.projector).sum())
    assert abs(added) > 0.01
    assert tilted.energy - place.energy == pytest.approx(added, abs=1e-10)
    fock = place.orbitals.T @ tilt @ place.orbitals
    torch.testing.assert_close(tilted.fock - place.fock, fock, rtol=0, atol=1e-10)


def test_without_empty_orbitals_there_is_nothing_to_turn():
    geometry = prepared("He", grid_level=0, basis="sto-3g", xc="LDA")
    place = EnergySurface(geometry).at(torch.eye(1, dtype=torch.float64))
    assert place.residual == 0.0
    assert place.gap == math.inf
