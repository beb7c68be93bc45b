"""The calculator: numbers and units, the cache, what ASE does with it, and what it refuses."""

import copy
import functools
import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import (
    CalculationFailed,
    InputError,
    PropertyNotImplementedError,
    PropertyNotPresent,
)
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms
from ase.dft.bandgap import bandgap
from ase.io import Trajectory, read
from ase.mep import NEB
from ase.optimize import BFGS
from ase.vibrations import Vibrations
from pyscf import gto, lib
from pyscf.scf.hf import dip_moment

from ase_srdft import SRDFTCalculator, model_card
from ase_srdft.calculator import model_runner
from ase_srdft.dft.kernels import library
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.certified_single_point import open_certified_single_point
from ase_srdft.models.model_file import save_model
from ase_srdft.models.single_point import single_point
from tests.tools.counted_evaluations import counted
from tests.tools.small_models import LEVEL, small_model, water


@pytest.fixture(scope="session")
def model():
    return small_model()


@pytest.fixture(scope="session")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "water.srdft"
    save_model(path, model, {})
    return path


@pytest.fixture
def calc(model):
    return SRDFTCalculator(model, grid_level=None, max_error=None)


@pytest.fixture
def atoms(calc):
    atoms = water()
    atoms.calc = calc
    return atoms


# numbers


def test_results_are_the_models_in_units_of_ase(atoms, model):
    numbers = tuple(atoms.numbers.tolist())
    positions = torch.tensor(atoms.positions / units.Bohr)[None]
    direct = single_point(model.double(), Molecule(numbers=numbers, level=model.level), positions)
    forces = direct.forces[0].numpy() * units.Hartree / units.Bohr
    assert abs(forces).max() > 0.1
    assert atoms.get_potential_energy() == pytest.approx(float(direct.energy) * units.Hartree)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-11)


def test_forces_are_the_derivative_of_the_energy(atoms):
    forces = atoms.get_forces()
    assert abs(forces).max() > 0.1
    step, start = 1.0e-3, atoms.positions.copy()
    for atom, axis in [(0, 1), (0, 2), (1, 1), (1, 2)]:
        energies = {}
        for k in (-2, -1, 1, 2):
            atoms.positions = start
            atoms.positions[atom, axis] += k * step
            energies[k] = atoms.get_potential_energy()
        slope = (8.0 * (energies[1] - energies[-1]) - (energies[2] - energies[-2])) / (12.0 * step)
        assert abs(slope) > 0.01
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-5)


def test_dipole_is_that_of_pyscf(atoms, calc):
    dipole = atoms.get_dipole_moment()
    mol = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions / units.Bohr, strict=True)),
        basis="sto-3g",
        unit="Bohr",
    )
    expected = dip_moment(mol, calc.electronic_state.density_matrix, unit="AU", verbose=0)
    assert np.linalg.norm(expected) > 0.1
    np.testing.assert_allclose(dipole, expected * units.Bohr, atol=1e-12)
    # towards the hydrogens, which lie below the oxygen
    assert dipole[2] < 0.0
    atoms.positions += 17.0
    np.testing.assert_allclose(atoms.get_dipole_moment(), dipole, atol=1e-8)


def test_dipole_of_an_ion_is_about_its_centre_of_mass(atoms):
    ion = small_model(elements=(1, 8), charge=-1)
    hydroxide = Atoms(
        "OH",
        [[0, 0, 0], [0, 0, 0.97]],
        calculator=SRDFTCalculator(ion, charge=-1, grid_level=None, max_error=None),
    )
    dipole = hydroxide.get_dipole_moment()
    assert abs(dipole[2]) > 0.1
    hydroxide.positions += [5.0, -3.0, 8.0]
    np.testing.assert_allclose(hydroxide.get_dipole_moment(), dipole, atol=1e-8)


