"""Writing files so that a reader sees the old one or the new one, never half of either.

Links are followed: what is replaced is the file that a link leads to, and the link stays.  What
is there and is no regular file (a pipe, a terminal, ``/dev/null``, ``/dev/stdout``) is written
into.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ase_srdft.common.errors import BadInput

__all__ = [
    "destination",
    "is_stream",
    "leads_to_stdout",
    "locked_directory",
    "remove_file",
    "replace_atomically",
    "what_went_wrong",
    "writable_directory",
    "writable_file",
    "write_atomically",
]

#: For somebody to read from a pipe by name.
_READER_SECONDS = 60.0
#: Links that lead to links, as many as Linux follows.
_MAX_LINKS = 40
#: Characters of a file's name that a temporary one beside it has too.
_NAME = 40


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside, flush to disk, rename.

    A file that was there leaves its permissions to the new one.  Where it had several names (hard
    links), the others keep the old content.  What is no regular file is written into, all of it at
    once; the link ``/dev/stdout`` is the process's own output, even if that goes to a file.

    Args:
        path: the file to be replaced.
        write: called with the temporary path; what it raises is passed on.

    Raises:
        OSError: it cannot be written, and is as it was.
    """
    try:
        if is_stream(path):
            _write_into(path, write)
        else:
            _replace(destination(path), write)
    except OSError as err:
        if err.errno is None or not _is_temporary(err.filename):
            raise
        raise OSError(err.errno, os.strerror(err.errno), str(path)) from err


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file by text in UTF-8, or by bytes; see `replace_atomically`."""
    whole = content.encode() if isinstance(content, str) else content

    def write(beside: Path) -> None:
        beside.write_bytes(whole)

    replace_atomically(path, write)


def _replace(target: Path, write: Callable[[Path], None]) -> None:
    beside = _beside(target)
    before = os.stat(target) if target.exists() else None
    try:
        write(beside)
        with open(beside, "rb+") as file:
            _take_over(file.fileno(), before)
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    try:
        directory = os.open(target.parent, os.O_RDONLY)
    except PermissionError:  # one may write there, but not look
        return
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _beside(target: Path) -> Path:
    """A temporary path in the same directory; the longest name leaves room for it."""
    return target.with_name(f".{target.name[:_NAME]}.{os.getpid()}.tmp")


def _is_temporary(name: object) -> bool:
    """Whether an error names no file, or one that a user does not know."""
    return name is None or str(name).endswith(f".{os.getpid()}.tmp")


def _take_over(descriptor: int, before: os.stat_result | None) -> None:
    """Owner and permissions of the file that was there; else those of any new file."""
    if before is None:
        os.fchmod(descriptor, 0o666 & ~_umask())
        return
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with suppress(PermissionError):  # then it belongs to whoever writes it
            os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def destination(path: Path) -> Path:
    """Where a file is that is read and written at this path: where it leads, if it is a link.

    Raises:
        OSError: the links lead in a circle.
    """
    if not path.is_symlink():
        return path
    with suppress(FileNotFoundError):  # the file may still be made
        os.stat(path)
    return Path(os.path.realpath(path))


def remove_file(path: Path) -> None:
    """Remove a file if there is one; the link that leads to it stays, and what is none, too."""
    if not is_stream(path):
        destination(path).unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether it is there and can only be written into: a pipe, a device, our own output."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def leads_to_stdout(path: Path) -> bool:
    """Whether it is our standard output by name, where words would mix with what is written."""
    return _descriptor(path) == 1


def _descriptor(path: Path) -> int | None:
    """The open file of ours that a name such as ``/dev/stdout`` or ``/dev/fd/3`` stands for."""
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if folder == f"/proc/{os.getpid()}/fd" and path.name.isdigit():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, os.readlink(path))
    return None


def _write_into(path: Path, write: Callable[[Path], None]) -> None:
    """Make it in a temporary file, as not everything can be written in order, and copy that."""
    with tempfile.TemporaryDirectory(prefix="ase-srdft-") as folder:
        made = Path(folder, "made")
        write(made)
        with open(made, "rb") as source, _opened(path) as sink:
            left = memoryview(source.read())
            while left:
                left = left[os.write(sink, left) :]


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor to write into."""
    own = _descriptor(path)
    if own is None:
        descriptor = _open_for_reader(path)
    else:
        for words in (sys.stdout, sys.stderr):
            if words is not None:
                words.flush()  # what was said before comes before
        descriptor = os.dup(own)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_for_reader(path: Path) -> int:
    """Open what may be a pipe by name that nobody reads from yet."""
    end = time.monotonic() + _READER_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as err:
            if err.errno != errno.ENXIO or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def what_went_wrong(err: OSError) -> str:
    """In one line, without the path."""
    return " ".join((err.strerror or str(err) or type(err).__name__).split())


def writable_file(path: Path) -> Path:
    """Make sure, before the work, that `replace_atomically` can write there after it.

    Raises:
        BadInput: it is a directory or a disk, its directory is missing or read-only, or it is an
            output of ours that is closed.
    """
    try:
        if is_stream(path):
            _check_stream(path)
        else:
            _check_file(path, destination(path))
    except OSError as err:
        raise BadInput(
            f"cannot write {path}: {what_went_wrong(err)}; choose another place"
        ) from None
    return path


def _check_file(path: Path, target: Path) -> None:
    if target.is_dir():
        raise BadInput(f"cannot write {path}: it is a directory; give the name of a file")
    if not target.parent.is_dir():
        raise BadInput(
            f"cannot write {path}: there is no directory {target.parent}; create it first"
        )
    for place in (target, target.parent):
        if place.exists() and not os.access(place, os.W_OK):
            raise BadInput(f"cannot write {path}: {place} is read-only; choose another place")
    probe = _beside(target)
    probe.touch()
    probe.unlink()


def _check_stream(path: Path) -> None:
    own = _descriptor(path)
    if own is not None:
        if fcntl.fcntl(own, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise BadInput(f"cannot write {path}: it is closed, or open for reading only")
        return
    mode = os.stat(path).st_mode
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        kind = "disk" if stat.S_ISBLK(mode) else "socket"
        raise BadInput(f"cannot write {path}: it is a {kind}; give the name of a file")
    if not os.access(path, os.W_OK):
        raise BadInput(f"cannot write {path}: it is read-only; choose another place")


def writable_directory(path: Path) -> Path:
    """Create a directory if need be and make sure that files can be written there.

    Raises:
        BadInput: it is a file, cannot be created, or is read-only.
    """
    try:
        destination(path).mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as err:
        reason = what_went_wrong(err)
        if isinstance(err, FileExistsError):
            reason = "something else is there"
        raise BadInput(
            f"cannot write to the directory {path}: {reason}; choose another directory"
        ) from None
    return path


def locked_directory(path: Path, patience_seconds: float) -> int:
    """Keep other processes from doing the same, for as long as this one lives.

    Args:
        path: a directory.
        patience_seconds: how long another process is given to end.

    Returns:
        What holds the lock, to be closed by :func:`os.close`.

    Raises:
        BadInput: another process has it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    end = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise BadInput(
                    f"another run is at work in {path}: let it end, or choose another directory"
                ) from None
            time.sleep(0.1)
        except OSError:  # a file system without such locks
            return descriptor
        else:
            return descriptor


def _umask() -> int:
    """The permissions that new files are not given; reading it means setting it twice."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
