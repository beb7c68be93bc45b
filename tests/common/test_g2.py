"""Molecules by ASE's names."""

import numpy as np
import pytest
from ase.build import molecule
from ase.collections import g2

from ase_srdft.common.errors import BadInput, StructuresLeftOut
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.structures import read_frames
from tests.common.test_structures import message


@pytest.mark.parametrize("name", ["CH3OH", "C6H6", "biphenyl"])
def test_a_molecule_by_its_name(name):
    (atoms,) = read_frames(f"g2:{name}")
    assert str(atoms.symbols) == str(molecule(name).symbols)
    np.testing.assert_array_equal(atoms.positions, molecule(name).positions)
    assert atoms.info == {"name": name}


def test_all_of_them_but_open_shells():
    with pytest.warns(StructuresLeftOut, match="^30 of the 148 molecules of G2 .* left out$"):
        found = read_frames("g2:*")
    assert len(found) == 118
    assert {atoms.info["name"] for atoms in found} <= set(g2.names)
    assert all(sum(nuclei_of(atoms).numbers) % 2 == 0 for atoms in found)


def test_all_of_some_elements():
    with pytest.warns(StructuresLeftOut, match="^20 of the 81"):
        found = read_frames("g2:*:H,C,N,O")
    assert len(found) == 61
    assert set().union(*(atoms.symbols for atoms in found)) == set("HCNO")
    assert [len(atoms) for atoms in read_frames("g2:*:H", 5)] == [2]


def test_the_first_ones():
    with pytest.warns(StructuresLeftOut):
        found = read_frames("g2:*", 2)
    assert [atoms.info["name"] for atoms in found] == ["LiH", "CH2_s1A1d"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CH3OHH", "no molecule 'CH3OHH' (nearest: CH3OH)"),
        ("", "no molecule ''"),
        ("CH4:H,C", "elements behind a name"),
        ("*:Xx", "'Xx' is no element"),
        ("*:Ar", "no closed shell of Ar alone"),
    ],
)
def test_a_name_that_stands_for_nothing(name, words):
    assert words in message(read_frames, f"g2:{name}")


def test_an_open_shell_by_its_name_is_refused_where_others_are():
    (atoms,) = read_frames("g2:O2")
    with pytest.raises(BadInput, match="open shells are not supported"):
        nuclei_of(atoms)
