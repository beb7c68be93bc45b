"""SinglePointResult: errors against the SCF, frame by frame, and the table made of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from scipy.linalg import eigh

from ase_srdft.common.errors import BadInput, ReferenceNotConverged
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.electronic_structure import electronic_structures
from ase_srdft.models.single_point import single_point
from ase_srdft.reference import accuracy as evaluation_module
from ase_srdft.reference.accuracy import (
    Accuracy,
    FrameErrors,
    average,
    compare,
    frame_errors,
    frame_results,
)
from ase_srdft.reference.label_file import Failure
from tests.tools.small_models import small_model, water

COLUMNS = [
    "n_frames",
    "energy_mae_uEh",
    "energy_max_uEh",
    "hamiltonian_mae_uEh",
    "orbital_energy_mae_uEh",
    "homo_mae_uEh",
    "lumo_mae_uEh",
    "gap_mae_uEh",
    "forces_mae_meV_per_A",
    "forces_max_meV_per_A",
    "bracket_coverage",
    "bracket_width_mean_uEh",
]


@pytest.fixture(scope="module")
def model():
    return small_model().double()


@pytest.fixture(scope="module")
def errors(model):
    return list(frame_errors(model, [water(), water(0.1)]))


def test_errors_are_those_of_the_model_against_the_scf(model, errors):
    positions = water(0.1).positions / units.Bohr
    water_molecule = Molecule(numbers=(8, 1, 1), level=model.level)
    evaluation = single_point(model, water_molecule, torch.tensor(positions)[None])
    scf = reference_scf(water_molecule, positions, forces=True)
    found = errors[1]
    assert found.reference_energy == pytest.approx(scf.energy, abs=1e-9)
    assert found.energy > 1e-3
    assert found.energy == pytest.approx(float(evaluation.energy) - scf.energy, abs=1e-9)
    assert found.bracket_width == pytest.approx(float(evaluation.bracket.width))
    assert found.covered
    fock = evaluation.fock[0].numpy()
    overlap = evaluation.geometry.integrals.overlap[0].numpy()
    assert found.hamiltonian == pytest.approx(abs(fock - scf.fock).mean(), abs=1e-6)
    levels = abs(eigh(fock, overlap, eigvals_only=True) - scf.mo_energy)
    assert levels.min() > 1e-4
    assert found.orbital_energy == pytest.approx(levels[:5].mean(), abs=1e-6)
    assert (found.homo, found.lumo) == pytest.approx((levels[4], levels[5]), abs=1e-6)
    forces = abs(evaluation.forces[0].numpy() - scf.forces)
    assert found.forces_max > 1e-3
    assert found.forces_mean == pytest.approx(forces.mean(), abs=1e-6)
    assert found.forces_max == pytest.approx(forces.max(), abs=1e-6)


def test_the_scf_state_itself_has_no_error(model):
    positions = water().positions / units.Bohr
    water_molecule = Molecule(numbers=(8, 1, 1), level=model.level)
    evaluation = single_point(model, water_molecule, torch.tensor(positions)[None], forces=False)
    scf = reference_scf(water_molecule, positions, forces=True)
    state = replace(
        electronic_structures(evaluation)[0],
        density_matrix=scf.density_matrix,
        fock=scf.fock,
        energy=scf.energy,
        energy_lower=scf.energy,
    )
    found = compare(state, scf, scf.forces)
    assert found.covered
    assert found.orbital_energy < 1e-7
    assert (found.energy, found.hamiltonian, found.forces_mean, found.forces_max) == (0,) * 4
    above = replace(state, energy=scf.energy + 2e-3, energy_lower=scf.energy + 1e-3)
    assert not compare(above, scf, None).covered
    below = replace(state, energy=scf.energy - 1e-3, energy_lower=scf.energy - 2e-3)
    assert not compare(below, scf, None).covered


def frame(**changes):
    values = {
        "reference_energy": -76.0,
        "energy": 1e-6,
        "bracket_width": 2e-6,
        "covered": True,
        "hamiltonian": 3e-6,
        "orbital_energy": 4e-6,
        "homo": 5e-6,
        "lumo": 6e-6,
        "gap": 7e-6,
        "forces_mean": 1e-3,
        "forces_max": 2e-3,
    }
    return FrameErrors(**(values | changes))


def test_average():
    frames = [frame(), frame(energy=-3e-6, covered=False, homo=9e-6, forces_max=4e-3)]
    table = average(frames).to_dict()
    assert list(table) == COLUMNS
    force = 1e3 * units.Hartree / units.Bohr
    expected = [2, 2.0, 3.0, 3.0, 4.0, 7.0, 6.0, 7.0, 1e-3 * force, 4e-3 * force, 0.5, 2.0]
    assert list(table.values()) == pytest.approx(expected)
    assert {type(value) for value in table.values()} == {int, float}


def test_what_is_missing_is_none():
    table = average([frame(), frame(lumo=None, gap=None, forces_mean=None, forces_max=None)])
    missing = [name for name, value in table.to_dict().items() if value is None]
    assert missing == [COLUMNS[i] for i in (6, 7, 8, 9)]
    assert json.loads(json.dumps(table.to_dict(), allow_nan=False))["lumo_mae_uEh"] is None
    with pytest.raises(BadInput, match="no frames"):
        average([])


def test_table_of_a_model(errors):
    table = average(errors)
    assert isinstance(table, Accuracy)
    assert table.n_frames == 2
    assert table.energy_max_uEh > table.energy_mae_uEh > 1000.0
    assert table.bracket_coverage == 1.0
    assert table.bracket_width_mean_uEh > table.energy_mae_uEh


def test_without_forces_and_without_unoccupied_orbitals():
    dimer = Atoms("He2", [[0, 0, 0], [0, 0, 1.5]])
    found = next(frame_errors(small_model(elements=(2,)).double(), [dimer], forces=False))
    assert (found.forces_mean, found.forces_max) == (None, None)
    assert (found.lumo, found.gap) == (None, None)
    # all orbitals are occupied, so there is but one state
    assert abs(found.energy) < 1e-9
    assert found.covered


def count_scfs(monkeypatch):
    """The positions (Bohr) of which a reference is asked for from now on."""
    asked, original = [], evaluation_module.reference_scf

    def count(molecule, positions, *more):
        asked.append(positions)
        return original(molecule, positions, *more)

    monkeypatch.setattr(evaluation_module, "reference_scf", count)
    return asked


def test_frames_come_one_by_one(model, monkeypatch):
    asked = count_scfs(monkeypatch)
    frames = frame_errors(model, [water(), water(0.1)], forces=False)
    assert next(frames).energy > 0.0
    assert len(asked) == 1


def changed(**changes):
    """Water with something set that it should not have."""
    atoms = water()
    for name, value in changes.items():
        getattr(atoms, f"set_{name}")(value)
    return atoms


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (molecule("CH4"), "the model does not know C"),
        (changed(initial_charges=[1.0, 0.0, 0.0]), "charges sum to 1"),
        (changed(initial_charges=[0.5, 0.0, 0.0]), "charges sum to 0.5"),
        (changed(initial_magnetic_moments=[2.0, 0.0, 0.0]), "moments sum to 2"),
        (changed(pbc=True), "is periodic"),
        (Atoms("OHH", [[0, 0, 0], [0, 0, 0.1], [0, 1, 0]]), "0.100 Angstrom apart"),
        (Atoms("OH", [[0, 0, 0], [0, 0, 1]]), "an open shell"),
        (Atoms(), "has no atoms"),
        (Atoms("OHH", [[0, 0, 0], [0, 0, np.nan], [0, 1, 0]]), "finite"),
    ],
)
def test_the_last_frame_is_refused_before_the_first_scf(bad, message, model, monkeypatch):
    asked = count_scfs(monkeypatch)
    with pytest.raises(BadInput, match=f"frame 2.*{message}"):
        next(frame_errors(model, iter([water(), water(0.1), bad])))
    assert asked == []


def test_a_frame_without_reference_is_told_and_the_others_are_done(model, monkeypatch):
    original = evaluation_module.reference_scf

    def fail(molecule, positions, *more):
        if np.allclose(positions, water(0.1).positions / units.Bohr):
            raise ReferenceNotConverged("no\nluck")
        return original(molecule, positions, *more)

    monkeypatch.setattr(evaluation_module, "reference_scf", fail)
    frames = [water(), water(0.1), water(0.2)]
    first, second, third = frame_results(model, frames, forces=False)
    assert second == Failure(frame=1, reason="no luck")
    assert first.energy != third.energy
    with pytest.raises(ReferenceNotConverged, match="frame 1: no luck"):
        list(frame_errors(model, frames, forces=False))


def test_a_model_without_a_finite_number_is_told(monkeypatch):
    broken = small_model().double()
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.fill_(torch.nan)
    (found,) = frame_results(broken, [water()], forces=False)
    assert isinstance(found, Failure)
    assert found.frame == 0


def test_refused_frames(model, monkeypatch):
    charged = water()
    charged.set_initial_charges([1.0, 0.0, 0.0])
    with pytest.raises(BadInput, match=r"frame 0: .*charges sum to 1"):
        next(frame_errors(model, [charged]))
    periodic = water()
    periodic.pbc = True
    with pytest.raises(BadInput, match="frame 0 is periodic"):
        next(frame_errors(model, [periodic]))
    close = water()
    close.positions[1] = close.positions[0] + 0.1
    with pytest.raises(BadInput, match="frame 0"):
        next(frame_errors(model, [close]))

    def fail(*_):
        raise ReferenceNotConverged("no luck")

    monkeypatch.setattr("ase_srdft.reference.accuracy.reference_scf", fail)
    with pytest.raises(ReferenceNotConverged, match="frame 0: no luck"):
        next(frame_errors(model, [water()]))


def test_the_start_of_the_reference_changes_nothing(model):
    positions = water().positions / units.Bohr
    water_molecule = Molecule(numbers=(8, 1, 1), level=model.level)
    plain = reference_scf(water_molecule, positions)
    rough = single_point(model, water_molecule, torch.tensor(positions)[None], forces=False)
    started = reference_scf(
        water_molecule, positions, density_matrix=rough.state.density_matrix[0].numpy()
    )
    assert started.energy == pytest.approx(plain.energy, abs=1e-9)
    np.testing.assert_allclose(started.fock, plain.fock, atol=1e-5)
