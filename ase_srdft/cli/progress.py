"""Progress of a training run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ase_srdft.cli.progress_line import Part, ProgressLine, duration, shows_bars

if TYPE_CHECKING:
    from ase_srdft.training.events import Event

__all__ = ["Status", "progress_display"]

_PLAIN_INTERVAL_SECONDS = 10.0
#: Molecules that a line names at each validation.
_NAMED = 5
#: The rate is that of the last minute, and known after so many seconds and steps.
_RATE_SECONDS, _KNOWN_SECONDS, _KNOWN_STEPS = 60.0, 2.0, 3


class Status:
    """The latest figures, as words; what is not known yet, or is no number, is left out.

    Args:
        steps: at which the run ends.
        minutes: after which it ends; None for no such limit.
        step: at which this session begins.
        elapsed: seconds of training before this session.
    """

    def __init__(self, steps: int, minutes: float | None, step: int, elapsed: float) -> None:
        self.steps, self.minutes = steps, minutes
        self.energy = self.width = self.validated = math.nan
        self.acceptance = self.hamiltonian = math.nan
        self.worst: tuple[tuple[str, float], ...] = ()
        self.step, self.elapsed, self.progress, self.nsamples = step, elapsed, 0.0, 0
        self._first = step
        self._marks = deque([(elapsed, step)])

    def update(self, event: Event) -> None:
        """Take in an event."""
        if event.training is not None:
            self.energy = _running_mean(self.energy, event.training.energy)
            self.width = _running_mean(self.width, event.training.bracket_width)
            if event.training.hamiltonian_error is not None:
                self.hamiltonian = event.training.hamiltonian_error
        if event.sampling is not None:
            self.acceptance = event.sampling.acceptance
        if event.validation is not None:
            self.validated = event.validation.bracket_width
            self.worst = event.validation.worst
        self.step, self.elapsed, self.nsamples = event.step, event.elapsed, event.nsamples
        self.progress = event.progress
        if self.elapsed - self._marks[-1][0] >= 1.0:
            self._marks.append((self.elapsed, self.step))
        while len(self._marks) > 2 and self.elapsed - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """Training steps per second, in the last minute; 0 where there was none."""
        elapsed, step = self._marks[0]
        seconds = self.elapsed - elapsed
        return (self.step - step) / seconds if seconds > 0.0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the first limit is reached, at this rate; None if unknown, or if it is over."""
        if self.progress >= 1.0:
            return None
        left = []
        if self.minutes is not None:
            left.append(60.0 * self.minutes - self.elapsed)
        seconds = self.elapsed - self._marks[0][0]
        known = seconds >= _KNOWN_SECONDS and self.step - self._first >= _KNOWN_STEPS
        if known and self.rate > 0.0:
            left.append((self.steps - self.step) / self.rate)
        return max(0.0, min(left)) if left else None

    @property
    def error(self) -> str:
        """How wide the brackets are, or how wrong the predicted matrices; empty at first."""
        held_out = self.held_out
        if math.isfinite(self.hamiltonian):
            bracket = f"  bracket ({held_out})" if held_out else ""
            return f"Hamiltonian error {_micro(self.hamiltonian)}{bracket}"
        if math.isfinite(self.width):
            return f"bracket {_micro(self.width)}" + (f" ({held_out})" if held_out else "")
        return f"bracket ({held_out})" if held_out else ""

    @property
    def held_out(self) -> str:
        """How wide they are on held-out frames; empty before the first validation."""
        return f"held out {_micro(self.validated)}" if math.isfinite(self.validated) else ""

    def worst_words(self, count: int) -> str:
        """So many molecules with the widest held-out brackets; empty for one molecule."""
        named = [f"{name} {_micro(width)}" for name, width in self.worst[:count]]
        return f"widest {', '.join(named)}" if named else ""

    @property
    def energy_words(self) -> str:
        """The mean energy; empty at first, and where it is not what is learnt."""
        known = math.isfinite(self.energy) and not math.isfinite(self.hamiltonian)
        return f"E {self.energy:.5f} Eh" if known else ""

    @property
    def rate_words(self) -> str:
        """The rate; empty at first."""
        return f"{self.rate:.1f} steps/s" if self.rate > 0.0 else ""

    def line(self) -> str:
        """All of it in one line of a log."""
        accepted = ""
        if self.nsamples and math.isfinite(self.acceptance):
            accepted = f" (accepted {self.acceptance:.2f})"
        left = self.seconds_left
        words = (
            f"{100 * self.progress:3.0f} %",
            f"step {self.step}",
            self.energy_words,
            self.error,
            f"samples {self.nsamples}{accepted}",
            self.rate_words,
            "" if left is None else f"{duration(left)} left",
        )
        return "  ".join(word for word in words if word)

    def parts(self) -> list[Part]:
        """What may stand beside a bar, in the order in which it is shown."""
        accepted = ""
        if math.isfinite(self.acceptance):
            accepted = f" ({100 * self.acceptance:.0f} % accepted)"
        samples = f"{self.nsamples} samples"
        parts = (
            Part(text=f"step {self.step}", rank=1),
            Part(text=self.energy_words, rank=2),
            Part(text=self.error, rank=0, short=self.held_out),
            Part(text=samples + accepted, rank=3, short=samples),
            Part(text=self.rate_words, rank=4),
            Part(text=self.worst_words(1), rank=5),
        )
        return [part for part in parts if part.text]


def _micro(hartree: float) -> str:
    value = 1e6 * hartree
    return f"{value:.0f} µEh" if value >= 9.95 else f"{value:.2g} µEh"


def _running_mean(old: float, new: float) -> float:
    if not math.isfinite(new):
        return old
    return old + 0.05 * (new - old) if math.isfinite(old) else new


@contextmanager
def progress_display(status: Status) -> Iterator[Callable[[Event], None]]:
    """Gives a function to call with every event."""
    if shows_bars(sys.stdout):
        with _bar(status) as show:
            yield show
    else:
        yield _lines(status)


def _lines(status: Status) -> Callable[[Event], None]:
    last = [-_PLAIN_INTERVAL_SECONDS]

    def show(event: Event) -> None:
        status.update(event)
        now = time.monotonic()
        if event.validation is None and now - last[0] < _PLAIN_INTERVAL_SECONDS:
            return
        if event.sampling is not None:
            return
        last[0] = now
        print(status.line(), flush=True)
        if event.validation is not None and status.worst:
            print(f"       {status.worst_words(_NAMED)}", flush=True)

    return show


@contextmanager
def _bar(status: Status) -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.live import Live

    began = time.monotonic()
    last_event = [began]

    def now() -> ProgressLine:
        """What is there at this moment, also when nothing has happened for a while."""
        moment, left = time.monotonic(), status.seconds_left
        return ProgressLine(
            share=status.progress,
            elapsed=moment - began,
            left=None if left is None else max(0.0, left - (moment - last_event[0])),
            parts=tuple(status.parts()),
        )

    def show(event: Event) -> None:
        status.update(event)
        last_event[0] = time.monotonic()

    with Live(console=Console(), get_renderable=now, refresh_per_second=4):
        yield show
