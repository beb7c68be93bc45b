"""Searches: the lowest solution on the level's own grid, near enough, and when there is none."""

import pytest
import torch

from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.models import solution_search
from ase_srdft.models.corrected_state import Promise
from ase_srdft.models.solution_search import searched
from tests.tools.molecules import system

TIGHT = Promise(error=1e-6, force_error=1e-5)


def begun(name, stretch=0.1, **level):
    molecule, positions = system(name, stretch=stretch, grid_level=1, basis="sto-3g", **level)
    geometry = prepare(molecule, positions)
    guess = geometry.orthogonal(geometry.guess_fock)
    return geometry, occupied_projector(guess, molecule.nocc)[0][0]


@pytest.mark.parametrize("xc", ["PBE", "PBE0"])
def test_a_solution_keeps_the_promise_with_few_matrices_of_the_own_grid(xc):
    geometry, start = begun("H2CO", xc=xc)
    search = searched(geometry, geometry, TIGHT, start, known=None)
    assert search.state is not None
    assert search.state.keeps(TIGHT)
    assert 2 <= search.builds <= 4
    assert search.coarse_builds > 5


def test_what_is_known_is_not_made_again():
    geometry, start = begun("H2CO", xc="PBE")
    known = searched(geometry, geometry, TIGHT, start, known=None).state
    again = searched(geometry, geometry, TIGHT, known.projector, known=known)
    assert again.state is known
    assert again.builds == 0 < again.coarse_builds


def test_a_geometry_has_one_answer_whatever_it_is_reached_from():
    molecule, _ = system("N2", grid_level=1, basis="sto-3g", xc="LDA")
    positions = torch.tensor([[[0.0, 0.0, 0.0], [0.1, 0.2, 4.5]]], dtype=torch.float64)
    geometry = prepare(molecule, positions)
    energies = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(geometry.orthogonaliser.shape, generator=generator, dtype=torch.float64)
        start = occupied_projector(noise + noise.mT, molecule.nocc)[0][0]
        state = searched(geometry, geometry, TIGHT, start, known=None).state
        energies.append(float(state.energy))
    assert max(energies) - min(energies) < 3e-6


def test_what_does_not_keep_the_promise_is_none():
    geometry, start = begun("H2O", xc="LDA")
    impossible = Promise(error=1e-30, force_error=1e-30)
    search = searched(geometry, geometry, impossible, start, known=None)
    assert search.state is None
    assert search.builds > 2


def test_the_same_minimum_twice_is_one(monkeypatch):
    geometry, start = begun("H2O", xc="LDA")
    found = solution_search.minima
    monkeypatch.setattr(solution_search, "minima", lambda *a: [*found(*a), *found(*a)])
    both = searched(geometry, geometry, TIGHT, start, known=None)
    monkeypatch.undo()
    one = searched(geometry, geometry, TIGHT, start, known=None)
    assert both.builds == one.builds
    assert float(both.state.energy) == pytest.approx(float(one.state.energy), abs=1e-10)


@pytest.mark.parametrize(("curvature", "sure"), [(0.1, True), (0.01, False), (-0.1, False)])
def test_a_minimum_is_sure_by_its_curvature(monkeypatch, curvature, sure):
    geometry, start = begun("H2CO", xc="PBE0")
    known = searched(geometry, geometry, TIGHT, start, known=None).state
    monkeypatch.setattr(solution_search, "lowest_curvature", lambda *_: (curvature, None))
    assert solution_search.is_sure_minimum(geometry, known) == (sure, 1)
    monkeypatch.setattr(solution_search, "_GAP_OF_MINIMUM", 10.0)
    assert solution_search.is_sure_minimum(geometry, known) == (False, 0)