def test_bracket_holds_the_scf_energy(atoms, calc):
    molecule = Molecule(numbers=(8, 1, 1), level=calc.model_for(atoms).level)
    energy = reference_scf(molecule, atoms.positions / units.Bohr).energy * units.Hartree
    atoms.get_potential_energy()
    lower, upper = calc.energy_bracket
    assert type(lower) is type(upper) is float
    assert upper == atoms.get_potential_energy()
    assert upper - lower > 0.01
    assert lower < energy < upper


def test_electronic_state(atoms, calc):
    atoms.get_potential_energy()
    state = calc.electronic_state
    assert (state.nao, state.nocc) == (7, 5)
    assert np.trace(state.density_matrix @ state.overlap) == pytest.approx(10.0)
    orbitals, energies = state.mo_coeff, state.mo_energy
    np.testing.assert_allclose(orbitals.T @ state.overlap @ orbitals, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(orbitals.T @ state.fock @ orbitals, np.diag(energies), atol=1e-10)
    assert state.mo_occ.tolist() == [2.0] * 5 + [0.0] * 2
    aufbau = orbitals * state.mo_occ @ orbitals.T
    assert 1e-3 < abs(aufbau - state.density_matrix).max() < 1.0


def test_ases_methods_for_electrons(atoms, calc):
    atoms.get_potential_energy()
    energies = calc.electronic_state.mo_energy * units.Hartree
    np.testing.assert_allclose(calc.get_eigenvalues(kpt=0, spin=0), energies)
    assert calc.get_occupation_numbers(kpt=0, spin=0).sum() == 10.0
    assert calc.get_homo_lumo() == pytest.approx(tuple(energies[4:6]))
    assert calc.get_fermi_level() == pytest.approx(energies[4:6].mean())
    assert (calc.get_number_of_spins(), calc.get_spin_polarized()) == (1, False)
    assert calc.get_number_of_bands() == 7
    assert calc.get_ibz_k_points().tolist() == [[0.0, 0.0, 0.0]]
    assert calc.get_k_point_weights().tolist() == [1.0]
    assert bandgap(calc)[0] == pytest.approx(energies[5] - energies[4])


def test_no_lumo():
    atoms = Atoms("He2", [[0, 0, 0], [0, 0, 1.5]])
    atoms.calc = SRDFTCalculator(small_model(elements=(2,)), grid_level=None, max_error=None)
    assert atoms.get_potential_energy() < -140.0
    assert atoms.calc.get_fermi_level() < 0.0
    assert atoms.calc.electronic_state.lumo is None
    with pytest.raises(PropertyNotPresent, match="no LUMO"):
        atoms.calc.get_homo_lumo()


# the cache


def test_forces_are_computed_only_when_asked_for(atoms, calc, monkeypatch):
    calls = counted(monkeypatch)
    energy = atoms.get_potential_energy()
    atoms.get_dipole_moment()
    _ = calc.energy_bracket, calc.electronic_state, calc.get_eigenvalues()
    assert calls == [False]
    atoms.get_forces()
    atoms.get_forces()
    assert atoms.get_potential_energy() == energy
    assert calls == [False, True]


def test_results_have_plain_types_and_names_of_ase(atoms, calc):
    atoms.get_forces()
    assert set(calc.results) == set(SRDFTCalculator.implemented_properties)
    assert type(calc.results["energy"]) is type(calc.results["free_energy"]) is float
    assert calc.results["forces"].shape == (3, 3)
    assert calc.results["dipole"].shape == (3,)
    assert calc.results["forces"].dtype == calc.results["dipole"].dtype == np.float64
    assert calc.export_properties()["natoms"] == 3
    atoms.get_forces()[:] = 0.0
    assert abs(atoms.get_forces()).max() > 0.1


def test_two_atoms_share_a_calculator(calc):
    near, far = water(), water(0.1)
    near.calc = far.calc = calc
    energies = [near.get_potential_energy(), far.get_potential_energy()]
    assert abs(energies[0] - energies[1]) > 0.01
    for _ in range(2):
        assert [near.get_potential_energy(), far.get_potential_energy()] == energies
        assert abs(near.get_forces() - far.get_forces()).max() > 0.01
    assert calc.energy_bracket[1] == energies[1]


def test_one_model_answers_for_several_molecules(calc):
    peroxide = molecule("H2O2")
    peroxide.calc = calc
    pair = [peroxide.get_potential_energy(), calc.get_potential_energy(water())]
    assert pair[0] < pair[1] - 1000.0
    assert peroxide.get_forces().shape == (4, 3)


def test_charges_and_moments_invalidate(atoms):
    atoms.get_potential_energy()
    atoms.set_initial_charges([1.0, 0.0, 0.0])
    with pytest.raises(InputError, match="total charge of 1"):
        atoms.get_potential_energy()
    atoms.set_initial_charges([-0.8, 0.4, 0.4])
    atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments([1.0, 0.0, 0.0])
    with pytest.raises(InputError, match="multiplicity of 2"):
        atoms.get_potential_energy()
    with pytest.raises(InputError, match="multiplicity of 2"):
        _ = atoms.calc.energy_bracket


@pytest.mark.parametrize(
    ("key", "value"), [("charge", 1), ("total_charge", -1), ("spin", 3), ("charge", "0")]
)
def test_a_charge_or_spin_in_info_invalidates(key, value, atoms, calc, monkeypatch):
    energy = atoms.get_potential_energy()
    atoms.info[key] = value  # ASE itself compares arrays only
    batch = functools.partial(calc.evaluate_batch, [atoms])
    for ask in (atoms.get_potential_energy, atoms.get_forces, batch):
        with pytest.raises(InputError, match=r"charge|spin"):
            ask()
    atoms.info[key] = 0
    calls = counted(monkeypatch)
    assert atoms.get_potential_energy() == energy
    assert atoms.get_potential_energy() == energy
    atoms.info["note"] = "of no matter"
    assert atoms.get_potential_energy() == energy
    assert not calls  # the answer is remembered


def test_failed_evaluations_leave_nothing_behind(atoms, calc):
    energy = atoms.get_potential_energy()
    atoms.positions[1] = atoms.positions[0]
    for _ in range(2):
        with pytest.raises(CalculationFailed, match=r"0\.000 Angstrom apart"):
            atoms.get_potential_energy()
    assert calc.results == {}
    atoms.positions = water().positions
    assert atoms.get_potential_energy() == energy


def test_nothing_to_tell_before_the_first_geometry(calc):
    with pytest.raises(PropertyNotPresent, match="get_potential_energy"):
        _ = calc.energy_bracket
    with pytest.raises(PropertyNotPresent, match="get_potential_energy"):
        calc.get_eigenvalues()


def test_batches_equal_single_evaluations(calc, atoms):
    images = [water(0.05 * i) for i in range(3)] + [molecule("H2O2"), water(0.2)]
    energy = atoms.get_potential_energy()
    for results, image in zip(calc.evaluate_batch(images, batch_size=2), images, strict=True):
        image.calc = SRDFTCalculator(calc.model_for(image), grid_level=None, max_error=None)
        assert results["energy"] == pytest.approx(image.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(results["forces"], image.get_forces(), atol=1e-9)
        worth, alone = results["certificate"], image.calc.certificate
        assert worth.error == pytest.approx(alone.error, abs=1e-9)
        assert replace(worth, error=0, start_error=0) == replace(alone, error=0, start_error=0)
        assert results.copy().certificate is results.get("certificate") is worth
    without = set(calc.evaluate_batch(images[:1], forces=False)[0])
    assert without == set(SRDFTCalculator.implemented_properties) - {"forces"}
    assert calc.evaluate_batch([]) == []
    assert atoms.get_potential_energy() == energy
    with pytest.raises(InputError, match="batch_size 0"):
        calc.evaluate_batch(images, batch_size=0)


# the model behind it


def test_new_weights_never_mix_with_old_ones(atoms, calc):
    other = small_model(seed=1)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    assert calc.model_version == 0
    calc.update_model(other)
    assert calc.model_version == 1
    assert calc.results == {}
    _, upper = calc.energy_bracket
    assert abs(upper - energy) > 1e-3
    assert atoms.get_potential_energy() == upper
    assert abs(atoms.get_forces() - forces).max() > 1e-3
    fresh = water()
    fresh.calc = SRDFTCalculator(other, grid_level=None, max_error=None)
    assert fresh.get_potential_energy() == upper


def test_training_a_model_does_not_touch_the_calculators_copy(atoms):
    model = small_model()
    atoms.calc = SRDFTCalculator(model, grid_level=None, max_error=None)
    energy = atoms.get_potential_energy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert model.training
    assert atoms.calc.evaluate_batch([atoms])[0]["energy"] == energy
    atoms.calc.update_model(model)
    assert atoms.get_potential_energy() != energy


def test_updating_to_another_architecture(atoms, calc, model_file):
    atoms.get_potential_energy()
    calc.update_model(small_model(elements=(1, 6, 8)))
    assert molecule("CH3OH").get_chemical_symbols() == ["C", "O", "H", "H", "H", "H"]
    assert calc.get_potential_energy(molecule("CH3OH")) < -3000.0
    with pytest.raises(InputError, match="LDA"):
        calc.update_model(small_model(xc="LDA"))
    named = SRDFTCalculator(model_file, grid_level=None, max_error=None)
    named.update_model(small_model(seed=1))
    assert "in memory" in named.todict()["model"]


def test_an_untrained_model(atoms):
    state = torch.random.get_rng_state()
    atoms.calc = SRDFTCalculator("untrained", **LEVEL, grid_level=None, max_error=None)
    energy = atoms.get_potential_energy()
    assert torch.equal(torch.random.get_rng_state(), state)
    lower, upper = atoms.calc.energy_bracket
    assert lower < energy - 0.1
    assert upper == energy
    assert atoms.calc.model_for(atoms).elements == (1, 8)
    with pytest.raises(InputError, match="does not know C"):
        atoms.calc.get_potential_energy(molecule("CH4"))
    atoms.calc.set(xc="LDA")
    assert abs(atoms.get_potential_energy() - energy) > 1.0
    default = SRDFTCalculator("untrained", max_error=None).model_for(atoms).level
    assert (default.basis, default.grid_level) == ("def2-svp", 2)


def test_without_a_name_it_is_the_general_model(atoms):
    expected = SRDFTCalculator("organics", **LEVEL, max_error=None).get_potential_energy(atoms)
    for nameless in (SRDFTCalculator(**LEVEL), SRDFTCalculator(model=None, **LEVEL)):
        nameless.set(max_error=None)
        assert nameless.get_potential_energy(atoms) == expected
        assert nameless.certificate.model == nameless.parameters["model"] == "organics"
        assert nameless.certificate.error < 0.5
    assert "H, C, N, O, F, S and Cl" in model_card("organics").scope


def test_named_and_given_models_agree(atoms, model_file):
    energy = atoms.get_potential_energy()
    for name in (model_file, str(model_file)):
        atoms.calc = SRDFTCalculator(name, **LEVEL, grid_level=None, max_error=None)
        assert atoms.get_potential_energy() == energy


# parameters


def test_parameters_make_the_round_trip(model_file, atoms):
    calc = SRDFTCalculator(model_file, charge=0, max_error=None)
    written = calc.todict()
    assert {name: written.pop(name) for name in ("model", "charge", "max_error")} == {
        "model": str(model_file),
        "charge": 0,
        "max_error": None,
    }
    assert set(written) == {"level", "model_sha256"}
    everything = set(calc.todict(skip_default=False))
    assert everything == {*SRDFTCalculator.default_parameters, *written}
    again = SRDFTCalculator.fromdict(json.loads(json.dumps(calc.todict())))
    assert again.parameters == calc.parameters
    assert again.get_potential_energy(atoms) == calc.get_potential_energy(atoms)
    assert json.dumps(SRDFTCalculator.default_parameters)


def test_a_model_in_memory_is_not_restored_from_a_dictionary(calc):
    parameters = json.loads(json.dumps(calc.todict()))
    model = "<fock PBE/sto-3g model in memory>"
    assert {k: parameters[k] for k in ("model", "max_error")} == {"model": model, "max_error": None}
    with pytest.raises(InputError, match="save_model"):
        SRDFTCalculator.fromdict(parameters)


def test_set_returns_what_changed_and_forgets_results(atoms, model_file):
    calc = atoms.calc = SRDFTCalculator(model_file, grid_level=None, max_error=None)
    atoms.get_potential_energy()
    assert calc.set(charge=None, device="cpu") == {}
    assert calc.results
    assert calc.set(charge=0) == {"charge": 0}
    assert calc.results == {}
    assert calc.model_version == 0
    calc.set(model=str(model_file))
    assert calc.model_version == 1
    energy = atoms.get_potential_energy()
    with pytest.raises(InputError):
        calc.set(charge=0, model="nothing-of-this-name")
    assert calc.parameters["model"] == str(model_file)
    assert atoms.get_potential_energy() == energy


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "no-such-model"}, "no model 'no-such-model'"),
        ({"xc": "LDA"}, "xc='LDA' is not the level of theory of the model, PBE/sto-3g"),
        ({"basis": "6-31g"}, "not the level of theory"),
        ({"density_fitting": False}, "not the level of theory"),
        ({"charge": 2}, "charge=2, but the model was trained for molecules of charge 0"),
        ({"charge": 0.5}, r"charge 0\.5: use a whole number"),
        ({"charge": float("nan")}, "charge nan: use a whole number"),
        ({"multiplicity": 3}, "multiplicity 3: closed shells only"),
        ({"threads": 0}, "threads 0: use a whole number of at least 1"),
        ({"threads": 1.5}, r"threads 1\.5: use a whole number"),
        ({"threads": None}, "threads None: use a whole number"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"device": "meta"}, "device 'meta'"),
        ({"model": None, "xc": "nonsense"}, "unknown xc 'nonsense'"),
        ({"kpts": 3}, "unknown parameter 'kpts': use one of model, charge"),
    ],
)
def test_refused_parameters(parameters, message, calc):
    before = dict(calc.parameters)
    with pytest.raises(InputError, match=message) as caught:
        calc.set(**parameters)
    assert "\n" not in str(caught.value)
    assert calc.parameters == before


