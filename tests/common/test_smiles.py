"""SMILES, alone and in files, become structures with a charge, or one clear line."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from ase.build import molecule

from ase_srdft.common.connectivity import bond_matrix
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.structures import read_frames
from tests.common.test_structures import message

needs_rdkit = pytest.mark.skipif(find_spec("rdkit") is None, reason="RDKit is an extra")


def smiles(text):
    (atoms,) = read_frames(f"smiles:{text}")
    return atoms


@needs_rdkit
def test_ethanol_has_the_atoms_and_lengths_of_ethanol():
    atoms, reference = smiles("CCO"), molecule("CH3CH2OH")
    assert str(atoms.symbols) == "C2OH6"
    assert atoms.info == {"smiles": "CCO", "charge": 0}
    assert atoms.get_distance(0, 1) == pytest.approx(reference.get_distance(0, 1), abs=0.02)
    assert atoms.get_distance(1, 2) == pytest.approx(reference.get_distance(1, 2), abs=0.02)
    assert bond_matrix(atoms.numbers, atoms.positions).sum() == 2 * 8


@needs_rdkit
def test_the_same_string_is_the_same_structure():
    np.testing.assert_array_equal(smiles("CC(N)C(=O)O").positions, smiles("CC(N)C(=O)O").positions)


@needs_rdkit
@pytest.mark.parametrize(
    ("text", "charge", "nelectrons"),
    [
        ("[NH4+]", 1, 10),
        ("CC(=O)[O-]", -1, 32),
        ("NC(=[NH2+])N", 1, 32),
        ("C[N+](=O)[O-]", 0, 32),
        ("[O-]C(=O)C(=O)[O-]", -2, 46),
        ("[F-]", -1, 10),
    ],
)
def test_the_charge_is_the_sum_of_the_formal_charges(text, charge, nelectrons):
    nuclei = nuclei_of(smiles(text))
    assert nuclei.charge == charge
    assert sum(nuclei.numbers) - nuclei.charge == nelectrons


@needs_rdkit
@pytest.mark.parametrize(
    ("text", "length"),
    [("O=C=O", 1.16), ("N#N", 1.10), ("O=S=O", 1.43), ("C#N", 1.15), ("FF", 1.41)],
)
def test_a_length_that_mmff_makes_up_is_not_taken(text, length):
    assert smiles(text).get_distance(0, 1) == pytest.approx(length, abs=0.1)


@needs_rdkit
def test_two_forms_of_a_double_bond():
    apart = [smiles(text).get_distance(0, 3) for text in ("F/C=C/F", "F/C=C\\F")]
    assert apart[0] == pytest.approx(3.5, abs=0.2)
    assert apart[1] == pytest.approx(2.7, abs=0.2)


@needs_rdkit
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xyz", "smiles:xyz is no SMILES that RDKit understands (its syntax is wrong)"),
        ("C(C)(C)(C)(C)C", "atom # 0 C, 5, is greater than permitted"),
        ("", "has no atoms"),
        ("C[CH2]", "has 1 unpaired electron, and open shells are not supported"),
        ("[CH2]", "has 2 unpaired electrons"),
        ("O.O", "is of several molecules"),
        ("*C", "has an atom that is no element"),
    ],
)
def test_what_is_no_molecule_is_one_line(text, words, capfd):
    assert words in message(read_frames, f"smiles:{text}")
    assert capfd.readouterr() == ("", "")


@needs_rdkit
def test_a_molecule_that_cannot_be_embedded():
    # bridgeheads whose substituents all point outwards, against their rings
    text = "C[C@@]12C[C@@](C)(C1)C2"
    found = message(read_frames, f"smiles:{text}")
    assert f"RDKit finds no structure for smiles:{text}" in found


def test_without_rdkit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    assert "smiles:CCO" in message(read_frames, "smiles:CCO")
    assert "pip install 'ase_srdft[smiles]'" in message(read_frames, "smiles:CCO")


# files


LINES = """\
# molecules of the bench
CCO ethanol, dry
  C#N   # prussic acid

