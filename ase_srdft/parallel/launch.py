"""How a process of ours starts another one: by module and function, with our ``sys.path``.

Nothing heavy is imported here, and the user's script is not run a second time, as it would be by
`multiprocessing`.

Files of the folder in which a process is started are no code for it: ``python -c`` would look
there for every module before it looks anywhere else.  Where that folder is in our own ``sys.path``,
by the doing of whoever started us, it is in that of our processes too: they can import what we can.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "ignore_folder",
    "ignore_folder_settings",
    "parent_is_gone",
    "python_command",
    "same_settings",
]

#: Python's word for ``-P`` to processes that others start for us.
_SAFE_PATH = "PYTHONSAFEPATH"
_PYSCF_SETTINGS = "PYSCF_CONFIG_FILE"
#: An empty file that is always there.
_NO_SETTINGS = Path(__file__).parents[1] / "py.typed"

_BEGIN = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "module, function = sys.argv.pop(1).split(':'); "
    "sys.exit(getattr(importlib.import_module(module), function)())"
)


def python_command(function: str, arguments: Sequence[str]) -> list[str]:
    """The command line that calls ``module:function`` with these arguments in ``sys.argv``.

    What the function returns is the exit code.
    """
    return [sys.executable, "-P", "-c", _BEGIN, json.dumps(sys.path), function, *arguments]


@contextmanager
def ignore_folder() -> Iterator[None]:
    """Python processes that `multiprocessing` starts meanwhile do not begin in the current folder.

    They get our ``sys.path`` from it, but only after they have imported `multiprocessing`.
    """
    given = same_settings() | {_SAFE_PATH: "1"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def same_settings() -> dict[str, str]:
    """Variables for a process of ours: PySCF has the settings there that it has here."""
    config = sys.modules.get("pyscf.__config__")
    if config is None:
        return {}
    return {_PYSCF_SETTINGS: str(config.conf_file or _NO_SETTINGS)}


def ignore_folder_settings() -> None:
    """Before PySCF is loaded, here and in our processes: not with settings of the current folder.

    PySCF executes the first there is of the file that ``PYSCF_CONFIG_FILE`` names,
    ``.pyscf_conf.py`` in the current folder, and ``.pyscf_conf.py`` in the home.  The first and the
    last are the user's own and are left to be read.
    """
    if os.path.isfile(os.environ.get(_PYSCF_SETTINGS, "")):
        return
    home = Path(os.environ.get("HOME", ""), ".pyscf_conf.py")
    own = home.is_absolute() and home.is_file()
    os.environ[_PYSCF_SETTINGS] = str(home if own else _NO_SETTINGS)


def parent_is_gone(parent: int) -> bool:
    """Whether the process that started this one has ended, without a word perhaps."""
    return os.getppid() != parent