# atoms


def with_charges(charges):
    atoms = water()
    atoms.set_initial_charges(charges)
    return atoms


def water_of(**info):
    atoms = water()
    atoms.info.update(info)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "no atoms"),
        (molecule("CH4"), "does not know C: it knows H, O"),
        (Atoms("H2O", molecule("H2O").positions, pbc=True), "pbc = "),
        (Atoms("XO", [[0, 0, 0], [0, 0, 2.0]]), "atomic number 0"),
        (Atoms("HOO", molecule("H2O").positions), "open shell"),
        (molecule("OH"), "multiplicity of 2"),
        (with_charges([-1.0, 0.0, 0.0]), "total charge of -1, but the model was trained"),
        (with_charges([0.3, 0.1, 0.1]), r"sum to 0\.5: make it a whole number"),
        (with_charges([np.nan, 0.0, 0.0]), "sum to nan"),
        (water_of(charge=-2), "total charge of -2, but the model was trained"),
        (water_of(charge=1, spin=3), "'spin'. is 3.*open shells are not supported"),
        (water_of(charge="-2"), "use a whole number"),
    ],
)
def test_refused_atoms(atoms, message, calc):
    with pytest.raises(InputError, match=message):
        calc.get_potential_energy(atoms)


def test_contradicting_charges(model):
    calc = SRDFTCalculator(model, charge=0, grid_level=None, max_error=None)
    with pytest.raises(InputError, match="charge=0, but the atoms' initial charges sum to 1"):
        calc.get_potential_energy(with_charges([1.0, 0.0, 0.0]))
    assert calc.get_potential_energy(with_charges([-0.6, 0.3, 0.3])) < -2000.0


