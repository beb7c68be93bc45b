"""Certified single points against PySCF: energies, forces, estimates, and where they end."""

import numpy as np
import pytest
import torch

from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.dft.correction import Correction, _pulay_weights
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.reference_scf import reference_scf, safe_gap
from ase_srdft.models import certified_single_point as certified
from ase_srdft.models.certified_single_point import (
    Promise,
    certified_single_point,
    open_certified_single_point,
)
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.shipped_models import model_path
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.models.solution_search import Search, is_sure_minimum
from tests.tools.molecules import slope, system

TIGHT = Promise(error=1e-5, force_error=1e-5)
#: Its lowest closed shell has an occupied orbital above an empty one without exact exchange (Bohr).
STRETCHED_WATER = ((0, 0, 0.1), (0, 4.2, -0.9), (0, -1.45, -0.9))


def asked(name, family="potential", stretch=0.1, **level):
    molecule, positions = system(name, stretch=stretch, grid_level=0, **level)
    elements = tuple(sorted(set(molecule.numbers)))
    settings = {"features": 8, "layers": 1}
    model = build_model(family, molecule.level, elements, settings).double()
    return model, molecule_of(model, molecule.numbers, molecule.level), positions


LEVELS = {
    "PBE": {"xc": "PBE"},
    "LDA": {"xc": "LDA", "basis": "sto-3g"},
    "PBE0": {"xc": "PBE0", "basis": "def2-svp"},
    "exact B3LYP": {"xc": "B3LYP", "density_fitting": False, "basis": "sto-3g"},
}


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_energy_and_forces_are_those_of_the_scf(level):
    model, molecule, positions = asked("H2CO", **level)
    result = certified_single_point(model, molecule, positions, TIGHT)
    reference = reference_scf(molecule, positions[0].numpy(), forces=True)
    error = float(result.energy) - reference.energy
    assert -1e-9 < error < float(result.bracket.width) + 1e-9
    assert float(result.bracket.width) < TIGHT.error
    (record,) = result.corrections
    wrong = np.abs(result.forces[0].numpy() - reference.forces).max()
    assert wrong < record.force_error + 2e-6 < TIGHT.force_error + 2e-6
    assert result.paths == ("corrected",)
    assert record.start == "model"  # untrained, it is the guess's
    assert 2 <= record.builds <= (3 if molecule.level.functional.exact_exchange == 0 else 4)
    assert record.coarse_builds > 3  # model, half of it and guess, and what DIIS made
    assert record.start_width > 1e-3


def test_forces_are_the_derivative_of_the_energy():
    model, molecule, positions = asked("H2O", xc="B3LYP")
    forces = certified_single_point(model, molecule, positions, TIGHT).forces
    direction = torch.tensor(np.random.default_rng(3).standard_normal(positions.shape))

    def energy(x):
        return certified_single_point(model, molecule, x, TIGHT, forces=False).energy

    assert slope(energy, positions, direction) == pytest.approx(
        -float((forces * direction).sum()), abs=3e-5
    )


def test_a_looser_promise_takes_no_more_matrices():
    model, molecule, positions = asked("H2CO")
    loose = Promise(error=1e-3, force_error=1.0)
    few = certified_single_point(model, molecule, positions, loose, forces=False)
    many = certified_single_point(model, molecule, positions, TIGHT, forces=False)
    few_record, many_record = few.corrections[0], many.corrections[0]
    assert few_record.builds <= many_record.builds
    assert few_record.coarse_builds < many_record.coarse_builds
    assert float(many.energy) <= float(few.energy) < float(many.energy) + 1e-3


def test_energy_and_forces_come_apart_or_together():
    model, molecule, positions = asked("H2O")
    opened = open_certified_single_point(model, molecule, positions, TIGHT, graph=True)
    alone = certified_single_point(model, molecule, positions, TIGHT, forces=False)
    assert alone.forces is None
    assert float(opened.result.energy) == pytest.approx(float(alone.energy), abs=1e-11)
    together = certified_single_point(model, molecule, positions, TIGHT)
    torch.testing.assert_close(opened.with_forces().forces, together.forces, rtol=0, atol=1e-12)


