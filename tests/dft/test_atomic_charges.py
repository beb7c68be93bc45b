"""Charges of atoms, against PySCF's."""

import numpy as np
import pytest
from pyscf import gto, lo, scf
from pyscf.scf.hf import mulliken_pop

from ase_srdft.dft.atomic_charges import loewdin_charges, mulliken_charges
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule


@pytest.fixture(scope="module")
def hydroxide():
    atom = "O 0 0 0; H 0.3 0 0.9"
    mol = gto.M(atom=atom, basis="6-31g", charge=-1, verbose=0)
    density_matrix = scf.RHF(mol).run().make_rdm1()
    level = LevelOfTheory(xc="LDA", basis="6-31g", charge=-1)
    return mol, Molecule(numbers=(8, 1), level=level), density_matrix


def test_mullikens(hydroxide):
    mol, molecule, density_matrix = hydroxide
    charges = mulliken_charges(molecule, mol.intor("int1e_ovlp"), density_matrix)
    _, expected = mulliken_pop(mol, density_matrix, verbose=0)
    assert abs(expected).min() > 0.05
    assert charges.sum() == pytest.approx(-1.0)
    np.testing.assert_allclose(charges, expected, atol=1e-10)


def test_loewdins(hydroxide):
    mol, molecule, density_matrix = hydroxide
    overlap = mol.intor("int1e_ovlp")
    charges = loewdin_charges(molecule, overlap, density_matrix)
    to_orthogonal = np.linalg.inv(lo.orth.lowdin(overlap))
    orthogonal = to_orthogonal @ density_matrix @ to_orthogonal.T
    _, expected = mulliken_pop(mol, orthogonal, np.eye(mol.nao), verbose=0)
    np.testing.assert_allclose(charges, expected, atol=1e-10)
    assert abs(charges - mulliken_charges(molecule, overlap, density_matrix)).max() > 0.01
