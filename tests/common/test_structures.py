"""Reading structures: every format gives the same atoms, every bad file one clear line."""

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.io import Trajectory

from ase_srdft.common.errors import BadInput
from ase_srdft.common.structures import read_frames


def frames(nframes=4):
    """Ethanol, each frame with its atoms a little elsewhere."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(nframes):
        atoms = molecule("CH3CH2OH")
        atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
        images.append(atoms)
    return images


def write(path, images):
    """Write the frames in the format that the file's name tells."""
    if path.suffix == ".npz":
        names = ("nuclear_charges", "coords") if path.stem == "rmd17" else ("z", "R")
        arrays = (images[0].numbers, np.array([atoms.positions for atoms in images]))
        energies = np.zeros(len(images))
        np.savez(path, **dict(zip(names, arrays, strict=True)), energies=energies)
    elif path.suffix == ".traj":
        with Trajectory(path, "w") as trajectory:
            for atoms in images:
                trajectory.write(atoms)
    elif path.suffix == ".db":
        with ase.db.connect(path) as database:
            for atoms in images:
                database.write(atoms)
    else:
        ase.io.write(path, images)


NAMES = ["a.xyz", "a.extxyz", "a.traj", "a.db", "a.json", "rmd17.npz", "md17.npz"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [None, 2, 9])
def test_every_format_gives_the_same_atoms(name, limit, tmp_path):
    images = frames()
    write(tmp_path / name, images)
    found = read_frames(tmp_path / name, limit)
    assert len(found) == min(limit or 4, 4)
    for atoms, expected in zip(found, images, strict=False):
        np.testing.assert_array_equal(atoms.numbers, expected.numbers)
        np.testing.assert_allclose(atoms.positions, expected.positions, atol=1e-7)


@pytest.mark.parametrize("name", ["a.gen", "a.pdb"])
def test_a_format_of_single_structures(name, tmp_path):
    write(tmp_path / name, frames(1))
    (found,) = read_frames(tmp_path / name, 5)
    np.testing.assert_allclose(found.positions, frames(1)[0].positions, atol=1e-3)


def test_one_frame_without_the_axis_of_frames(tmp_path):
    water = molecule("H2O")
    np.savez(tmp_path / "one.npz", z=water.numbers, R=water.positions)
    (found,) = read_frames(tmp_path / "one.npz")
    np.testing.assert_array_equal(found.positions, water.positions)


def test_rmd17_frames(md17_folder):
    found = read_frames(md17_folder / "rmd17_ethanol_public.npz", 3)
    assert [str(atoms.symbols) for atoms in found] == ["C2OH6"] * 3
    assert 1.0 < found[0].get_distance(0, 1) < 2.0  # Angstrom


def message(function, *arguments):
    """The message of the BadInput that a call raises: one line."""
    with pytest.raises(BadInput) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_missing_file(tmp_path):
    assert "there is no file" in message(read_frames, tmp_path / "missing.xyz")
    assert "there is no file" in message(read_frames, tmp_path)


@pytest.mark.parametrize("name", ["a.xyz", "a.traj", "a.db", "a.unheard", "a.npz"])
def test_a_file_of_something_else(name, tmp_path):
    (tmp_path / name).write_text("To be, or not to be\nthat is the question\n")
    text = message(read_frames, tmp_path / name)
    assert name in text
    assert "read" in text


@pytest.mark.parametrize("name", ["a.xyz", "a.traj", "a.npz"])
def test_an_empty_file(name, tmp_path):
    (tmp_path / name).touch()
    assert name in message(read_frames, tmp_path / name)


def test_a_file_without_structures(tmp_path):
    np.savez(tmp_path / "none.npz", z=np.array([1, 1]), R=np.zeros((0, 2, 3)))
    assert "holds no structure" in message(read_frames, tmp_path / "none.npz")


def test_a_truncated_archive(tmp_path):
    write(tmp_path / "md17.npz", frames(50))
    whole = (tmp_path / "md17.npz").read_bytes()
    (tmp_path / "md17.npz").write_bytes(whole[: len(whole) // 2])
    assert "no readable .npz archive" in message(read_frames, tmp_path / "md17.npz")


def test_a_single_array_under_the_name_of_an_archive(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((1, 1, 3)))
    assert "it is a single array" in message(read_frames, tmp_path / "a.npz")


def test_a_damaged_archive(tmp_path):
    write(tmp_path / "md17.npz", frames(50))
    whole = bytearray((tmp_path / "md17.npz").read_bytes())
    whole[len(whole) // 2] ^= 255
    (tmp_path / "md17.npz").write_bytes(whole)
    assert "no readable .npz archive" in message(read_frames, tmp_path / "md17.npz")


class Bomb:
    """An object whose unpickling would be seen."""

    exploded = False

    def __reduce__(self):
        return (setattr, (Bomb, "exploded", True))


@pytest.mark.parametrize("key", ["z", "R"])
def test_a_pickled_object_is_refused_unopened(key, tmp_path):
    arrays = {"z": np.array([1]), "R": np.zeros((1, 1, 3))}
    arrays[key] = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "a.npz", **arrays)
    text = message(read_frames, tmp_path / "a.npz")
    assert f"the array {key}" in text
    assert "pickled" in text
    assert not Bomb.exploded


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"R": np.zeros((1, 1, 3))}, "none of the arrays nuclear_charges, z, only R"),
        ({"z": np.array([1])}, "none of the arrays coords, R, only z"),
        ({"z": np.array([1.0]), "R": np.zeros((1, 1, 3))}, "float64 of shape (1,)"),
        ({"z": np.array([1, 1]), "R": np.zeros((4, 3, 3))}, "shape (4, 3, 3)"),
        ({"z": np.array([1]), "R": np.zeros((1, 1, 3), dtype=int)}, "int64 of shape (1, 1, 3)"),
    ],
)
def test_an_archive_laid_out_otherwise(arrays, words, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    assert words in message(read_frames, tmp_path / "a.npz")


def test_a_limit_of_nothing(tmp_path):
    assert "limit of 0 frames" in message(read_frames, tmp_path / "a.xyz", 0)


def test_the_frame_at_fault_is_named(tmp_path):
    images = frames(3)
    images[2].positions[4] = images[2].positions[0] + [0.0, 0.0, 0.1]
    write(tmp_path / "md17.npz", images)
    text = message(read_frames, tmp_path / "md17.npz")
    assert "frame 2 of" in text
    assert "atoms 0 (C) and 4 (H) are 0.100 Angstrom apart" in text
