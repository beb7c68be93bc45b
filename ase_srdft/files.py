"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from ase_srdft.errors import BadInput

__all__ = ["locked_directory", "replace_atomically", "writable_directory"]


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside, flush to disk, rename.

    Args:
        path: the file to be replaced.
        write: called with the temporary path; what it raises is passed on.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def writable_directory(path: Path) -> Path:
    """Create a directory if need be and make sure that files can be written there.

    Raises:
        BadInput: it is a file, cannot be created, or is read-only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as err:
        reason = err.strerror or str(err)
        raise BadInput(
            f"cannot write to the directory {path}: {reason}; choose another with -o"
        ) from err
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
        except BlockingIOError as err:
            if time.monotonic() > end:
                os.close(descriptor)
                raise BadInput(
                    f"another run is at work in {path}: let it end, or choose another directory"
                ) from err
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
