"""Correction: to self-consistency from far and near, and back from a step uphill."""

import pytest
import torch

from ase_srdft.dft.correction import Correction, residual
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.grid.atomic_grid import RESPONSE_GRID
from ase_srdft.dft.preparation import on_grid
from ase_srdft.dft.projector import occupied_projector
from tests.tools.molecules import prepared, random_state

LEVELS = {
    "PBE": {"xc": "PBE"},
    "B3LYP": {"xc": "B3LYP"},
    "exact PBE0": {"xc": "PBE0", "density_fitting": False, "basis": "sto-3g"},
}


def fine_residual(geometry, projector):
    energies, fock = kohn_sham(geometry, geometry.density_matrix(projector[None]))
    own = residual(geometry.orthogonal(fock)[0], projector)
    return float(own.norm()), float(energies.total), fock


def begun(angle=0.05, **level):
    geometry = prepared("H2CO", guess="companion", grid_level=0, **level)
    coarse = on_grid(geometry, RESPONSE_GRID)
    density_matrix = random_state(coarse, angle)
    _, fock = kohn_sham(coarse, density_matrix)
    return geometry, Correction(coarse, density_matrix, fock)


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_few_fine_matrices_make_a_state_self_consistent(level):
    geometry, correction = begun(**level)
    norms = [fine_residual(geometry, correction.projector)[0]]
    energies = []
    for _ in range(4):
        correction.relax(1e-2 * norms[-1])
        norm, energy, fock = fine_residual(geometry, correction.projector)
        correction.refer(fock)
        norms.append(norm)
        energies.append(energy)
    assert norms[0] > 0.1
    assert norms[2] < 3e-3 * norms[0]
    assert norms[4] < 0.4 * norms[3] or norms[4] < 1e-7
    assert energies == sorted(energies, reverse=True)
    # a projector that is its own aufbau state
    fock = geometry.orthogonal(fock)
    own, _, _ = occupied_projector(fock, geometry.molecule.nocc)
    torch.testing.assert_close(own[0], correction.projector, rtol=0, atol=1e-3)


def test_it_ends_at_its_goal_and_counts_its_states():
    _, correction = begun()
    before = correction.residual
    correction.relax(0.3 * before)
    assert 0 < correction.residual < 0.3 * before
    made = correction.nbuilds
    assert 0 < made <= 4
    correction.relax(0.3 * before)  # it is there
    assert correction.nbuilds == made


def test_going_back_takes_shorter_steps_from_the_earlier_state():
    geometry, correction = begun(angle=0.2)
    start = correction.projector
    _, _, fock = fine_residual(geometry, start)
    correction.refer(fock)

    def first_step():
        correction.relax(1e-9 + 0.999 * correction.residual)
        return float((correction.projector - start).norm())

    correction.go_back(start, fock)
    long = first_step()
    correction.go_back(start, fock)
    assert 0 < first_step() < 0.8 * long


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("moved", [False, True])
def test_a_state_is_taken_onto_the_fine_grid_with_its_whole_fock_matrix(level, moved):
    geometry, correction = begun(**level)
    if moved:
        correction.relax(0.5 * correction.residual)
    on_rough_grid = correction.residual
    fock = correction.onto(geometry)
    norm, _, own = fine_residual(geometry, correction.projector)
    torch.testing.assert_close(fock, own, rtol=0, atol=1e-10)
    assert correction.residual == pytest.approx(norm, abs=1e-10)
    assert abs(on_rough_grid - norm) > 1e-5
    assert correction.nexchanges == (moved and level["xc"] != "PBE")


def test_exact_exchange_is_asked_for_on_the_way():
    """With it one Fock matrix of the fine grid leads as far as without exact exchange."""
    left = {}
    for name in ("PBE", "B3LYP"):
        geometry, correction = begun(**LEVELS[name])
        correction.onto(geometry)
        before = correction.residual
        correction.relax(1e-4 * before)
        left[name] = fine_residual(geometry, correction.projector)[0] / before
        assert correction.nexchanges == (0 if name == "PBE" else pytest.approx(3, abs=1))
    geometry, correction = begun(xc="B3LYP")
    fock = correction.onto(geometry)
    correction.refer(fock)  # of which exact exchange is not known
    before = correction.residual
    correction.relax(1e-4 * before)
    assert correction.nexchanges == 0
    without = fine_residual(geometry, correction.projector)[0] / before
    assert max(left.values()) < 5e-3
    assert without > 5.0 * left["B3LYP"]
