"""Density, orbitals and potential in space against PySCF, and far away against charges."""

import numpy as np
import pytest
from ase.build import molecule as ase_molecule
from ase.units import Bohr
from pyscf import df, dft

from ase_srdft.dft import density_at_points
from ase_srdft.dft.density_at_points import density_at, electrostatic_potential_at, orbital_at
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field

POINTS = np.random.default_rng(0).uniform(-3.0, 3.0, (37, 3))


@pytest.fixture(scope="module")
def solved():
    atoms = ase_molecule("H2O")
    level = LevelOfTheory(xc="LDA", basis="sto-3g", grid_level=0)
    molecule = Molecule(numbers=tuple(atoms.numbers.tolist()), level=level)
    positions = atoms.positions / Bohr
    return molecule, positions, mean_field(molecule, positions).run()


def test_density_and_orbitals_are_pyscfs(solved, monkeypatch):
    molecule, positions, scf = solved
    values = dft.numint.eval_ao(scf.mol, POINTS)
    expected = dft.numint.eval_rho(scf.mol, values, scf.make_rdm1())
    for block in (density_at_points._BLOCK_BYTES, 500):  # all at once, and a few at a time
        monkeypatch.setattr(density_at_points, "_BLOCK_BYTES", block)
        found = density_at(molecule, positions, scf.make_rdm1(), POINTS)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
        own = [orbital_at(molecule, positions, c.copy(), POINTS) for c in scf.mo_coeff.T]
        np.testing.assert_allclose(np.transpose(own), values @ scf.mo_coeff, atol=1e-12)
    assert expected.max() > 0.05


def test_potential_is_pyscfs(solved, monkeypatch):
    molecule, positions, scf = solved
    charges = scf.mol.atom_charges()
    nuclei = (charges / np.linalg.norm(POINTS[:, None] - positions, axis=-1)).sum(axis=1)
    integrals = df.incore.aux_e2(scf.mol, dft.gto.fakemol_for_charges(POINTS), "int3c2e")
    expected = nuclei - np.einsum("mng,mn->g", integrals, scf.make_rdm1())
    for block in (density_at_points._BLOCK_BYTES, 5000):
        monkeypatch.setattr(density_at_points, "_BLOCK_BYTES", block)
        found = electrostatic_potential_at(molecule, positions, scf.make_rdm1(), POINTS)
        np.testing.assert_allclose(found, expected, atol=1e-7)
    assert np.ptp(expected) > 0.1


def test_far_away_the_potential_is_that_of_the_dipole(solved):
    molecule, positions, scf = solved
    dipole = scf.dip_moment(unit="au", verbose=0)
    direction = dipole / np.linalg.norm(dipole)
    far = electrostatic_potential_at(molecule, positions, scf.make_rdm1(), 200.0 * direction[None])
    assert far[0] == pytest.approx(np.linalg.norm(dipole) / 200.0**2, rel=0.02)


def test_at_a_nucleus_it_is_infinite_unless_that_counts_as_farther(solved):
    molecule, positions, scf = solved
    matrix = scf.make_rdm1()
    assert electrostatic_potential_at(molecule, positions, matrix, positions[:1])[0] == np.inf
    near, far = (
        electrostatic_potential_at(molecule, positions, matrix, positions[:1], closest=each)[0]
        for each in (0.1, 0.2)
    )
    assert near - far == pytest.approx(8.0 / 0.1 - 8.0 / 0.2)  # of oxygen, the others are far
    assert near > 50.0
