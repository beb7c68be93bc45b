"""What the commands share: one-line errors, exit codes, output files, devices.

Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by the keyboard; a command may return
others of its own (75: interrupted, and can be resumed).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

__all__ = ["Parser", "check_writable", "positive", "run_command"]


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help tells more)\n")


def positive(text: str) -> int:
    """A whole number of at least one, for ``type=`` of an argument."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def check_writable(path: Path) -> Path:
    """Make sure, before the work, that a file can be written after it.

    Raises:
        BadInput: it cannot.
    """
    from ase_srdft.files import writable_file

    return writable_file(path)


def run_command(
    parser: Parser,
    command: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse, run, and turn what the user can mend into one line on stderr.

    Args:
        parser: its ``prog`` begins the line.
        command: returns the exit code; what it does with Ctrl-C is its own matter.
        arguments: without the program's name; None for those of the process.

    Returns:
        The exit code.  Errors that are not the user's leave as they are, with a traceback, and
        Python's exit code is then 1.
    """
    from ase.calculators.calculator import InputError

    from ase_srdft.errors import BadInput, ReferenceNotConverged
    from ase_srdft.launch import ignore_folder_settings

    ignore_folder_settings()
    options = parser.parse_args(arguments)
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except (BadInput, InputError) as err:
        code, reason = 2, str(err)
    except ReferenceNotConverged as err:
        code, reason = 1, str(err)
    except KeyboardInterrupt:
        code, reason = 130, "interrupted"
    except BrokenPipeError:
        # the reader has left (``| head``): nothing to say, and nowhere to say it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    print(f"{parser.prog}: error: {' '.join(reason.split())}", file=sys.stderr)
    return code
