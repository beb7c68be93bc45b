"""A file is read as it is named, whole and in its own units, or refused in one line."""

import gzip
import json
import os

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from ase_srdft.common.charges import total_charge
from ase_srdft.common.errors import BadInput
from ase_srdft.common.structures import read_frames
from tests.common.test_structures import Bomb, message

WATER = """\
3

O  0.00  0.00  0.12
H  0.00  0.76 -0.48
H  0.00 -0.76 -0.48
"""
METHANE = "1\nof the wrong file\nNe 0 0 0\n"


def symbols(path, limit=None):
    return [str(atoms.symbols) for atoms in read_frames(path, limit)]


# names


NAMES = """
run@500K.xyz water@1 water@ @ water@:.xyz water@-1.xyz water.xyz@0 a#2.xyz *.xyz [a].xyz ?.xyz
a:3.xyz water.xyz:3 -.xyz - -x ~.xyz a%20b.xyz ä.xyz WATER.XYZ water.XyZ water water.extxyz
POSCAR.xyz a_OUTCAR_b.xyz water.out.xyz inp.xyz postgres.xyz mysql aselmdb.xyz water.0001
"""


@pytest.mark.parametrize("name", [*NAMES.split(), "a b.xyz", " .xyz"])
def test_the_named_file_is_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for other in {"run", "water", "a", "water.xyz", "1", "x.xyz", "-1"} - {name}:
        (tmp_path / other).write_text(METHANE)
    (tmp_path / name).write_text(WATER)
    assert symbols(name) == symbols(tmp_path / name) == ["OH2"]


@pytest.mark.parametrize("suffix", ["traj", "db", "json", "npz", "NPZ"])
def test_names_with_an_at_sign_in_every_format(suffix, tmp_path):
    path = tmp_path / f"a@1.{suffix}"
    water = molecule("H2O")
    if suffix.lower() == "npz":
        with path.open("wb") as file:
            np.savez(file, z=water.numbers, R=water.positions[None])
    else:
        ase.io.write(tmp_path / f"plain.{suffix}", water)
        (tmp_path / f"plain.{suffix}").rename(path)
    assert symbols(path) == ["OH2"]


@pytest.mark.parametrize("comment", ["GAMESS geometry", "from * O   R   C   A *", "$coord"])
def test_a_comment_does_not_change_the_format(comment, tmp_path):
    (tmp_path / "a.xyz").write_text(WATER.replace("\n\n", f"\n{comment}\n"))
    assert symbols(tmp_path / "a.xyz") == ["OH2"]


def test_what_is_no_file_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.xyz")
    assert "fifo.xyz is no file" in message(read_frames, "fifo.xyz")
    (tmp_path / "a.traj").mkdir()
    for name in ("a.traj", "db://", "http://a/b.xyz", "postgresql://a", "-", "a.xyz@1", "~/a.xyz"):
        assert "there is no file" in message(read_frames, name)


def test_compressed_files(tmp_path):
    with gzip.open(tmp_path / "a@1.xyz.gz", "wt") as file:
        file.write(WATER * 2)
    assert symbols(tmp_path / "a@1.xyz.gz") == ["OH2", "OH2"]
    whole = (tmp_path / "a@1.xyz.gz").read_bytes()
    (tmp_path / "torn.xyz.gz").write_bytes(whole[:-9])
    assert "torn.xyz.gz" in message(read_frames, tmp_path / "torn.xyz.gz")


# xyz: every line


