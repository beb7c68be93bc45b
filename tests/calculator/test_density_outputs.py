"""What the calculator tells of the electrons in space, against PySCF, and its files."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import InputError, PropertyNotPresent
from ase.io.cube import read_cube
from ase.units import Bohr, Debye, Hartree
from pyscf import dft
from pyscf.tools import molden

from ase_srdft import SRDFTCalculator

LEVEL = {"model": "untrained", "xc": "LDA", "basis": "sto-3g", "grid_level": 0}


@pytest.fixture(scope="module")
def water():
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    atoms.calc = SRDFTCalculator(**LEVEL, max_error=1e-5, max_force_error=1e-3)
    atoms.get_forces()
    return atoms


def test_pyscf_goes_on_from_the_state(water):
    mean_field, state = water.calc.to_pyscf(), water.calc.electronic_state
    assert mean_field.converged
    assert mean_field.e_tot * Hartree == pytest.approx(water.get_potential_energy())
    np.testing.assert_allclose(mean_field.make_rdm1(), state.density_matrix, atol=1e-9)
    np.testing.assert_allclose(mean_field.get_fock(), state.fock, atol=1e-8)
    assert mean_field.energy_tot() == pytest.approx(mean_field.e_tot, abs=1e-8)
    dipole = mean_field.dip_moment(verbose=0) * Debye
    np.testing.assert_allclose(dipole, water.get_dipole_moment(), atol=1e-5)
    np.testing.assert_allclose(mean_field.mo_energy, state.mo_energy, atol=1e-5)
    charges = mean_field.mulliken_pop(verbose=0)[1]
    np.testing.assert_allclose(charges, water.get_charges(), atol=1e-8)


def test_its_forces_are_the_calculators(water):
    gradient = water.calc.to_pyscf().nuc_grad_method()
    gradient.grid_response, gradient.verbose = True, 0
    forces = -gradient.kernel() * Hartree / Bohr
    assert np.abs(forces).max() > 0.5
    np.testing.assert_allclose(forces, water.get_forces(), atol=1e-3)


def test_its_scf_is_done_in_a_step_or_two(water):
    mean_field = water.calc.to_pyscf()
    cycles = []
    mean_field.callback = lambda values: cycles.append(values["cycle"])
    mean_field.verbose = 0
    energy = mean_field.kernel(dm0=mean_field.make_rdm1())
    assert mean_field.converged
    assert len(cycles) <= 2
    assert energy * Hartree == pytest.approx(water.get_potential_energy(), abs=1e-5)


def test_it_is_at_the_level_with_exact_exchange_and_of_an_ion():
    atoms = Atoms("OH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]], info={"charge": -1})
    atoms.calc = SRDFTCalculator(
        None, xc="PBE0", basis="sto-3g", grid_level=1, density_fitting=False
    )
    energy = atoms.get_potential_energy()
    mean_field = atoms.calc.to_pyscf()
    assert (mean_field.mol.charge, mean_field.grids.level) == (-1, 1)
    assert not hasattr(mean_field, "with_df")
    assert mean_field.energy_tot() * Hartree == pytest.approx(energy, abs=1e-6)


def test_excitation_energies_are_those_of_pyscfs_scf(water):
    found = water.calc.to_pyscf()
    expected = water.calc.to_pyscf()
    expected.kernel()
    energies = [mean_field.TDDFT().run(nstates=2).e for mean_field in (found, expected)]
    np.testing.assert_allclose(*energies, atol=1e-4)


def test_density_and_potential_are_pyscfs_in_ases_units(water):
    mean_field, points = water.calc.to_pyscf(), water.positions + np.array([0.1, -0.4, 0.2])
    values = dft.numint.eval_ao(mean_field.mol, points / Bohr)
    expected = dft.numint.eval_rho(mean_field.mol, values, mean_field.make_rdm1()) / Bohr**3
    np.testing.assert_allclose(water.calc.get_density(points), expected, rtol=1e-6)
    grid = water.calc.get_density(points[None, :, None])
    np.testing.assert_allclose(grid[0, :, 0], expected, rtol=1e-6)
    far = 60.0 * water.get_dipole_moment() / np.linalg.norm(water.get_dipole_moment())
    potential = water.calc.get_electrostatic_potential(far)
    assert potential.shape == ()
    of_dipole = np.linalg.norm(water.get_dipole_moment()) / 60.0**2 * Hartree * Bohr
    assert potential == pytest.approx(of_dipole, rel=0.05)


def test_bond_orders(water):
    for kind in ("mayer", "wiberg"):
        orders = water.calc.get_bond_orders(kind)
        np.testing.assert_allclose(orders, orders.T, atol=1e-12)
        assert orders[0, 1] == pytest.approx(0.95, abs=0.06)
        assert abs(orders[1, 2]) < 0.05


def test_molden_file_holds_the_orbitals(water, tmp_path):
    path = tmp_path / "water.molden"
    water.calc.write_molden(path)
    mean_field = water.calc.to_pyscf()
    mol, energies, coefficients, occupations, *_ = molden.load(str(path))
    np.testing.assert_allclose(energies, mean_field.mo_energy, atol=1e-7)
    np.testing.assert_allclose(occupations, mean_field.mo_occ)
    np.testing.assert_allclose(mol.atom_coords(unit="Bohr") * Bohr, water.positions, atol=1e-6)
    point = np.array([[0.3, -0.2, 0.5]])
    found = dft.numint.eval_ao(mol, point) @ coefficients
    expected = dft.numint.eval_ao(mean_field.mol, point) @ mean_field.mo_coeff
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)


def cube(path):
    with open(path) as file:
        return read_cube(file)


@pytest.mark.parametrize("what", ["homo", 3, "lumo", "homo-1"])
def test_cubes_of_orbitals_hold_one_electron(water, what, tmp_path):
    water.calc.write_cube(tmp_path / "some.cube", what, spacing=0.35, margin=2.5)
    found = cube(tmp_path / "some.cube")
    assert (found["data"] ** 2).sum() * (0.35 / Bohr) ** 3 == pytest.approx(1.0, rel=0.1)
    np.testing.assert_allclose(found["atoms"].positions, water.positions, atol=1e-5)


def test_the_cube_of_the_density_is_the_density(water, tmp_path):
    water.calc.write_cube(tmp_path / "some.cube", spacing=0.5, margin=2.0)
    found = cube(tmp_path / "some.cube")
    points = found["origin"] + 0.5 * np.indices(found["data"].shape).reshape(3, -1).T
    expected = water.calc.get_density(points) * Bohr**3
    np.testing.assert_allclose(found["data"].ravel(), expected, rtol=1e-4, atol=1e-8)
    assert expected.max() > 0.1


def test_the_cube_of_the_potential_has_numbers_at_nuclei(tmp_path):
    atoms = Atoms("He")
    atoms.calc = SRDFTCalculator(**LEVEL)
    atoms.get_potential_energy()
    path = tmp_path / "potential.cube"
    atoms.calc.write_cube(path, "electrostatic_potential", spacing=0.5, margin=1.0)
    values = cube(path)["data"]
    assert np.isfinite(values).all()
    assert values.argmax() == values.size // 2
    off = Hartree * values[0, 0, 0], atoms.calc.get_electrostatic_potential([-1.0, -1.0, -1.0])
    assert off[0] == pytest.approx(off[1], rel=1e-4)


def test_they_are_of_the_atoms_as_they_are(water, tmp_path):
    atoms = water.copy()
    atoms.calc = SRDFTCalculator(**LEVEL)
    for ask in (
        atoms.calc.to_pyscf,
        atoms.calc.get_bond_orders,
        lambda: atoms.calc.write_molden(tmp_path / "none.molden"),
    ):
        with pytest.raises(PropertyNotPresent):
            ask()
    assert list(tmp_path.iterdir()) == []
    atoms.get_potential_energy()
    before = atoms.calc.get_bond_orders()
    atoms.positions[1] += 0.7 * (atoms.positions[1] - atoms.positions[0])
    after = atoms.calc.get_bond_orders()
    assert np.abs(after - before).max() > 0.01
    other = SRDFTCalculator(**LEVEL)
    other.get_potential_energy(atoms)
    np.testing.assert_allclose(after, other.get_bond_orders(), atol=1e-3)
    moved = atoms.calc.to_pyscf().mol.atom_coords() * Bohr
    np.testing.assert_allclose(moved, atoms.positions)


@pytest.mark.parametrize(
    "ask",
    [
        lambda calc, folder: calc.write_cube(folder / "a.cube", "lumo+9"),
        lambda calc, folder: calc.write_cube(folder / "a.cube", "spin"),
        lambda calc, folder: calc.write_cube(folder / "a.cube", 99),
        lambda calc, folder: calc.write_cube(folder / "a.cube", spacing=0.0),
        lambda calc, folder: calc.write_cube(folder / "a.cube", margin=-1.0),
        lambda calc, folder: calc.write_cube(folder / "no" / "a.cube"),
        lambda calc, folder: calc.write_molden(folder),
        lambda calc, folder: calc.get_density([1.0, 2.0]),
        lambda calc, folder: calc.get_density("here"),
        lambda calc, folder: calc.get_density(1.0),
        lambda calc, folder: calc.get_electrostatic_potential([[0.0, 0.0, np.nan]]),
        lambda calc, folder: calc.get_bond_orders("pauling"),
    ],
)
def test_bad_input_is_one_line_and_no_file(water, ask, tmp_path):
    with pytest.raises(InputError) as caught:
        ask(water.calc, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
