"""Basis sets against PySCF's tables."""

import pytest
from ase.data import atomic_numbers
from pyscf import gto

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.basis.element_basis import element_basis


@pytest.mark.parametrize("symbol", ["H", "He", "Li", "C", "O", "Na", "S", "Br", "Kr"])
@pytest.mark.parametrize("name", ["sto-3g", "def2-svp", "def2-tzvp"])
def test_counts_are_pyscfs(symbol, name):
    basis = element_basis(name, atomic_numbers[symbol])
    mol = gto.M(atom=symbol, basis=name, spin=atomic_numbers[symbol] % 2, verbose=0)
    assert basis.nao == mol.nao
    assert len(basis.angular_momenta) == len(basis.shell_offsets) == len(basis.coefficients)
    assert basis.shell_offsets[0] == 0
    last = basis.shell_offsets[-1] + 2 * basis.angular_momenta[-1] + 1
    assert last == mol.nao


@pytest.mark.parametrize(
    ("name", "symbol", "message"),
    [
        ("no-such-basis", "C", "no basis 'no-such-basis' for C"),
        ("", "C", "no basis '' for C"),
        ("6-31g", "Kr", "no basis '6-31g' for Kr"),
        ("cc-pvqz", "C", "functions with l = 4 on C: s, p, d and f are supported"),
        ("def2-qzvp", "Fe", "functions with l = 4 on Fe"),
        ("gth-szv", "C", "'gth-szv' is made for a pseudopotential on C: use an all-electron"),
        ("lanl2dz", "Cl", "'lanl2dz' is made for a pseudopotential on Cl"),
        ("crenbl", "O", "'crenbl' is made for a pseudopotential on O"),
    ],
)
def test_refuses(name, symbol, message):
    with pytest.raises(BadInput) as caught:
        element_basis(name, atomic_numbers[symbol])
    assert message in str(caught.value)


def test_an_all_electron_part_of_a_pseudopotential_basis_is_accepted():
    assert element_basis("lanl2dz", 6).nao == 9