@pytest.mark.parametrize(
    "text",
    [
        WATER * 3,
        WATER * 3 + "\n",
        WATER * 3 + " \n\t\n\n",
        (WATER * 3).rstrip("\n"),
        (WATER * 3).replace("\n", "\r\n"),
        (WATER * 3).replace("\n", " \n"),
        (WATER * 3).replace("0.12\n", "0.12 -0.8 extra\n"),
        (WATER * 3).replace("3\n\n", "3\ncharge=0 spin=1 note='of spin'\n"),
        (WATER * 3).replace("3\n\n", "  3\nProperties=species:S:1:pos:R:3 energy=-1\n"),
    ],
)
@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a"])
def test_whole_xyz_files(text, name, tmp_path):
    (tmp_path / name).write_text(text, newline="")
    assert symbols(tmp_path / name) == ["OH2"] * 3
    assert symbols(tmp_path / name, 2) == ["OH2"] * 2


BROKEN = [
    (WATER + "\n" + WATER, "line 6 of"),
    (WATER * 2 + "\n\n\n" + WATER, "line 11 of"),
    ("\n" + WATER, "line 1 of"),
    (WATER + "\nremark\n", "line 6 of"),
    (WATER + "remark\n", "line 6 ('remark')"),
    (WATER.replace("3\n", "2\n", 1), "line 5 ('H 0.00 -0.76 -0.48')"),
    (WATER.replace("3\n", "2\n", 1) * 2, "line 5 ("),
    (WATER.replace("3\n", "4\n", 1), "says 4 atoms"),
    (WATER.replace("3\n", "4\n", 1) + WATER, "line 6 ('3')"),
    (WATER + WATER.replace("3\n", "30\n", 1), "line 6 says 30 atoms"),
    ("3\n", "says 3 atoms"),
    ("3 atoms\n" + WATER[2:], "line 1 ('3 atoms')"),
    ("3_0\n" + WATER[2:], "line 1 ('3_0')"),
    ("-3\n" + WATER[2:], "line 1 ('-3')"),
    ("3 bohr\n" + WATER[2:], "line 1 ('3 bohr')"),
    (WATER.replace("0.76 -0.48", "0.76"), "line 4 ("),
    (WATER.replace("H  0.00  0.76 -0.48", ""), "line 4 ("),
    (WATER.replace("-0.48", "-0,48"), "-0,48"),
    (WATER.replace("0.76", "0.76D+00"), "0.76D+00"),
    (WATER.replace("0.76", "nan"), "finite"),
    (WATER.replace("0.76", "***"), "***"),
    (WATER.replace("\n\n", "\nProperties=species:S:1:pos:R:3\n").replace("O  ", "O 1 "), "line 3"),
    (WATER.replace("\n\n", "\nProperties=species:S:1:pos:R:3:f:R:3\n"), "line 3"),
    (WATER.replace("\n\n", '\nLattice="5 0 0 0 5 0 0 0 5"\n'), "periodic"),
    (WATER + "VEC1 5 0 0\n", "periodic"),
    (WATER.replace("O ", "O1"), "KeyError"),
    (WATER.replace("\n\n", "\ncharge=-2 charge=0\n"), "line 2"),
    (WATER.replace("\n\n", "\nO'Neil water charge=-2\n"), "line 2"),
    (WATER.replace("\n\n", "\nProperties=species:S:1:x:R:3\n"), "Properties"),
    (WATER.replace("\n\n", "\nProperties=pos:R:3:f:R:1\n"), "Properties"),
    ("1\nProperties=species:S:1:pos:R:3:Z:I:1\nNe 0 0 0 2\n", "line 3"),
]


@pytest.mark.parametrize(("text", "words"), BROKEN)
@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a"])
def test_broken_xyz_files_are_refused_with_the_line(text, words, name, tmp_path):
    (tmp_path / name).write_text(text)
    found = message(read_frames, tmp_path / name)
    if name != "a" or text[:2] in ("3\n", "2\n", "4\n"):  # otherwise ASE sees no xyz file in it
        assert words in found
    assert str(tmp_path / name) in found


