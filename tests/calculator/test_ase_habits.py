"""What users of ASE take for granted: names, charges and moments, files, tools of ASE's."""

import io
import json

import ase.db
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import InputError, external_calculators, get_calculator_class, names
from ase.calculators.singlepoint import SinglePointCalculator
from ase.cli.main import main as ase_command
from ase.constraints import FixAtoms
from ase.dft.bandgap import bandgap
from ase.io import read, write
from ase.md import MDLogger
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.vibrations import Infrared
from pyscf.scf.hf import mulliken_pop

from ase_srdft import SRDFTCalculator
from ase_srdft.calculator.ase_names import _Lazily, register, register_lazily
from ase_srdft.calculator.ase_plugins import __ase_plugins__
from ase_srdft.dft.dipole_moment import _template
from ase_srdft.models.model_file import load_model, model_checksum, save_model
from tests.tools.small_models import potential_model, small_model

LEVEL = {"xc": "LDA", "basis": "sto-3g", "grid_level": 0}


@pytest.fixture
def calc():
    return SRDFTCalculator(**LEVEL)


@pytest.fixture
def atoms(calc):
    water = molecule("H2O")
    water.rattle(0.05, seed=1)
    water.calc = calc
    return water


# what it is called, and what it says of itself


def test_ase_finds_it_by_name():
    assert get_calculator_class("srdft") is SRDFTCalculator
    assert "srdft" in names
    (plugin,) = __ase_plugins__
    assert plugin.name == "srdft"
    assert plugin.implementation is SRDFTCalculator


def test_what_stands_for_it_until_it_is_imported(monkeypatch):
    monkeypatch.setitem(external_calculators, "srdft", _Lazily)
    calc = get_calculator_class("srdft")(**LEVEL)
    assert type(calc) is SRDFTCalculator
    assert calc.parameters["basis"] == "sto-3g"
    register_lazily()
    assert external_calculators["srdft"] is _Lazily
    assert register(SRDFTCalculator) is get_calculator_class("srdft") is SRDFTCalculator


def test_it_says_in_one_line_what_it_is(calc):
    level = "LDA/sto-3g (def2-universal-jfit, grid level 0)"
    promise = "max_error=0.001 eV, max_force_error=0.005 eV/Å"
    assert repr(calc) == f"SRDFTCalculator('organics', {level}, {promise})"
    calc.set(on_uncertain="warn")
    assert repr(calc).endswith("max_error=0.001 eV, on_uncertain='warn')")
    assert repr(SRDFTCalculator("water-pbe-6-31g", max_error=None)) == (
        "SRDFTCalculator('water-pbe-6-31g', PBE/6-31g (def2-universal-jfit, grid level 2), "
        "max_error=None)"
    )


def test_files_know_level_and_model(atoms, tmp_path):
    path = tmp_path / "water.srdft"
    save_model(path, small_model(), {})
    atoms.calc = calc = SRDFTCalculator(path, grid_level=None, max_error=None)
    atoms.get_potential_energy()
    write(tmp_path / "a.traj", atoms)
    parameters = read(tmp_path / "a.traj").calc.parameters
    assert parameters["level"] == str(load_model(path).model.level)
    assert parameters["model_sha256"] == model_checksum(small_model())
    assert SRDFTCalculator.fromdict(parameters).todict() == calc.todict()
    calc.update_model(small_model(seed=1))
    assert calc.todict()["model_sha256"] == model_checksum(small_model(seed=1))
    save_model(path, small_model(seed=1), {})
    with pytest.raises(InputError, match="leave out model_sha256"):
        SRDFTCalculator.fromdict(parameters)
    del parameters["model_sha256"]
    assert SRDFTCalculator.fromdict(json.loads(json.dumps(parameters))).get_property(
        "energy", atoms
    )


def test_a_checksum_is_of_weights_and_not_of_the_level_asked_at(tmp_path):
    model = potential_model()
    at_another = SRDFTCalculator(model, xc="PBE0").model_for(molecule("H2O"))
    assert at_another.level.xc == "PBE0"
    save_model(tmp_path / "a.srdft", at_another, {})
    once = model_checksum(load_model(tmp_path / "a.srdft").model)
    assert once == model_checksum(at_another) == model_checksum(model)
    assert once != model_checksum(potential_model(seed=1))


# charges and moments


def test_charges_are_mullikens_and_moments_zero(atoms):
    charges = atoms.get_charges()
    state = atoms.calc.electronic_state
    mol = _template((8, 1, 1), "sto-3g").copy()
    _, expected = mulliken_pop(mol, state.density_matrix, state.overlap, verbose=0)
    np.testing.assert_allclose(charges, expected, atol=1e-9)
    loewdin = atoms.calc.get_loewdin_charges()
    assert -0.5 < charges[0] < loewdin[0] - 0.05 < -0.1
    assert charges.sum() == pytest.approx(0.0, abs=1e-9)
    assert loewdin.sum() == pytest.approx(0.0, abs=1e-9)
    assert atoms.get_magnetic_moment() == 0.0
    assert atoms.get_magnetic_moments().tolist() == [0.0, 0.0, 0.0]


