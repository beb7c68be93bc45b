"""The reference SCF: converged, self-consistent, differentiated, or an error."""

import numpy as np
import pytest
from ase.build import molecule as ase_molecule
from ase.units import Bohr
from pyscf import dft, gto
from pyscf.scf.hf import SCF
from pyscf.scf.stability import rhf_internal
from scipy.linalg import eigh

from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field, reference_scf
from tests.tools.molecules import system

PBE = LevelOfTheory(xc="PBE", basis="6-31g")
MINIMAL = LevelOfTheory(xc="PBE", basis="sto-3g", grid_level=0)


def positions_of(positions):
    return positions[0].numpy()


def test_it_is_pyscfs_own_energy():
    molecule, positions = system("H2O", xc="B3LYP", basis="sto-3g", density_fitting=False)
    mol = gto.M(
        atom=list(zip(["O", "H", "H"], positions_of(positions).tolist(), strict=True)),
        unit="Bohr",
        basis="sto-3g",
        verbose=0,
    )
    scf = dft.RKS(mol, xc="b3lypg")
    scf._chkfile.close()
    scf.chkfile, scf.grids.level = None, 1
    expected = scf.kernel()
    assert expected < -75.0
    energy = reference_scf(molecule, positions_of(positions)).energy
    assert energy == pytest.approx(expected, abs=1e-8)


def test_level_of_theory_reaches_pyscf():
    molecule, positions = system("H2O", xc="PBE0", basis="def2-svp", grid_level=3, charge=2)
    scf = mean_field(molecule, positions_of(positions))
    assert (scf.mol.charge, scf.mol.basis, scf.grids.level) == (2, "def2-svp", 3)
    assert scf.with_df.auxbasis == "def2-universal-jkfit"
    np.testing.assert_allclose(scf.mol.atom_coords(), positions_of(positions), atol=1e-14)


def test_state_is_self_consistent():
    molecule, positions = system("H2O", grid_level=0)
    reference = reference_scf(molecule, positions_of(positions))
    scf = mean_field(molecule, positions_of(positions))
    overlap = scf.get_ovlp()
    density_matrix, fock = reference.density_matrix, reference.fock
    np.testing.assert_allclose(
        density_matrix @ overlap @ density_matrix, 2.0 * density_matrix, atol=1e-10
    )
    commutator = fock @ density_matrix @ overlap
    assert np.abs(commutator).max() > 1.0
    np.testing.assert_allclose(commutator, commutator.T, atol=1e-4)
    levels, _ = scf.eig(fock, overlap)
    np.testing.assert_allclose(reference.mo_energy, levels, atol=1e-4)
    assert reference.forces is None


def test_a_start_does_not_change_the_end():
    molecule, positions = system("H2O", grid_level=0)
    first = reference_scf(molecule, positions_of(positions))
    core = mean_field(molecule, positions_of(positions)).get_init_guess(key="1e")
    again = reference_scf(molecule, positions_of(positions), density_matrix=core)
    assert again.energy == pytest.approx(first.energy, abs=1e-8)


def test_forces_are_the_slope_of_the_energy():
    molecule, positions = system("H2", grid_level=0)
    forces = reference_scf(molecule, positions_of(positions), forces=True).forces

    def energy(step):
        moved = positions_of(positions).copy()
        moved[1, 2] += step
        return reference_scf(molecule, moved).energy

    slope = (energy(1e-3) - energy(-1e-3)) / 2e-3
    assert abs(slope) > 1e-3
    assert forces[1, 2] == pytest.approx(-slope, abs=1e-6)
    np.testing.assert_allclose(forces.sum(0), np.zeros(3), atol=1e-7)


def test_not_converged_is_an_error(monkeypatch):
    molecule, positions = system("H2O", grid_level=0)
    monkeypatch.setattr(SCF, "max_cycle", 1)
    with pytest.raises(ReferenceNotConverged, match=r"H2O at PBE/6-31g .* did not converge") as e:
        reference_scf(molecule, positions_of(positions))
    assert "Hartree" in str(e.value)