@pytest.mark.parametrize("name", ["formal_charges", "initial_charges"])
def test_charges_in_a_column(name, tmp_path):
    text = WATER.replace("\n\n", f"\nProperties=species:S:1:pos:R:3:{name}:R:1\n")
    for number, charge in (("0.12", -2.0), ("0.76 -0.48", 1.0), ("-0.76 -0.48", -1.0)):
        text = text.replace(f" {number}\n", f" {number} {charge}\n")
    (tmp_path / "a.xyz").write_text(text)
    (found,) = read_frames(tmp_path / "a.xyz")
    assert total_charge(found, None, None) == -2


def test_symbols_beside_atomic_numbers(tmp_path):
    text = "1\nProperties=species:S:1:Z:I:1:pos:R:3\nne 10 0 0 0\n"
    (tmp_path / "a.xyz").write_text(text)
    assert symbols(tmp_path / "a.xyz") == ["Ne"]


# units


@pytest.mark.parametrize(
    ("key", "value", "factor"),
    [
        ("r_unit", "Ang", 1.0),
        ("r_unit", b"Angstrom", 1.0),
        ("R_unit", "angstrom", 1.0),
        ("coords_unit", "Å", 1.0),
        ("coords_unit", "A\u030a", 1.0),
        ("r_unit", "Angstroem", 1.0),
        ("r_unit", "bohr", units.Bohr),
        ("units", "Bohr", units.Bohr),
        ("unit", "a.u.", units.Bohr),
        ("length_units", np.array(["bohr"]), units.Bohr),
        ("unit_length", "nm", 10.0),
        ("position_unit", "pm", 0.01),
        ("e_unit", "kcal/mol", 1.0),
        ("energy_units", "hartree", 1.0),
        ("F_unit", "hartree/bohr", 1.0),
    ],
)
def test_units_of_an_archive(key, value, factor, tmp_path):
    water = molecule("H2O")
    np.savez(tmp_path / "a.npz", z=water.numbers, R=water.positions[None] / factor, **{key: value})
    (found,) = read_frames(tmp_path / "a.npz")
    np.testing.assert_allclose(found.positions, water.positions, atol=1e-6)


@pytest.mark.parametrize("value", ["furlong", "kcal/mol", "", 1.0, ["Ang", "Ang"], "eV, bohr"])
@pytest.mark.parametrize("key", ["r_unit", "units"])
def test_unknown_units_of_an_archive(key, value, tmp_path):
    water = molecule("H2O")
    np.savez(tmp_path / "a.npz", z=water.numbers, R=water.positions, **{key: value})
    assert key in message(read_frames, tmp_path / "a.npz")


def test_contradicting_units(tmp_path):
    water = molecule("H2O")
    two = {"r_unit": "bohr", "coords_unit": "Ang"}
    np.savez(tmp_path / "a.npz", z=water.numbers, R=water.positions, **two)
    assert "coords_unit" in message(read_frames, tmp_path / "a.npz")


def test_units_of_an_xyz_file(tmp_path):
    in_bohr = molecule("H2O")
    in_bohr.positions /= units.Bohr
    in_bohr.info["pos_unit"] = "bohr"
    ase.io.write(tmp_path / "a.xyz", [molecule("H2O"), in_bohr])
    first, second = read_frames(tmp_path / "a.xyz")
    np.testing.assert_allclose(first.positions, second.positions, atol=1e-7)
    ase.io.write(tmp_path / "b.xyz", second)  # whose unit is no longer the one that was named
    np.testing.assert_allclose(read_frames(tmp_path / "b.xyz")[0].positions, first.positions)
    for comment in ("units=furlong", "coordinates in Bohr", "unit: bohr", "units"):
        (tmp_path / "c.xyz").write_text(WATER.replace("\n\n", f"\n{comment}\n"))
        assert "frame 0 of" in message(read_frames, tmp_path / "c.xyz")


