"""Files that are the old one or the new one, and directories that can be written."""

import errno
import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from ase_srdft.common import atomic_files
from ase_srdft.common.atomic_files import (
    is_stream,
    remove_file,
    replace_atomically,
    writable_directory,
    writable_file,
)
from ase_srdft.common.errors import BadInput


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
    with pytest.raises(BadInput, match=r"cannot write to the directory .*; choose another"):
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


# Links


def text(words):
    return lambda beside: beside.write_text(words)


@pytest.fixture(params=["there", "not there yet", "by two links", "in a linked directory"])
def linked(request, tmp_path):
    """A path that leads to a file elsewhere, and that file."""
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "file", tmp_path / "link"
    if request.param == "in a linked directory":
        link.symlink_to("store")
        return link / "file", target
    if request.param == "by two links":
        (tmp_path / "between").symlink_to("store/file")
        link.symlink_to("between")
    else:
        link.symlink_to("store/file")  # relative to the link, wherever we are
    if request.param != "not there yet":
        target.write_text("old")
    return link, target


def test_links_are_followed(linked, tmp_path, monkeypatch):
    path, target = linked
    monkeypatch.chdir("/")
    before = sorted(p for p in tmp_path.rglob("*") if p.is_symlink())
    assert writable_file(path) == path
    replace_atomically(path, text("new"))
    assert target.read_text() == path.read_text() == "new"
    assert before == sorted(p for p in tmp_path.rglob("*") if p.is_symlink())
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["file"]


def test_a_failing_writer_leaves_link_and_file(linked):
    path, target = linked
    before = target.read_text() if target.exists() else None

    def write(beside):
        beside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*'") as caught:
        replace_atomically(path, write)
    assert (caught.value.errno, caught.value.filename) == (28, str(path))
    assert (target.read_text() if target.exists() else None) == before
    assert list(target.parent.iterdir()) == ([] if before is None else [target])


def test_a_file_is_removed_and_the_link_to_it_stays(linked):
    path, target = linked
    remove_file(path)
    remove_file(path)
    assert not target.exists()
    replace_atomically(path, text("new"))
    assert target.read_text() == "new"


@pytest.mark.parametrize(
    ("name", "leads_to", "message"),
    [
        ("circle", "circle", "Too many levels of symbolic links"),
        ("to-directory", ".", "it is a directory"),
        ("dangling", "no/such/file", "there is no directory .*/no/such; create it first"),
        ("below-a-file", "file/below", "there is no directory|Not a directory"),
        ("too-long", "x" * 300, "File name too long"),
    ],
)
def test_links_that_lead_to_no_file(name, leads_to, message, tmp_path):
    (tmp_path / "file").write_text("precious")
    path = tmp_path / name
    path.symlink_to(leads_to)
    with pytest.raises(BadInput, match=message):
        writable_file(path)
    with pytest.raises(OSError):  # noqa: PT011 - whichever it is
        replace_atomically(path, text("new"))
    assert path.is_symlink()
    assert (tmp_path / "file").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_directories_by_links(tmp_path):
    link, circle = tmp_path / "link", tmp_path / "circle"
    link.symlink_to("store/run")
    circle.symlink_to("circle")
    for _ in range(2):
        assert writable_directory(link) == link
        assert (tmp_path / "store" / "run").is_dir()
    assert link.is_symlink()
    with pytest.raises(BadInput, match="symbolic links"):
        writable_directory(circle)


def test_other_names_keep_the_old_content(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("old")
    other.hardlink_to(path)
    replace_atomically(path, text("new"))
    assert (path.read_text(), other.read_text()) == ("new", "old")


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_permissions_of_a_file_that_was_there_stay(mode, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    replace_atomically(path, text("new"))
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 1234, 4321)
    replace_atomically(path, text("new"))
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


def test_the_longest_name(tmp_path):
    path = tmp_path / ("n" * 255)
    writable_file(path)
    replace_atomically(path, text("new"))
    assert path.read_text() == "new"


# What is no regular file


def device(tmp_path, name, minor):
    """A device of memory: our own where we may make one, so that no mistake harms the machine."""
    path = tmp_path / name
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.open("wb").close()
    except OSError:
        path.unlink(missing_ok=True)
        if os.geteuid() == 0:
            pytest.skip("root, but no devices can be made here")
        path.symlink_to(f"/dev/{name}")
    return path


@pytest.mark.parametrize("by_link", [False, True])
def test_a_device_stays_a_device(by_link, tmp_path):
    path = null = device(tmp_path, "null", 3)
    if by_link:
        path = tmp_path / "link"
        path.symlink_to(null.name)
    assert is_stream(writable_file(path))
    before = sorted(p.name for p in tmp_path.iterdir())
    replace_atomically(path, text("words"))
    remove_file(path)
    assert null.is_char_device()
    assert path.is_symlink() == (by_link or null.is_symlink())
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_full_device_is_an_error_that_names_it(tmp_path):
    full = device(tmp_path, "full", 7)
    writable_file(full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        replace_atomically(full, text("words"))
    assert caught.value.filename == str(full)
    assert full.is_char_device()


@pytest.mark.parametrize("early", [True, False])
def test_a_pipe_by_name_gets_it_all(early, tmp_path):
    path, large = tmp_path / "pipe", "words" * 50_000
    os.mkfifo(path)
    writable_file(path)
    received = []

    def receive():
        time.sleep(0.0 if early else 0.3)
        received.append(path.read_text())

    reader = threading.Thread(target=receive, daemon=True)
    reader.start()
    replace_atomically(path, text(large))
    reader.join(10.0)
    assert received == [large]
    assert path.is_fifo()


def test_a_pipe_that_nobody_reads_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_READER_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device or address"):
        replace_atomically(tmp_path / "pipe", text("words"))


@pytest.fixture
def numbered():
    """Descriptors to be closed again."""
    opened = []
    yield opened
    for descriptor in opened:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_file_of_ours_is_written_into(name, numbered, tmp_path):
    """Even a regular one, where it stands: ``--json /dev/stdout >> file``."""
    path = tmp_path / "file"
    numbered.append(os.open(path, os.O_WRONLY | os.O_CREAT))
    os.write(numbered[0], b"before ")
    where = Path(name.format(numbered[0]))
    assert is_stream(writable_file(where))
    replace_atomically(where, text("words "))
    os.write(numbered[0], b"after")
    assert path.read_text() == "before words after"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_open_file_that_is_closed_or_for_reading_only(numbered, tmp_path):
    (tmp_path / "file").write_text("precious")
    numbered.append(os.open(tmp_path / "file", os.O_RDONLY))
    with pytest.raises(BadInput, match="it is closed, or open for reading only"):
        writable_file(Path(f"/dev/fd/{numbered[0]}"))
    with pytest.raises(BadInput, match="Bad file descriptor"):
        writable_file(Path("/dev/fd/987"))


def test_a_socket_is_no_file(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        with pytest.raises(BadInput, match="it is a socket"):
            writable_file(tmp_path / "socket")


# Before the work


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_place_that_takes_no_file_is_found_before_the_work(error, tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError(error, os.strerror(error), str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(BadInput, match=os.strerror(error)):
        writable_file(tmp_path / "file")


def test_looking_leaves_nothing(tmp_path):
    assert writable_file(tmp_path / "file") == tmp_path / "file"
    assert list(tmp_path.iterdir()) == []
