"""The reference SCF: converged, self-consistent, differentiated, or an error."""

import numpy as np
import pytest
from pyscf import dft, gto
from pyscf.scf.hf import SCF

from ase_srdft.dft.reference import mean_field, reference_scf
from ase_srdft.errors import ReferenceNotConverged
from tests.molecules import system


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