@pytest.mark.parametrize("first", ["$coord", "$coord angs", "$coord  frac"])
def test_turbomole_files_are_in_bohr_or_refused(first, tmp_path):
    (tmp_path / "coord").write_text(f"{first}\n0 0 0 o\n0 0 1.8 h\n1.8 0 0 h\n$end\n")
    if first == "$coord":
        (found,) = read_frames(tmp_path / "coord")
        assert found.get_distance(0, 1) == pytest.approx(1.8 * units.Bohr)
    else:
        assert first in message(read_frames, tmp_path / "coord")


# archives


def save(path, **arrays):
    water = molecule("H2O")
    default = {"z": water.numbers, "R": np.array([water.positions, water.positions + 1.0])}
    np.savez(path, **{k: v for k, v in (default | arrays).items() if v is not None})
    return path


def test_archives_with_one_thing_twice(tmp_path):
    positions = np.array([molecule("H2O").positions] * 2)
    message(read_frames, save(tmp_path / "a.npz", coords=positions))
    assert "coords and R" in message(read_frames, save(tmp_path / "a.npz", coords=positions))
    numbers = np.array([8, 1, 9])
    assert "nuclear_charges and z" in message(
        read_frames, save(tmp_path / "a.npz", nuclear_charges=numbers)
    )
    save(tmp_path / "a.npz", coords=positions, R=positions, nuclear_charges=np.array([8, 1, 1]))
    assert len(read_frames(tmp_path / "a.npz")) == 2


def test_atomic_numbers_of_every_frame(tmp_path):
    numbers = np.array([[8, 1, 1], [16, 1, 1]])
    save(tmp_path / "a.npz", z=numbers)
    assert symbols(tmp_path / "a.npz") == ["OH2", "SH2"]
    assert symbols(tmp_path / "a.npz", 1) == ["OH2"]
    padded = np.array([[8, 1, 1], [8, 1, 0]])
    assert "frame 1 of" in message(read_frames, save(tmp_path / "a.npz", z=padded))
    assert "(3, 3)" in message(read_frames, save(tmp_path / "a.npz", z=np.ones((3, 3), int)))


@pytest.mark.parametrize("dtype", [">f8", "f4", ">f4", np.longdouble])
def test_positions_of_other_types(dtype, tmp_path):
    positions = molecule("H2O").positions[None].astype(dtype)
    save(tmp_path / "a.npz", R=positions, z=np.array([8, 1, 1], dtype=">i2"))
    (found,) = read_frames(tmp_path / "a.npz")
    assert found.positions.dtype == np.float64
    assert found.positions.dtype.isnative
    np.testing.assert_array_equal(found.positions, positions[0].astype(float))
    assert found.numbers.tolist() == [8, 1, 1]


@pytest.mark.parametrize("key", ["lattice", "cell", "pbc"])
def test_periodic_archives(key, tmp_path):
    value = np.array([True] * 3) if key == "pbc" else 5.0 * np.eye(3)
    assert "periodic" in message(read_frames, save(tmp_path / "a.npz", **{key: value}))
    zero = np.zeros_like(value)
    assert len(read_frames(save(tmp_path / "a.npz", **{key: zero}))) == 2


@pytest.mark.parametrize(
    "arrays",
    [
        {"z": np.array([8, 1, 2000])},
        {"z": np.array([8, 1, -1])},
        {"z": np.array([8, 1, 2**64 - 1], dtype=np.uint64)},
        {"R": np.zeros((2, 3, 3), complex)},
        {"R": np.full((2, 3, 3), np.inf)},
        {"R": np.zeros((2, 9))},
        {"R": np.zeros(9)},
        {"R": np.zeros((1, 2, 3, 3))},
        {"R": np.zeros((2, 0, 3)), "z": np.zeros(0, int)},
        {"r_unit": np.array([Bomb()], dtype=object)},
        {"charge": np.array([Bomb()], dtype=object)},
        {"R": np.array(["a"])},
        {"z": np.array(["O", "H", "H"])},
    ],
)
def test_archives_that_are_refused(arrays, tmp_path):
    assert "a.npz" in message(read_frames, save(tmp_path / "a.npz", **arrays))
    assert not Bomb.exploded