def test_a_batch_is_each_geometry_by_itself():
    model, molecule, first = asked("H2O")
    _, _, second = asked("H2O", stretch=0.2)
    both = certified_single_point(model, molecule, torch.cat([first, second]), TIGHT)
    assert len(both.corrections) == len(both.paths) == 2
    alone = certified_single_point(model, molecule, second, TIGHT)
    torch.testing.assert_close(both.energy[1:], alone.energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(both.forces[1:], alone.forces, rtol=0, atol=1e-10)


def test_of_a_stretched_molecule_the_lowest_solution_is_looked_for():
    model, molecule, _ = asked("H2O", xc="PBE0")
    positions = torch.tensor([STRETCHED_WATER], dtype=torch.float64)
    result = certified_single_point(model, molecule, positions, TIGHT)
    reference = reference_scf(molecule, positions[0].numpy())
    assert result.paths == ("searched",)
    assert float(result.energy) == pytest.approx(reference.energy, abs=1e-7)


def finds_nothing(*_):
    return Search(state=None, builds=2, coarse_builds=3)


@pytest.mark.parametrize("path", ["searched", "scf"])
def test_where_correction_gives_up_others_go_on(monkeypatch, path):
    monkeypatch.setattr(certified, "_MOST_BUILDS", 1)
    if path == "scf":
        monkeypatch.setattr(certified, "searched", finds_nothing)
    model, molecule, positions = asked("H2O")
    result = certified_single_point(model, molecule, positions, TIGHT)
    assert result.paths == (path,)
    monkeypatch.undo()
    own = certified_single_point(model, molecule, positions, TIGHT)
    assert own.paths == ("corrected",)
    assert float(result.energy) == pytest.approx(float(own.energy), abs=1e-8)
    torch.testing.assert_close(result.forces, own.forces, rtol=0, atol=2e-5)


def test_where_pyscf_is_not_near_enough_correction_goes_on(monkeypatch):
    monkeypatch.setattr(certified, "_is_safe", lambda *_: (False, 0))
    monkeypatch.setattr(certified, "searched", finds_nothing)
    model, molecule, positions = asked("H2CO", xc="LDA", basis="sto-3g")
    nearer = Promise(error=1e-5, force_error=1e-8)
    result = certified_single_point(model, molecule, positions, nearer)
    assert result.paths == ("scf",)
    assert result.corrections[0].force_error < 1e-8
    reference = reference_scf(molecule, positions[0].numpy(), forces=True)
    assert float(result.energy) == pytest.approx(reference.energy, abs=1e-9)
    assert np.abs(result.forces[0].numpy() - reference.forces).max() < 2e-5


def test_where_neither_is_near_enough_pyscf_goes_further(monkeypatch):
    monkeypatch.setattr(certified, "_MOST_BUILDS", 1)
    monkeypatch.setattr(certified, "searched", finds_nothing)
    tolerances = []

    def noted(*arguments, gradient_tolerance=None, **named):
        tolerances.append(gradient_tolerance)
        return reference_scf(*arguments, gradient_tolerance=gradient_tolerance, **named)

    monkeypatch.setattr(certified, "reference_scf", noted)
    model, molecule, positions = asked("H2O", xc="LDA", basis="sto-3g")
    nearer = Promise(error=1e-5, force_error=1e-7)
    result = certified_single_point(model, molecule, positions, nearer)
    assert tolerances == [None, pytest.approx(1e-8)]
    assert result.paths == ("scf",)
    assert result.corrections[0].force_error < 1e-7
    assert result.corrections[0].builds == 5


@pytest.mark.slow
def test_an_occupied_orbital_above_an_empty_one_is_answered_with_a_wide_bracket():
    model, molecule, _ = asked("H2O", xc="LDA", basis="sto-3g")
    positions = torch.tensor([STRETCHED_WATER], dtype=torch.float64)
    result = certified_single_point(model, molecule, positions, TIGHT)
    reference = reference_scf(molecule, positions[0].numpy(), forces=True)
    occupied = reference.mo_energy[reference.mo_occ > 0].max()
    assert occupied > reference.mo_energy[reference.mo_occ == 0].min() + 0.01
    assert result.paths == ("searched",)
    assert float(result.bracket.width) > 1e2 * TIGHT.error
    assert float(result.energy) == pytest.approx(reference.energy, abs=1e-8)
    assert np.abs(result.forces[0].numpy() - reference.forces).max() < 2e-5


def test_a_state_that_is_no_number_is_left_to_others(monkeypatch):
    monkeypatch.setattr(Correction, "residual", property(lambda _: float("nan")))
    monkeypatch.setattr(Correction, "relax", _breaks)
    model, molecule, positions = asked("H2O", xc="LDA", basis="sto-3g")
    result = certified_single_point(
        model, molecule, positions, Promise(error=1e-5, force_error=1e-3)
    )
    assert result.paths == ("searched",)


def _breaks(correction, _):
    correction.projector = torch.full_like(correction.projector, torch.nan)
    _pulay_weights([correction.projector])


def test_what_nothing_keeps_is_an_error(monkeypatch):
    monkeypatch.setattr(certified, "searched", finds_nothing)
    monkeypatch.setattr(certified, "_MOST_BUILDS", 1)
    model, molecule, positions = asked("H2O")
    with pytest.raises(ReferenceNotConverged, match="are asked for: ask for less"):
        certified_single_point(model, molecule, positions, Promise(error=1e-30, force_error=1e-30))


def test_forces_of_the_guess_alone_are_off_by_far_more():
    model, molecule, positions = asked("H2CO")
    raw = single_point(model, molecule, positions)
    result = certified_single_point(model, molecule, positions, TIGHT)
    assert float((raw.forces - result.forces).abs().max()) > 1e-2


def methylene(angle):
    """H-C-H of an angle (degrees), positions in Bohr: its gap closes as it opens."""
    half = np.radians(angle / 2.0)
    x, z = 2.1 * np.sin(half), 2.1 * np.cos(half)
    return torch.tensor([[[0.0, 0.0, 0.0], [x, 0.0, z], [-x, 0.0, z]]], dtype=torch.float64)


@pytest.mark.parametrize("angle", [100, 118])
def test_a_minimum_that_was_begun_near_is_not_looked_for_again(monkeypatch, angle):
    asked_for = []

    def noted(*arguments):
        asked_for.append(is_sure_minimum(*arguments))
        return asked_for[-1]

    monkeypatch.setattr(certified, "is_sure_minimum", noted)
    monkeypatch.setattr(certified, "searched", None)  # nobody calls it
    model = load_model(model_path("organics")).model
    level = LevelOfTheory(xc="PBE0", basis="sto-3g", grid_level=0)
    molecule = molecule_of(model, (6, 1, 1), level)
    result = certified_single_point(model, molecule, methylene(angle), TIGHT, forces=False)
    reference = reference_scf(molecule, methylene(angle)[0].numpy())
    assert float(result.energy) == pytest.approx(reference.energy, abs=1e-7)
    assert result.paths == ("corrected",)
    gap = float(result.bracket.aufbau_gap)
    if gap > safe_gap(0.25):
        assert asked_for == []
    else:
        ((sure, answers),) = asked_for
        assert sure
        assert 3 <= answers < result.corrections[0].coarse_builds
    assert (gap > safe_gap(0.25)) is (angle == 100)
