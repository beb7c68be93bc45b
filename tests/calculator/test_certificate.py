"""What an answer is worth: promises kept, what is said of them, and where it travels."""

import pickle
import warnings

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, InputError, PropertyNotPresent, SCFError
from ase.io import read, write

from ase_srdft import SRDFTCalculator
from ase_srdft.calculator import model_runner
from ase_srdft.common.errors import ReferenceNotConverged, UncertainAnswer
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field
from ase_srdft.models import certified_single_point as certified
from ase_srdft.models.solution_search import Search

LEVEL = {"xc": "LDA", "basis": "sto-3g", "grid_level": 0}


@pytest.fixture
def water():
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    atoms.calc = SRDFTCalculator("untrained", **LEVEL)
    return atoms


def test_the_default_promise_is_kept_without_a_trained_model(water):
    tight = SRDFTCalculator("untrained", **LEVEL, max_error=1e-7, max_force_error=1e-5)
    energy, forces = water.get_potential_energy(), water.get_forces()
    certificate = water.calc.certificate
    assert certificate.path == "corrected"
    assert 0 <= energy - tight.get_potential_energy(water) <= certificate.error < 1e-3
    wrong = np.abs(forces - tight.get_forces(water)).max()
    assert wrong < certificate.force_error < 5e-3
    lower, upper = water.calc.energy_bracket
    assert certificate.error == pytest.approx(upper - lower)
    assert certificate.start_error > 0.5 > 1e3 * certificate.error  # the guess is no SCF
    assert certificate.builds >= 2


def test_it_is_of_the_atoms_as_they_are(water):
    calc = water.calc
    with pytest.raises(PropertyNotPresent):
        _ = calc.certificate
    water.get_potential_energy()
    first = calc.certificate
    water.positions[1] += 0.3
    second = calc.certificate
    assert second.start_error != first.start_error
    water.get_potential_energy()
    assert calc.certificate == second


def test_without_a_promise_it_is_the_models_state(water):
    raw = SRDFTCalculator("untrained", **LEVEL, max_error=None)
    energy = raw.get_potential_energy(water)
    assert energy > water.get_potential_energy() + 0.3
    assert raw.certificate.path in ("model", "damped", "guess")
    assert raw.certificate.force_error == 0.0
    assert raw.certificate.error == raw.certificate.start_error > 0.3
    assert energy - raw.certificate.error < water.get_potential_energy()


def test_warning_and_refusing(water):
    warned = SRDFTCalculator("untrained", **LEVEL, on_uncertain="warn")
    raw = SRDFTCalculator("untrained", **LEVEL, max_error=None)
    with pytest.warns(UncertainAnswer, match=r"H2O may be .* eV above the SCF.*on_uncertain="):
        energy = warned.get_potential_energy(water)
    assert energy == raw.get_potential_energy(water)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was said of this geometry
        warned.get_forces(water)
    refusing = SRDFTCalculator("untrained", **LEVEL, on_uncertain="raise")
    with pytest.raises(CalculationFailed, match=r"max_error=0\.001 eV"):
        refusing.get_potential_energy(water)
    with pytest.raises(CalculationFailed, match="image 0: the energy of H2O"):
        refusing.evaluate_batch([water, molecule("H2")])
    refusing.set(max_error=1e3)
    assert refusing.get_potential_energy(water) == energy


def test_an_scf_that_is_none_of_lowest_orbitals_comes_with_a_warning():
    atoms = Atoms("NH", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.57]])
    atoms.calc = SRDFTCalculator("untrained", **LEVEL)
    with pytest.warns(UncertainAnswer, match="HN has an occupied orbital above an empty one"):
        energy = atoms.get_potential_energy()
    assert atoms.calc.certificate.path == "searched"
    assert atoms.calc.certificate.error > 0.1 > atoms.calc.certificate.force_error
    scf = mean_field(
        Molecule(numbers=(7, 1), level=LevelOfTheory(**LEVEL)), atoms.positions / 0.529177210903
    )
    assert energy < 27.211386245988 * scf.kernel() + 1e-3


def test_what_breaks_down_is_told_in_one_line(water, monkeypatch):
    def breaks(*_, **__):
        raise np.linalg.LinAlgError("did not\nconverge")

    monkeypatch.setattr(model_runner, "open_certified_single_point", breaks)
    with pytest.raises(CalculationFailed, match=r"broke down \(did not converge\): check the"):
        water.get_potential_energy()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_error": 0.0}, "max_error 0.0: use a number above zero, or None"),
        ({"max_error": "tight"}, "max_error 'tight'"),
        ({"max_force_error": None}, "max_force_error None: use a number above zero"),
        ({"max_force_error": float("inf")}, "max_force_error inf"),
        ({"on_uncertain": "panic"}, "on_uncertain 'panic': use one of correct, warn, raise"),
    ],
)
def test_a_promise_that_is_none_is_refused(wrong, message):
    with pytest.raises(InputError) as caught:
        SRDFTCalculator("untrained", **LEVEL).set(**wrong)
    assert message in str(caught.value)