def test_a_charge_in_info_is_used_like_initial_charges():
    ions = [molecule("OH"), molecule("OH")]
    for ion in ions:
        ion.set_initial_magnetic_moments(None)
    ions[0].info["charge"] = -1
    ions[1].set_initial_charges([-1.0, 0.0])
    energies = []
    for ion in ions:
        ion.calc = SRDFTCalculator("untrained", **LEVEL, grid_level=None, max_error=None)
        energies.append(ion.get_potential_energy())
        assert ion.calc.model_for(ion).level.charge == -1
    assert energies[0] == energies[1] < -1000.0
    anion = SRDFTCalculator(
        small_model(elements=(1, 8), charge=-1), grid_level=None, max_error=None
    )
    assert anion.evaluate_batch(ions)[0]["energy"] < -1000.0
    ions[0].info["charge"] = 1
    with pytest.raises(InputError, match="total charge of 1"):
        anion.evaluate_batch(ions)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_not_finite(value, atoms):
    atoms.positions[2, 1] = value
    with pytest.raises(CalculationFailed, match="finite"):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("atoms", "level", "message"),
    [
        (Atoms("XO", [[0, 0, 0], [0, 0, 2.0]]), {}, "atomic number 0"),
        (Atoms("U"), {}, "H to Kr"),
        (water(), {"basis": "no-such-basis"}, "no-such-basis"),
        (water(), {"density_fitting": "no-such-fit"}, "no-such-fit"),
        (Atoms("Li", charges=[0.0]), {}, "open shell"),
    ],
)
def test_refused_by_an_untrained_model(atoms, level, message):
    with pytest.raises(InputError, match=message):
        SRDFTCalculator(
            "untrained", **(LEVEL | level), grid_level=None, max_error=None
        ).get_potential_energy(atoms)