def test_the_second_order_solver_comes_to_help(monkeypatch):
    molecule, positions = system("H2O", grid_level=0)
    expected = reference_scf(molecule, positions_of(positions)).energy
    kernel = SCF.kernel
    stopped = []

    def stops_early(self, *args, **kwargs):
        self.max_cycle = 1
        stopped.append(kernel(self, *args, **kwargs))
        self.max_cycle = 50
        return stopped[-1]

    monkeypatch.setattr(SCF, "kernel", stops_early)
    energy = reference_scf(molecule, positions_of(positions)).energy
    assert abs(stopped[0] - expected) > 1e-4
    assert energy == pytest.approx(expected, abs=1e-8)


def water(bond, level=PBE, angle=104.5):
    """Water of two bonds as long (Angstrom), and its positions (Bohr)."""
    half = np.radians(angle) / 2.0
    y, z = bond * np.sin(half) / Bohr, bond * np.cos(half) / Bohr
    positions = np.array([[0.0, 0.0, 0.0], [0.0, y, z], [0.0, -y, z]])
    return Molecule(numbers=(8, 1, 1), level=level), positions


def pair(numbers, distance, **level):
    """Two atoms (Angstrom), and their positions (Bohr)."""
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance / Bohr]])
    return Molecule(numbers=numbers, level=LevelOfTheory(**level)), positions


def slow(*values):
    """A case of the slow suite."""
    return pytest.param(*values, marks=pytest.mark.slow)


def twisted_ethylene(degrees, level):
    """Ethylene with one end turned, and its positions (Bohr)."""
    atoms = ase_molecule("C2H4")
    turned = np.linalg.norm(atoms.positions - atoms.positions[1], axis=1) < 1.2
    end = atoms[turned]
    end.rotate(degrees, atoms.positions[1] - atoms.positions[0], center=atoms.positions[1])
    atoms.positions[turned] = end.positions
    return Molecule(numbers=tuple(atoms.numbers.tolist()), level=level), atoms.positions / Bohr


def lowest_of_many_starts(molecule, positions):
    """Energy (Hartree) that PySCF's own stability analysis leads to, from several guesses."""
    energies = []
    for key in ("minao", "1e", "vsap"):
        scf = mean_field(molecule, positions)
        scf.conv_tol = 1e-10
        scf.kernel(dm0=scf.get_init_guess(key=key))
        newton = scf.newton()
        newton.kernel(scf.mo_coeff, scf.mo_occ)
        for _ in range(8):
            orbitals, stable = rhf_internal(newton, return_status=True)
            if stable and newton.converged:
                energies.append(newton.e_tot)
                break
            newton.kernel(orbitals, newton.mo_occ)
    return min(energies)


@pytest.mark.parametrize(
    ("bond", "energy"),
    [(2.3, -75.936130), slow(2.5, -75.905908), slow(2.6, -75.893317)],
)
def test_stretched_water_has_its_lowest_energy(bond, energy):
    assert reference_scf(*water(bond)).energy == pytest.approx(energy, abs=1e-5)


@pytest.mark.slow
def test_energies_along_a_stretched_bond_are_smooth():
    bonds = np.arange(1.6, 2.65, 0.2)
    energies = np.array([reference_scf(*water(bond, MINIMAL)).energy for bond in bonds])
    slopes = np.diff(energies)
    assert slopes.min() > 0.01
    assert (np.diff(slopes) < 0.0).all()  # flatter and flatter, without a jump


@pytest.mark.parametrize(
    ("molecule", "positions"),
    [
        slow(*pair((9, 1), 2.5)),
        slow(*pair((3, 1), 5.0)),
        slow(*pair((7, 7), 2.8, xc="PBE0", basis="sto-3g")),
        pair((6, 6), 1.6, xc="PBE0", basis="sto-3g"),
        slow(*pair((4, 8), 3.0, xc="PBE0", basis="sto-3g")),
        slow(*water(2.5, LevelOfTheory(xc="B3LYP", basis="sto-3g", density_fitting=False))),
        slow(*water(2.6, LevelOfTheory(grid_level=2, basis="sto-3g"))),
    ],
    ids=["HF", "LiH", "N2", "C2", "BeO", "exact integrals", "another grid"],
)
def test_no_start_leads_lower(molecule, positions):
    expected = lowest_of_many_starts(molecule, positions)
    assert reference_scf(molecule, positions).energy < expected + 1e-5


