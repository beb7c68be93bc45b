"""Which commit the package's own sources are at, where they are a checkout of git's."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

__all__ = ["source_commit"]

_FOLDER = Path(__file__).resolve().parents[1]
_PATIENCE_SECONDS = 10.0


@cache
def source_commit(folder: Path = _FOLDER) -> str | None:
    """The commit, with ``-dirty`` behind it where tracked files were changed since.

    None where the folder belongs to no repository, as after a usual installation, or git cannot
    tell.  A repository that merely has the installed package somewhere below it, as that of a
    project with a virtual environment has, does not count: it does not track the folder's files.

    Args:
        folder: of the package.
    """
    if not _git(folder, "ls-files", "--error-unmatch", "__init__.py"):
        return None
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None


def _git(folder: Path, *words: str) -> str:
    """What git says; nothing if it fails, or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
