"""How a process of ours starts another one: by module and function, with our ``sys.path``.

Nothing heavy is imported here, and the user's script is not run a second time, as it would be by
`multiprocessing`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

__all__ = ["parent_is_gone", "python_command"]

_BEGIN = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "module, function = sys.argv.pop(1).split(':'); "
    "sys.exit(getattr(importlib.import_module(module), function)())"
)


def python_command(function: str, arguments: Sequence[str]) -> list[str]:
    """The command line that calls ``module:function`` with these arguments in ``sys.argv``.

    What the function returns is the exit code.
    """
    return [sys.executable, "-c", _BEGIN, json.dumps(sys.path), function, *arguments]


def parent_is_gone(parent: int) -> bool:
    """Whether the process that started this one has ended, without a word perhaps."""
    return os.getppid() != parent