def test_charges_of_an_ion_add_up_to_its_own(calc):
    hydroxide = molecule("OH")
    hydroxide.set_initial_magnetic_moments([0.0, 0.0])
    hydroxide.set_initial_charges([-1.0, 0.0])
    assert calc.get_charges(hydroxide).sum() == pytest.approx(-1.0)
    assert calc.get_loewdin_charges().sum() == pytest.approx(-1.0)


# with tools of ASE's


def test_results_fit_into_a_single_point_calculator(atoms):
    atoms.get_forces()
    kept = atoms.copy()
    kept.calc = SinglePointCalculator(kept, **atoms.calc.results)
    assert kept.get_potential_energy() == atoms.get_potential_energy()
    assert kept.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_array_equal(kept.get_charges(), atoms.get_charges())
    assert kept.get_magnetic_moment() == 0.0


def test_files_keep_everything(atoms, tmp_path):
    atoms.get_forces()
    write(tmp_path / "a.traj", atoms)
    write(tmp_path / "a.xyz", atoms)
    for name in ("a.traj", "a.xyz"):
        again = read(tmp_path / name)
        np.testing.assert_allclose(again.get_charges(), atoms.get_charges(), atol=1e-7)
        np.testing.assert_allclose(again.get_forces(), atoms.get_forces(), atol=1e-7)
        assert again.info["srdft_path"] == "corrected"
    with ase.db.connect(tmp_path / "a.db") as database:
        row = database.get(database.write(atoms, **atoms.calc.certificate.key_values()))
    np.testing.assert_array_equal(row.charges, atoms.get_charges())
    assert row.srdft_error == atoms.info["srdft_error"]
    assert row.calculator_parameters["level"].startswith("LDA/sto-3g")


def test_a_frame_without_results_has_no_certificate(atoms, tmp_path):
    atoms.get_potential_energy()
    atoms.info["mine"] = 1
    atoms.positions[1] += 0.1
    write(tmp_path / "a.traj", atoms)
    assert read(tmp_path / "a.traj").info == {"mine": 1}


@pytest.mark.parametrize("optimiser", [BFGS, FIRE])
def test_optimisers(optimiser, atoms):
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_distance(0, 1, 1.2, fix=0)
    before = atoms.get_potential_energy()
    optimiser(atoms, logfile=None).run(fmax=0.1, steps=3)
    assert atoms.get_potential_energy() < before - 0.1
    assert atoms.calc.certificate.error < 1e-3


def test_a_band(calc):
    images = [molecule("H2O") for _ in range(3)]
    for image, angle in zip(images, (104.0, 110.0, 120.0), strict=True):
        image.set_angle(1, 0, 2, angle)
        image.calc = calc
    band = NEB(images, method="improvedtangent", allow_shared_calculator=True)
    assert abs(band.get_forces()).max() > 0.1


def test_vibrations_and_their_intensities(calc, tmp_path):
    atoms = Atoms("FH", [[0, 0, 0], [0, 0, 0.975]])
    atoms.calc = calc
    vibrations = Infrared(atoms, name=str(tmp_path / "vibrations"), indices=[1])
    vibrations.run()
    vibrations.summary(log=io.StringIO())
    assert 3000 < vibrations.get_frequencies().real.max() < 4500  # /cm
    assert vibrations.intensities[-1] > 1e-3


def test_dynamics_of_ase_and_its_log(atoms):
    log = io.StringIO()
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    dynamics.attach(MDLogger(dynamics, atoms, log))
    dynamics.run(2)
    assert len(log.getvalue().splitlines()) == 4


def test_electrons_by_ases_methods(atoms):
    atoms.get_potential_energy()
    homo, lumo = atoms.calc.get_homo_lumo()
    gap, _, _ = bandgap(atoms.calc, output=None)
    assert gap == pytest.approx(lumo - homo)
    assert homo < atoms.calc.get_fermi_level() < lumo


def test_the_command_ase_run(tmp_path):
    write(tmp_path / "water.xyz", molecule("H2O"))
    parameters = "xc=LDA,basis=sto-3g,grid_level=0,max_error=1e-4"
    out = tmp_path / "out.xyz"  # a .traj of "ase run" is empty, with any calculator
    ase_command(
        args=["run", "srdft", str(tmp_path / "water.xyz"), "-p", parameters, "-o", str(out)]
    )
    found = read(out)
    assert found.get_potential_energy() < -1900.0
    assert abs(found.get_forces()).max() > 0.1
    assert found.get_magnetic_moment() == 0.0
    assert found.info["srdft_error"] < 1e-4