[NH4+]\tammonium # an ion
c1ccccc1
"""


@needs_rdkit
@pytest.mark.parametrize("name", ["a.smi", "A.SMI"])
def test_a_file_of_smiles(name, tmp_path):
    (tmp_path / name).write_text(LINES)
    found = read_frames(tmp_path / name)
    assert [atoms.info["smiles"] for atoms in found] == ["CCO", "C#N", "[NH4+]", "c1ccccc1"]
    assert [atoms.info.get("name") for atoms in found] == ["ethanol, dry", None, "ammonium", None]
    assert [atoms.info["charge"] for atoms in found] == [0, 0, 1, 0]
    assert [len(atoms) for atoms in found] == [9, 3, 5, 12]


def torsion(atoms):
    """Of the chain that the first four atoms are, or of the hydroxyl in CCO (degrees)."""
    chain = (0, 1, 2, 8) if str(atoms.symbols) == "C2OH6" else (0, 1, 2, 3)
    return abs((atoms.get_dihedral(*chain) + 180.0) % 360.0 - 180.0)


@needs_rdkit
@pytest.mark.parametrize(("text", "angles"), [("CCO", (60, 180)), ("CCCC", (65, 180))])
def test_conformers_are_the_minima_of_the_torsion_and_the_first_is_the_one(text, angles):
    found = read_frames(f"smiles:{text}", conformers=9)
    np.testing.assert_array_equal(found[0].positions, smiles(text).positions)
    assert sorted(map(torsion, found)) == pytest.approx(angles, abs=8.0)
    bonds = [bond_matrix(a.numbers, a.positions).tobytes() for a in found]
    assert len(set(bonds)) == 1
    assert {a.info["smiles"] for a in found} == {text}
    again = read_frames(f"smiles:{text}", conformers=9)
    np.testing.assert_array_equal(found[1].positions, again[1].positions)


@needs_rdkit
def test_conformers_keep_the_form_of_a_stereocentre_that_is_left_open():
    found = read_frames("smiles:CC(O)C(F)Cl", conformers=5)
    assert len(found) == 5

    def handedness(atoms, centre, first, second, third):
        arms = [atoms.positions[i] - atoms.positions[centre] for i in (first, second, third)]
        return np.sign(np.linalg.det(arms))

    assert {handedness(a, 1, 0, 2, 3) for a in found} in ({1.0}, {-1.0})
    assert {handedness(a, 3, 1, 4, 5) for a in found} in ({1.0}, {-1.0})


@needs_rdkit
@pytest.mark.parametrize("text", ["C", "O", "[H][H]", "C#N", "c1ccccc1", "[Na+]"])
def test_molecules_without_torsions_have_one_structure(text):
    assert len(read_frames(f"smiles:{text}", conformers=4)) == 1


@needs_rdkit
def test_conformers_of_a_file_follow_their_molecule(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("CCO ethanol\nC\nCCCCO\n")
    found = read_frames(path, conformers=3)
    assert [len(atoms) for atoms in found] == [9, 9, 5, 15, 15, 15]
    assert [atoms.info.get("name") for atoms in found[:3]] == ["ethanol", "ethanol", None]
    assert len(read_frames(path, 2, conformers=3)) == 3  # of two molecules


@needs_rdkit
def test_of_a_file_no_more_is_looked_at_than_is_asked_for(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("C\nCC\nno smiles\n")
    assert [len(atoms) for atoms in read_frames(path, 2)] == [5, 8]
    assert f"line 3 of {path} (no) is no SMILES" in message(read_frames, path)


def test_a_file_without_smiles(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("# nothing\n\n")
    assert "holds no structure" in message(read_frames, path)
    path.write_bytes(b"\xff\xfeC")
    assert "is no text" in message(read_frames, path)


# names and paths


@needs_rdkit
def test_a_path_is_a_file_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smiles:CCO").write_text("1\n\nNe 0 0 0\n")
    assert str(read_frames(tmp_path / "smiles:CCO")[0].symbols) == "Ne"
    assert str(read_frames("./smiles:CCO")[0].symbols) == "Ne"
    assert str(read_frames("smiles:CCO")[0].symbols) == "C2OH6"