def test_setting_another_promise_forgets_the_answer(water):
    loose = SRDFTCalculator("untrained", **LEVEL, max_error=2.0, max_force_error=50.0)
    energy = loose.get_potential_energy(water)
    loose.set(max_error=1e-6, max_force_error=1e-4)
    assert loose.get_potential_energy(water) < energy
    assert loose.certificate.error < 1e-6


def test_no_solution_is_ases_error_of_the_scf(water, monkeypatch):
    def fails(*_, **__):
        raise ReferenceNotConverged("nothing converges")

    monkeypatch.setattr(certified, "_MOST_BUILDS", 1)
    monkeypatch.setattr(
        certified, "searched", lambda *_: Search(state=None, builds=1, coarse_builds=1)
    )
    monkeypatch.setattr(certified, "reference_scf", fails)
    with pytest.raises(SCFError, match="nothing converges"):
        water.get_potential_energy()
    assert water.calc.results == {}


def test_batches_are_certified(water):
    other = water.copy()
    other.positions[0] += 0.2
    found = water.calc.evaluate_batch([water, other])
    alone = [water.calc.get_potential_energy(each) for each in (water, other)]
    assert [each["energy"] for each in found] == pytest.approx(alone, abs=1e-8)
    for each in found:
        lower, upper = each["energy_bracket"]
        assert 0 <= upper - lower < 1e-3


def test_it_travels_with_the_atoms(water, tmp_path):
    water.get_forces()
    certificate = water.calc.certificate
    assert certificate.key_values().items() <= water.info.items()
    for name in ("water.traj", "water.extxyz"):
        write(tmp_path / name, water)
        info = read(tmp_path / name).info
        assert info["srdft_error"] == pytest.approx(certificate.error, rel=1e-6)
        assert info["srdft_path"] == "corrected"
        assert info["srdft_start_error"] == pytest.approx(certificate.start_error, rel=1e-6)
        builds = info["srdft_builds"], info["srdft_coarse_builds"]
        assert builds == (certificate.builds, certificate.coarse_builds)
        assert info["srdft_level"] == certificate.level == str(water.calc._runner.model.level)
    with ase.db.connect(tmp_path / "water.db") as database:
        database.write(water, **certificate.key_values())
        row = database.get(srdft_path="corrected")
    assert row.srdft_error == pytest.approx(certificate.error)
    assert row.srdft_force_error == pytest.approx(certificate.force_error)


def test_each_atoms_has_its_own(water):
    other = water.copy()
    other.positions[1] += 0.4
    water.calc.get_potential_energy(water)
    water.calc.get_potential_energy(other)
    assert water.info["srdft_error"] != other.info["srdft_error"]
    assert water.calc.certificate.error == other.info["srdft_error"]


def test_a_copy_in_another_process_keeps_the_promise(water):
    water.calc.set(max_error=1e-5)
    again = pickle.loads(pickle.dumps(water.calc))
    other = water.copy()
    assert again.get_potential_energy(other) == pytest.approx(
        water.get_potential_energy(), abs=1e-9
    )
    assert again.certificate.error < 1e-5


def test_it_reads_well(water):
    water.get_potential_energy()
    text = str(water.calc.certificate)
    assert text.startswith("LDA/sto-3g")
    assert "corrected (untrained v0, " in text


def test_another_molecule_than_the_models_is_as_good():
    atoms = molecule("CO2")
    atoms.calc = SRDFTCalculator("ethanol-pbe-6-31g", grid_level=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        energy = atoms.get_potential_energy()
    own = SRDFTCalculator("untrained", xc="PBE", basis="6-31g", grid_level=0)
    assert energy == pytest.approx(own.get_potential_energy(atoms), abs=1e-3)
    assert atoms.calc.certificate.start in ("damped", "guess")


def test_its_error_is_in_electron_volts():
    atoms = molecule("H2O")
    calc = SRDFTCalculator("untrained", xc="PBE", basis="6-31g", grid_level=0, max_error=None)
    calc.get_potential_energy(atoms)
    state = calc.electronic_state
    width = 27.211386 * (state.energy - state.energy_lower)
    assert calc.certificate.error == pytest.approx(width, rel=1e-6)


def test_forces_of_a_models_own_state_are_not_called_those_of_the_scf(water):
    water.get_forces()
    assert "srdft_force_error" in water.info
    assert "forces within" in str(water.calc.certificate)
    water.calc.set(max_error=None)
    water.get_forces()
    assert "srdft_force_error" not in water.info
    assert "forces the derivative of this energy" in str(water.calc.certificate)


@pytest.mark.parametrize("name", ["ion.extxyz", "ion.traj"])
def test_a_file_tells_of_the_charge_that_was_given(name, tmp_path):
    atoms = molecule("NH3")
    atoms.calc = SRDFTCalculator("untrained", **LEVEL, charge=2)
    energy = atoms.get_potential_energy()
    write(tmp_path / name, atoms)
    found = read(tmp_path / name).copy()
    found.calc = SRDFTCalculator("untrained", **LEVEL)
    with pytest.raises(InputError, match="srdft_charge"):
        found.get_potential_energy()
    found.calc.set(charge=2)
    assert found.get_potential_energy() == pytest.approx(energy, abs=1e-6)
    found.calc.set(charge=0)
    assert abs(found.get_potential_energy() - energy) > 1.0
    assert "srdft_charge" not in found.info