def test_the_nuclei_that_a_calculator_is_asked_about(atoms, calc):
    nuclei = calc.nuclei_for(atoms)
    assert (nuclei.numbers, nuclei.charge) == ((8, 1, 1), 0)
    np.testing.assert_array_equal(nuclei.positions, atoms.positions / units.Bohr)
    with pytest.raises(CalculationFailed):
        calc.nuclei_for(Atoms("HF"))
    with pytest.raises(InputError):  # the charge is wrong before the positions are
        SRDFTCalculator(charge=0, grid_level=None, max_error=None).nuclei_for(
            Atoms("HF", charges=[1, 0])
        )


def test_stress_and_the_like_are_not_implemented(atoms):
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        atoms.calc.get_property("polarization", atoms)


# with the rest of ASE


def test_copies_carry_the_model_and_go_their_own_way(atoms, calc):
    energy = atoms.get_potential_energy()
    for copied in (copy.deepcopy(calc), pickle.loads(pickle.dumps(calc))):
        assert copied.results["energy"] == energy
        assert copied.energy_bracket == calc.energy_bracket
        np.testing.assert_array_equal(copied.get_forces(atoms), calc.get_forces(atoms))
        copied.update_model(small_model(seed=1))
        assert abs(copied.get_potential_energy(atoms) - energy) > 1e-3
        assert atoms.get_potential_energy() == energy
    assert copy.deepcopy(atoms).get_potential_energy() == energy