def test_orbitals_are_sorted_and_their_occupation_with_them():
    molecule, positions = water(2.5)
    found = reference_scf(molecule, positions, forces=True)
    assert (np.diff(found.mo_energy) >= 0.0).all()
    assert (
        found.mo_occ.tolist() == [2.0] * 4 + [0.0, 0.0, 2.0] + [0.0] * 6
    )  # a gap of -0.009 Hartree
    scf = mean_field(molecule, positions)
    levels = eigh(found.fock, scf.get_ovlp(), eigvals_only=True)
    np.testing.assert_allclose(found.mo_energy, levels, atol=1e-5)


@pytest.mark.slow
def test_forces_where_the_gap_is_negative():
    molecule, positions = water(2.5, MINIMAL)
    forces = reference_scf(molecule, positions, forces=True).forces

    def energy(step):
        moved = positions.copy()
        moved[1, 1] += step
        return reference_scf(molecule, moved).energy

    slope = (energy(2e-3) - energy(-2e-3)) / 4e-3
    assert abs(slope) > 1e-2
    assert forces[1, 1] == pytest.approx(-slope, abs=1e-5)


def swapped(molecule, positions, reference, occupied, empty):
    """The density matrix with a pair of electrons moved from one orbital to another."""
    scf = mean_field(molecule, positions)
    _, orbitals = eigh(reference.fock, scf.get_ovlp())
    occupation = np.where(np.arange(molecule.nao) < molecule.nocc, 2.0, 0.0)
    occupation[[occupied, empty]] = 0.0, 2.0
    return scf.make_rdm1(orbitals, occupation)


@pytest.mark.parametrize("empty", [0, 1])
@pytest.mark.parametrize(
    ("molecule", "positions"),
    [water(0.96, MINIMAL), water(1.6, MINIMAL), pair((7, 7), 2.2)],
    ids=["water", "stretched water", "stretched nitrogen"],
)
def test_a_bad_start_does_not_lead_higher(molecule, positions, empty):
    cold = reference_scf(molecule, positions)
    nocc = molecule.nocc
    start = swapped(molecule, positions, cold, nocc - 1, nocc + empty)
    assert mean_field(molecule, positions).energy_tot(start) > cold.energy + 0.05
    warm = reference_scf(molecule, positions, density_matrix=start)
    assert warm.energy == pytest.approx(cold.energy, abs=1e-8)


@pytest.mark.parametrize("xc", ["PBE", "PBE0"])
def test_a_start_in_a_higher_minimum_does_not_stay_there(xc):
    molecule, positions = twisted_ethylene(85.0, LevelOfTheory(xc=xc, basis="sto-3g"))
    cold = reference_scf(molecule, positions)
    scf = mean_field(molecule, positions).newton()
    scf.conv_tol = 1e-10
    _, orbitals = eigh(cold.fock, scf.get_ovlp())
    occupation = np.where(np.arange(molecule.nao) < molecule.nocc, 2.0, 0.0)
    occupation[[molecule.nocc - 1, molecule.nocc]] = 0.0, 2.0
    scf.kernel(orbitals, occupation)
    assert scf.converged
    assert rhf_internal(scf, return_status=True)[1]  # stable
    assert scf.e_tot > cold.energy + 0.03
    warm = reference_scf(molecule, positions, density_matrix=scf.make_rdm1())
    assert warm.energy == pytest.approx(cold.energy, abs=1e-8)


def test_linearly_dependent_orbitals_are_an_error():
    molecule, positions = pair((2, 2), 0.001, basis="def2-svp")
    with pytest.raises(ReferenceNotConverged, match="10 orbitals of He2 in def2-svp are linearly"):
        reference_scf(molecule, positions)
