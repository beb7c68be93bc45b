"""What a command says on its standard output and error: said as far as it can be, never fatal.

A terminal that is gone, a full disk, a reader that has left or an encoding without µ costs words,
and no result.  `run_command` says in the end that words were lost.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from ase_srdft.common.atomic_files import leads_to_stdout

__all__ = ["Words", "careful_words", "words_apart_from"]

#: What stands for characters that an encoding lacks and that are not letters with accents.
_PLAIN = str.maketrans({"µ": "u", "μ": "u", "–": "-", "−": "-", "≤": "<=", "·": ".", "…": "..."})


class Words:
    """A stream of words in the place of ``sys.stdout`` or ``sys.stderr``.

    Attributes:
        lost: why words did not arrive, if they did not; from then on none is tried.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As any stream does."""
        if self.lost is None:
            try:
                self._stream.write(_sayable(text, self._stream))
            except OSError as err:
                self._lose(err)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """As any stream does."""
        self.write("".join(lines))

    def flush(self) -> None:
        """As any stream does."""
        if self.lost is None:
            try:
                self._stream.flush()
            except OSError as err:
                self._lose(err)

    def _lose(self, err: OSError) -> None:
        """What still waits to be written goes nowhere, so that nobody stumbles over it at exit."""
        self.lost = err
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):  # not a file
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
        self._stream.flush()


def _sayable(text: str, stream: Any) -> str:
    """The text in the characters that the stream has."""
    encoding, errors = (
        getattr(stream, "encoding", None) or "utf-8",
        getattr(stream, "errors", None) or "strict",
    )
    try:
        text.encode(encoding, errors)
    except UnicodeEncodeError:
        return "".join(_sayable_character(character, encoding) for character in text)
    return text


def _sayable_character(character: str, encoding: str) -> str:
    for attempt in (character, unicodedata.normalize("NFKD", character.translate(_PLAIN))[:3]):
        found = attempt.encode(encoding, "ignore").decode(encoding)
        if found:
            return found
    return "?"


@contextmanager
def careful_words() -> Iterator[tuple[Words, Words]]:
    """Standard output and error as `Words`, for as long as this lasts."""
    before = sys.stdout, sys.stderr
    _fill_descriptors()
    out, err = (Words(stream or _closed(number)) for number, stream in enumerate(before, start=1))
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def words_apart_from(path: Path | None) -> Iterator[None]:
    """Words go to standard error where a result is to be written to standard output."""
    if path is not None and leads_to_stdout(path):
        with redirect_stdout(sys.stderr):
            yield
    else:
        yield


def _fill_descriptors() -> None:
    """Standard descriptors that are closed would be given to the next files that are opened.

    Open for reading only, so that writing there is an error still.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest number, which is this one


def _closed(number: int) -> TextIO:
    """For a stream that Python found closed: it takes words and fails when it is flushed."""
    return open(number, "w", encoding="utf-8", closefd=False)