@pytest.mark.slow
def test_spawned_processes(model_file):
    atoms = water()
    atoms.calc = SRDFTCalculator(model_file, grid_level=None, max_error=None)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(Atoms.get_potential_energy, (atoms,)).get(timeout=120)
    assert found == atoms.get_potential_energy()


def test_optimisation_with_a_fixed_atom_and_a_trajectory(atoms, tmp_path):
    atoms.set_constraint(FixAtoms([0]))
    start, energy = atoms.positions[0].copy(), atoms.get_potential_energy()
    with BFGS(atoms, logfile=None, trajectory=tmp_path / "run.traj") as optimiser:
        assert optimiser.run(fmax=0.05, steps=40)
    assert atoms.get_potential_energy() < energy - 0.01
    np.testing.assert_array_equal(atoms.positions[0], start)
    last = read(tmp_path / "run.traj", -1)
    assert last.get_potential_energy() == atoms.get_potential_energy()
    np.testing.assert_allclose(last.get_forces(), atoms.get_forces())
    np.testing.assert_allclose(last.calc.results["dipole"], atoms.get_dipole_moment())
    assert last.calc.name == "srdft"
    assert last.calc.parameters == atoms.calc.todict()


def test_databases(atoms, tmp_path):
    atoms.get_forces()
    with ase.db.connect(tmp_path / "a.db") as database:
        row = database.get(database.write(atoms))
    assert row.energy == atoms.get_potential_energy()
    assert row.calculator == "srdft"
    assert row.calculator_parameters == atoms.calc.todict()
    with Trajectory(tmp_path / "a.traj", "w", properties=["energy", "forces"]) as trajectory:
        trajectory.write(atoms)