@pytest.mark.parametrize(
    ("charge", "expected"), [(-2, [-2, -2]), ([-2, 0], [-2, 0]), (np.array(-2.0), [-2, -2])]
)
def test_the_charges_of_an_archive(charge, expected, tmp_path):
    images = read_frames(save(tmp_path / "a.npz", charge=charge, charges=np.full((2, 3), 0.1)))
    assert [total_charge(atoms, None, None) for atoms in images] == expected


def test_the_spin_of_an_archive(tmp_path):
    (first, _) = read_frames(save(tmp_path / "a.npz", spin=3, charge=np.array([0.1, 0.2, 0.3])))
    with pytest.raises(BadInput, match="spin"):
        total_charge(first, None, None)
    first.info.pop("spin")
    with pytest.raises(BadInput, match="charge"):
        total_charge(first, None, None)


# other formats: all frames, and what they say of the charge


def test_every_molecule_of_an_sdf_file(tmp_path):
    for name in ("first", "second"):
        ase.io.write(tmp_path / f"{name}.sdf", molecule("H2O" if name == "first" else "NH3"))
    text = "".join((tmp_path / f"{name}.sdf").read_text() for name in ("first", "second"))
    (tmp_path / "all.sdf").write_text(text)
    assert symbols(tmp_path / "all.sdf") == ["OH2", "NH3"]
    assert symbols(tmp_path / "all.sdf", 1) == ["OH2"]
    (tmp_path / "a.mol").write_text((tmp_path / "first.sdf").read_text().replace("$$$$\n", ""))
    assert symbols(tmp_path / "a.mol") == ["OH2"]
    torn = text.replace("M  END", "", 1).replace("$$$$\n", "", 1)
    (tmp_path / "torn.sdf").write_text(torn)
    message(read_frames, tmp_path / "torn.sdf")
    (tmp_path / "ion.sdf").write_text(text.replace("M  END", "M  CHG  2   1  -1   2  -1\nM  END"))
    found = read_frames(tmp_path / "ion.sdf")
    assert [total_charge(atoms, None, None) for atoms in found] == [-2, -2]
    old = text.replace(
        " 0  0  0  0  0  0  0  0  0  0  0  0", " 0  5  0  0  0  0  0  0  0  0  0  0", 1
    )
    (tmp_path / "old.sdf").write_text(old)
    found = read_frames(tmp_path / "old.sdf")
    assert [total_charge(atoms, None, None) for atoms in found] == [-1, 0]
    doublet = old.replace(" 0  5  0", " 0  4  0", 1)
    (tmp_path / "doublet.sdf").write_text(doublet)
    assert "radical" in message(read_frames, tmp_path / "doublet.sdf")
    (tmp_path / "radical.sdf").write_text(text.replace("M  END", "M  RAD  1   1   2\nM  END"))
    assert "M  RAD" in message(read_frames, tmp_path / "radical.sdf")


def test_every_model_of_a_pdb_file(tmp_path):
    images = [molecule("H2O"), molecule("H2O")]
    ase.io.write(tmp_path / "a.pdb", images)
    assert symbols(tmp_path / "a.pdb") == ["OH2", "OH2"]
    text = (tmp_path / "a.pdb").read_text()
    (tmp_path / "b.pdb").write_text(text + "END\n")
    assert symbols(tmp_path / "b.pdb") == ["OH2", "OH2"]
    (tmp_path / "c.pdb").write_text(text.removesuffix("ENDMDL\n"))
    assert "3 of the 6 atoms" in message(read_frames, tmp_path / "c.pdb")
    assert text.count("O  \n") == 2
    (tmp_path / "d.pdb").write_text(text.replace("O  \n", "O1-\n", 1))
    assert "O1-" in message(read_frames, tmp_path / "d.pdb")


