"""Signals that ask a run to stop, from its first moment on."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from time import monotonic
from types import FrameType, TracebackType
from typing import Protocol, runtime_checkable

from ase_srdft.cli.supervisor import stop_signals
from ase_srdft.parallel.launch import parent_is_gone

__all__ = ["INTERRUPTED", "StopRequest", "Stoppable"]

#: Exit code of a run that can go on (sysexits' EX_TEMPFAIL).
INTERRUPTED = 75

#: Signals that come so soon after the first are the same one, sent to the whole group.
_SAME_SIGNAL_SECONDS = 1.0


@runtime_checkable
class Stoppable(Protocol):
    """A run that ends in good order once ``stop_requested`` is set."""

    stop_requested: bool


class StopRequest:
    """SIGINT, SIGTERM, SIGUSR1, SIGHUP end the run after the step in hand; a later SIGINT at once.

    SIGHUP, which says that the terminal is gone, does so unless it was ignored (``nohup``).

    Before there is a run, when nothing can be lost, they end the program.

    Args:
        supervisor: a process without which the run shall not go on either; None for none.
        quiet: say nothing about it: another rank does.
        ending: what is still brought to its end, in words.
    """

    def __init__(
        self,
        supervisor: int | None = None,
        quiet: bool = False,
        ending: str = "this step",
    ) -> None:
        self.supervisor = supervisor
        self.quiet = quiet
        self.ending = ending
        self._first: float | None = None
        self._run: Stoppable | None = None

    def __enter__(self) -> StopRequest:
        signals = stop_signals()
        self._previous = {number: signal.signal(number, self._request) for number in signals}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)  # the supervisor has blocked them
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def attach(self, run: Stoppable) -> None:
        """Name the run that a signal stops from now on."""
        self._run = run

    def check_supervisor(self) -> None:
        """Ask the run to stop if the supervisor has ended."""
        if self.supervisor is not None and parent_is_gone(self.supervisor):
            self._stop()

    def _stop(self) -> None:
        self._first = self._first or monotonic()
        assert self._run is not None
        self._run.stop_requested = True

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._run is None:
            self._say("stopped before the run began")
            raise SystemExit(INTERRUPTED)
        if self._first is None:
            self._say(f"stopping after {self.ending}; Ctrl-C once more to stop at once")
        elif number == signal.SIGINT and monotonic() - self._first > _SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt
        self._stop()

    def _say(self, words: str) -> None:
        if not self.quiet:
            with suppress(OSError):  # the terminal may be what is gone
                print(words, file=sys.stderr, flush=True)
