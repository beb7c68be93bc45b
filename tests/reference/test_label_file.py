"""Files of labels: everything comes back, in order, and nothing else is taken for one."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.reference.label_file import (
    Failure,
    Label,
    frames_fingerprint,
    read_labels,
    read_origin,
    write_labels,
)
from tests.tools.small_labels import LEVEL, label, plain_frames, small_labels


def invented(frame, numbers, nao, forces=True):
    """A label of random numbers."""
    rng = np.random.default_rng(frame)
    natoms = len(numbers)
    return Label(
        frame=frame,
        numbers=numbers,
        positions=rng.standard_normal((natoms, 3)),
        energy=float(rng.standard_normal()),
        fock=rng.standard_normal((nao, nao)),
        mo_energy=rng.standard_normal(nao),
        forces=rng.standard_normal((natoms, 3)) if forces else None,
        seconds=float(rng.random()),
    )


def with_labels(labels, failures=()):
    return replace(small_labels(2), labels=tuple(labels), failures=tuple(failures))


def assert_same(first, second):
    for field in fields(Label):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


@pytest.mark.parametrize("forces", [True, False])
def test_everything_comes_back_in_the_order_of_the_frames(forces, tmp_path):
    water, turned, hydrogen = (8, 1, 1), (1, 8, 1), (1, 1)
    numbers = [water, hydrogen, water, turned, water]
    labels = [invented(i, n, 2 * len(n), forces) for i, n in enumerate(numbers)]
    failure = Failure(frame=5, reason="it did not converge")
    parts = [with_labels(labels[:2]), with_labels(labels[2:], [failure])]
    write_labels(tmp_path / "labels.h5", parts)
    found = read_labels(tmp_path / "labels.h5")
    assert found.origin == parts[0].origin
    assert found.failures == (failure,)
    assert len(found.labels) == 5
    for own, original in zip(found.labels, labels, strict=True):
        assert_same(own, original)
    with h5py.File(tmp_path / "labels.h5") as file:
        assert sorted(file) == ["H2", "H2O", "H2O_2", "failed"]
        assert file["H2O/frame"][()].tolist() == [0, 2, 4]
        assert file["H2O/energy"].attrs["unit"] == "Hartree"
        assert ("forces" in file["H2"]) == forces
        assert file["H2O/fock"].chunks is not None
        assert file["H2O/fock"].compression == "gzip"


def test_complete_when_every_frame_was_tried():
    labels = small_labels(2)
    assert labels.complete
    assert not replace(labels, labels=labels.labels[:1]).complete
    failed = (Failure(frame=1, reason="it did not converge"),)
    assert not replace(labels, labels=labels.labels[:1] * 2).complete
    assert replace(labels, labels=labels.labels[:1], failures=failed).complete


def test_fock_matrix_of_a_geometry_and_of_no_other():
    labels = small_labels(2)
    numbers, positions = plain_frames(2)[1]
    np.testing.assert_array_equal(labels.fock(numbers, positions), label(1).fock)
    with pytest.raises(BadInput, match="a geometry of H2O has no label: train on"):
        labels.fock(numbers, positions + 1e-12)
    with pytest.raises(BadInput, match="has no label"):
        labels.fock(numbers[::-1], positions)


def test_level_of_theory():
    labels = small_labels(1)
    labels.check_level(LEVEL)
    labels.check_level(replace(LEVEL, density_fitting="def2-universal-jfit"))  # its name
    for other in (replace(LEVEL, xc="PBE"), replace(LEVEL, charge=2), LevelOfTheory()):
        with pytest.raises(BadInput, match=r"the labels are of LDA/sto-3g .*, charge 0, and not"):
            labels.check_level(other)


def test_fingerprint_of_frames():
    frames = plain_frames(3)
    moved = [*frames[:2], (frames[2][0], frames[2][1] + 1e-12)]
    others = [frames[:2], frames[::-1], moved, [(n[::-1], p) for n, p in frames]]
    assert len({frames_fingerprint(each) for each in [frames, plain_frames(3), *others]}) == 5


def test_what_is_no_file_of_labels(tmp_path):
    with pytest.raises(BadInput, match=r"there is no file .*: make labels with ase-srdft-label"):
        read_labels(tmp_path / "missing.h5")
    path = tmp_path / "labels.h5"
    write_labels(path, [small_labels(2)])
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match="is damaged or no file of labels"):
            read_labels(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "ase_srdft labels 99"
    with pytest.raises(DamagedFile, match="its format is 'ase_srdft labels 99', not"):
        read_labels(path)


def test_altered_numbers_are_noticed(tmp_path):
    path = tmp_path / "labels.h5"
    write_labels(path, [small_labels(1)])
    with h5py.File(path) as file:
        chunk = file["H2O/fock"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        read_labels(path)


def test_nothing_is_no_file_of_labels(tmp_path):
    with pytest.raises(BadInput, match="no labels to write to"):
        write_labels(tmp_path / "labels.h5", iter([]))
    assert list(tmp_path.iterdir()) == []


def test_parts_of_different_origins_are_refused(tmp_path):
    with pytest.raises(BadInput, match="different origins"):
        write_labels(tmp_path / "labels.h5", [small_labels(1), small_labels(2)])


def test_the_origin_alone(tmp_path):
    write_labels(tmp_path / "labels.h5", [small_labels(2)])
    assert read_origin(tmp_path / "labels.h5") == small_labels(2).origin
    with pytest.raises(BadInput, match="there is no file"):
        read_origin(tmp_path / "missing.h5")