def test_what_a_gen_file_goes_on_with(tmp_path):
    ase.io.write(tmp_path / "a.gen", molecule("H2O"))
    assert symbols(tmp_path / "a.gen") == ["OH2"]
    text = (tmp_path / "a.gen").read_text()
    (tmp_path / "b.gen").write_text(text + text)
    message(read_frames, tmp_path / "b.gen")
    (tmp_path / "c.gen").write_text(text.replace("3 ", "2 ", 1))
    message(read_frames, tmp_path / "c.gen")


def test_torn_trajectories(tmp_path):
    ase.io.write(tmp_path / "a.traj", [molecule("H2O")] * 5)
    whole = (tmp_path / "a.traj").read_bytes()
    assert len(read_frames(tmp_path / "a.traj")) == 5
    for share in (0.3, 0.6, 0.9, 0.99):
        (tmp_path / "torn.traj").write_bytes(whole[: int(share * len(whole))])
        message(read_frames, tmp_path / "torn.traj")


def test_the_charge_of_a_chemical_json_file(tmp_path):
    water = molecule("H2O")
    atoms = {"elements": {"number": [8, 1, 1]}, "coords": {"3d": water.positions.ravel().tolist()}}
    ion = {"atoms": atoms, "properties": {"totalCharge": -2, "totalSpinMultiplicity": 1}}
    (tmp_path / "a.cjson").write_text(json.dumps(ion))
    (found,) = read_frames(tmp_path / "a.cjson")
    assert total_charge(found, None, None) == -2


@pytest.mark.parametrize("suffix", ["db", "json"])
def test_the_charge_that_a_database_states(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    with ase.db.connect(path) as database:
        database.write(molecule("H2O"), charge=-2, name="x")
        database.write(molecule("H2O"))
    found = read_frames(path)
    assert [total_charge(atoms, None, None) for atoms in found] == [-2, 0]
    assert len(read_frames(path, 1)) == 1


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00" + bytes(84)])
def test_reading_changes_no_file(content, tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(content)
    message(read_frames, path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.db"]


INPUTS = {
    "a.com": "%chk=a\n#p hf/sto-3g\n\ntitle\n\n-2 1\nO 0 0 0\nH 0 0 1\nH 0 1 0\n\n",
    "a.nwi": "geometry units au\n O 0 0 0\n H 0 0 1.8\n H 0 1.8 0\nend\n\ncharge -2\n",
    "a.dump": "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS ff ff ff\n0 9\n0 9\n"
    "0 9\nITEM: ATOMS id type x y z\n1 1 0 0 0\n2 2 0 0 1\n",
}


@pytest.mark.parametrize("name", INPUTS)
def test_formats_of_which_ase_drops_something(name, tmp_path):
    (tmp_path / name).write_text(INPUTS[name])
    assert name in message(read_frames, tmp_path / name)


def test_missing_frames_are_no_frames(tmp_path):
    images = [molecule("H2O"), Atoms("He"), molecule("NH3")]
    for name in ("a.traj", "a.xyz", "a.json"):
        ase.io.write(tmp_path / name, images)
        assert symbols(tmp_path / name) == ["OH2", "He", "NH3"]
        assert symbols(tmp_path / name, 2) == ["OH2", "He"]
    with pytest.raises(BadInput):
        read_frames(tmp_path / "a.xyz", 0)


@pytest.mark.parametrize("comment", ["0 3", "2 1", " -1  1 ", "+1 2"])
def test_a_charge_and_a_multiplicity_alone_are_not_passed_over(comment, tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text(f"3\n{comment}\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n")
    with pytest.raises(BadInput, match=r"line 2 of .* multiplicity"):
        read_frames(path)


@pytest.mark.parametrize("comment", ["0 1", "12 500", "frame 3", "0.0 3.0", "1 2 3"])
def test_other_numbers_in_a_comment_are_a_comment(comment, tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text(f"3\n{comment}\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n")
    assert total_charge(read_frames(path)[0], None, None) == 0
