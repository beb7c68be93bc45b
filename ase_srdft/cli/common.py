"""What the commands share: one-line errors, exit codes, output files, devices.

Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by the keyboard; a command may return
others of its own (75: interrupted, and can be resumed).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ase_srdft.cli.words import careful_words
from ase_srdft.common.atomic_files import what_went_wrong
from ase_srdft.common.errors import BadInput, ReferenceNotConverged
from ase_srdft.common.settings import nearest
from ase_srdft.dft.kernels.library import chosen, description
from ase_srdft.version import __version__

__all__ = [
    "Parser",
    "above_zero",
    "command_parser",
    "positive",
    "run_command",
    "speaking",
]


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line, and names the flag that was meant."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message}{self._nearest(message)} (--help tells more)\n")

    def _nearest(self, message: str) -> str:
        """The known flag that an unknown one is meant for, in words."""
        if not message.startswith("unrecognized arguments: -"):
            return ""
        return nearest(message.split()[2].partition("=")[0], list(self._option_string_actions))


def command_parser(prog: str, description: str, epilog: str, usage: str | None = None) -> Parser:
    """The parser of a command, with ``--version``; its words are shown as they are broken."""
    parser = Parser(
        prog=prog,
        usage=usage,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show it and exit")
    return parser


class _Version(argparse.Action):
    """Say the version, and which path computes or why none can be named."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            computing = description()
        except BadInput as err:
            computing = str(err)
        print(f"{parser.prog} {__version__}, {computing}")
        parser.exit()


def positive(text: str) -> int:
    """A whole number of at least one, for ``type=`` of an argument."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def above_zero(text: str) -> float:
    """A finite number above zero, for ``type=`` of an argument."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above zero")
    return number


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
    return speaking(parser.prog, lambda: _run(parser, command, arguments))


def speaking(program: str, act: Callable[[], int]) -> int:
    """Act to the end even if nobody can hear it, and fail then, as words were lost.

    A reader that has left (``| head``) knows that, and gets no message.

    Args:
        program: its name, for the line on stderr.
        act: returns the exit code, or raises SystemExit.
    """
    with careful_words() as (out, _):
        try:
            code = act()
        except SystemExit as leaving:  # of argparse, after --help or over bad words
            out.flush()
            if out.lost is None:
                raise
            code = leaving.code if isinstance(leaving.code, int) else 0
        out.flush()
        if out.lost is None or code != 0:
            return code
        if not isinstance(out.lost, BrokenPipeError):
            reason = out.lost.strerror or out.lost
            print(
                f"{program}: error: cannot write to standard output ({reason}): words are lost, "
                "but files are as they should be",
                file=sys.stderr,
            )
        return 1


def _run(
    parser: Parser,
    command: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
) -> int:
    from ase.calculators.calculator import InputError

    from ase_srdft.parallel.launch import ignore_folder_settings

    ignore_folder_settings()
    options = parser.parse_args(arguments)
    try:
        _check_folder()
        chosen()  # the kernels that are asked for, before anything is written
        return command(options)
    except (BadInput, InputError) as err:
        code, reason = 2, str(err)
    except ReferenceNotConverged as err:
        code, reason = 1, str(err)
    except KeyboardInterrupt:
        code, reason = 130, "interrupted"
    except OSError as err:
        place = f" {err.filename}" if err.filename else ""
        reason = f"cannot read or write{place} ({what_went_wrong(err)}): make room, or choose "
        code, reason = 1, reason + "another place"
    print(f"{parser.prog}: error: {' '.join(reason.split())}", file=sys.stderr)
    return code


def _check_folder() -> None:
    """Libraries ask where we are, and would fail with a traceback.

    Raises:
        BadInput: the current folder was removed.
    """
    try:
        os.getcwd()
    except OSError as err:
        raise BadInput(
            f"the current folder cannot be used ({err.strerror}): go to another one with cd"
        ) from err