def test_sums(atoms, calc):
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SumCalculator(
        [calc, SRDFTCalculator(small_model(seed=1), grid_level=None, max_error=None)]
    )
    assert atoms.get_potential_energy() < 1.9 * energy
    assert abs(atoms.get_forces() - 2.0 * forces).max() > 1e-3


def test_bands_share_a_calculator(calc):
    images = [water(shift) for shift in (0.0, 0.1, 0.2)]
    for image in images:
        image.calc = calc
    band = NEB(images, method="improvedtangent", allow_shared_calculator=True)
    assert abs(band.get_forces()).max() > 0.01


def test_vibrations(atoms, calc, tmp_path):
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=60)
    vibrations = Vibrations(atoms, name=str(tmp_path / "vib"))
    vibrations.run()
    frequencies = vibrations.get_frequencies()
    assert (frequencies.real > 1000.0).sum() == 3


def test_torch_and_pyscf_compute_in_one_thread_and_have_theirs_back(monkeypatch):
    seen = []

    def opened(*arguments):
        seen.append((library.thread_count(), torch.get_num_threads(), lib.num_threads()))
        return open_certified_single_point(*arguments)

    monkeypatch.setattr(model_runner, "open_certified_single_point", opened)
    before = torch.get_num_threads(), lib.num_threads()
    torch.set_num_threads(2)
    lib.num_threads(2)
    try:
        atoms = molecule("H2O")
        atoms.calc = SRDFTCalculator("untrained", xc="LDA", basis="sto-3g", threads=2)
        atoms.get_potential_energy()
        assert (torch.get_num_threads(), lib.num_threads()) == (2, 2)
    finally:
        torch.set_num_threads(before[0])
        lib.num_threads(before[1])
    inside = 2 if library.loaded() is None else 1
    assert seen == [(2, inside, inside)]


def test_threads_that_share_a_calculator_get_answers_of_their_own():
    shared = SRDFTCalculator("untrained", xc="LDA", basis="sto-3g", grid_level=0)
    images = [molecule("H2O") for _ in range(16)]
    for seed, image in enumerate(images):
        image.rattle(0.05, seed=seed)
    expected = [(results["energy"], results["forces"]) for results in shared.evaluate_batch(images)]
    for image in images:
        image.calc = shared
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda a: (a.get_potential_energy(), a.get_forces()), images))
    for (energy, forces), (own, others) in zip(expected, found, strict=True):
        assert own == pytest.approx(energy, abs=1e-8)
        np.testing.assert_allclose(others, forces, atol=1e-6)
