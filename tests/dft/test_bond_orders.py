"""Bond orders against closed forms and PySCF."""

import numpy as np
import pytest
from pyscf import gto, scf

from ase_srdft.dft.bond_orders import mayer_bond_orders, wiberg_bond_orders
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule

KINDS = [mayer_bond_orders, wiberg_bond_orders]


def solved(atoms, basis="sto-3g"):
    mol = gto.M(atom=atoms, basis=basis, unit="Bohr", verbose=0)
    mean_field = scf.RHF(mol).run()
    numbers = tuple(int(n) for n in mol.atom_charges())
    molecule = Molecule(numbers=numbers, level=LevelOfTheory(xc="PBE", basis=basis))
    return molecule, mol, mean_field.get_ovlp(), mean_field.make_rdm1()


@pytest.mark.parametrize("orders", KINDS)
def test_two_orbitals_of_hydrogen_share_a_pair(orders):
    molecule, _, overlap, density_matrix = solved("H 0 0 0; H 0 0 1.4")
    np.testing.assert_allclose(orders(molecule, overlap, density_matrix), [[0, 1], [1, 0]])


@pytest.mark.parametrize("orders", KINDS)
def test_nitrogen_has_a_triple_bond_and_helium_none(orders):
    molecule, _, overlap, density_matrix = solved("N 0 0 0; N 0 0 2.07; He 0 0 12.0")
    found = orders(molecule, overlap, density_matrix)
    assert found[0, 1] == pytest.approx(3.0, abs=0.02)
    assert np.abs(found[2]).max() < 1e-6


def test_mayers_are_the_sums_that_pyscf_gives():
    molecule, mol, overlap, density_matrix = solved(
        "O 0 0 0; H 0 1.43 1.1; H 0.1 -1.4 1.2", basis="6-31g"
    )
    found = mayer_bond_orders(molecule, overlap, density_matrix)
    populations = density_matrix @ overlap
    for a, (_, _, start, stop) in enumerate(mol.aoslice_by_atom()):
        for b, (_, _, first, last) in enumerate(mol.aoslice_by_atom()):
            block = populations[start:stop, first:last], populations[first:last, start:stop]
            expected = 0.0 if a == b else np.einsum("mn,nm->", *block)
            assert found[a, b] == pytest.approx(expected, abs=1e-12)
    assert 0.7 < found[0, 1] < 1.0
