"""Files that are the old one or the new one, and directories that can be written."""

import os
import stat

import pytest

from ase_srdft.errors import BadInput
from ase_srdft.files import replace_atomically, writable_directory


def test_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "file.txt"
    for text in ("first", "second, longer"):
        replace_atomically(path, lambda beside, text=text: beside.write_text(text))
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_there_while_the_new_one_is_written(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    seen = []

    def write(beside):
        beside.write_text("half")
        seen.append((beside.parent, beside != path, path.read_text()))

    replace_atomically(path, write)
    assert seen == [(tmp_path, True, "old")]
    assert path.read_text() == "half"


@pytest.mark.parametrize("before", ["old", None])
def test_a_failing_writer_changes_nothing(before, tmp_path):
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_text(before)

    def write(beside):
        beside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_atomically(path, write)
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["file.txt"])
    assert before is None or path.read_text() == before


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(mask, mode, tmp_path):
    def write(beside):
        beside.touch(mode=0o600)  # as libraries that make temporary files do

    previous = os.umask(mask)
    try:
        replace_atomically(tmp_path / "file", write)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
        assert os.umask(mask) == mask  # and is left as it was
    finally:
        os.umask(previous)


def test_a_directory_is_created_with_its_parents_and_is_left_empty(tmp_path):
    path = tmp_path / "a" / "b"
    assert writable_directory(path) == path
    assert writable_directory(path) == path
    assert path.is_dir()
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_the_way_is_bad_input(name, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(BadInput, match=r"cannot write to the directory .*; choose another with -o"):
        writable_directory(tmp_path / name)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", [".", "below"])
def test_a_read_only_directory_is_bad_input(name, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BadInput, match="Permission denied"):
            writable_directory(tmp_path / name)
    finally:
        tmp_path.chmod(0o700)
