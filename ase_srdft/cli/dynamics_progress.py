"""Progress of dynamics: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ase_srdft.cli.progress_line import Part, ProgressLine, duration, shows_bars

if TYPE_CHECKING:
    from ase_srdft.dynamics.dynamics_step import DynamicsStep

__all__ = ["DynamicsStatus", "dynamics_display"]

_PLAIN_INTERVAL_SECONDS = 10.0
#: Rates, temperatures and shares of paths are those of the last minute.
_RATE_SECONDS = 60.0
#: Left unknown until then.
_KNOWN_SECONDS, _KNOWN_STEPS = 2.0, 3
_SECONDS_PER_DAY, _FS_PER_NS, _FS_PER_PS, _MEV_PER_EV = 86400.0, 1e6, 1e3, 1e3


class DynamicsStatus:
    """The latest figures, as words.

    Args:
        nsteps: at which the run ends.
        timestep_fs: of the integrator (fs).
        step: at which this session begins.
        clock: seconds, from any moment on.
    """

    def __init__(
        self,
        nsteps: int,
        timestep_fs: float,
        step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.nsteps, self.timestep_fs, self.step = nsteps, timestep_fs, step
        self.temperature = self.start_error = math.nan
        self.paths: Counter[str] = Counter()
        self._clock, self._first = clock, step
        self._marks = deque([(clock(), step)])
        self._now = self._marks[0][0]

    def update(self, event: DynamicsStep) -> None:
        """Take in a step."""
        self.step, self._now = event.step, self._clock()
        self.temperature = _running_mean(self.temperature, event.temperature_K)
        error = _MEV_PER_EV * event.certificate.start_error
        self.start_error = _running_mean(self.start_error, error)
        self.paths[event.certificate.path] += 1
        if self._now - self._marks[-1][0] >= 1.0:
            self._marks.append((self._now, self.step))
        while len(self._marks) > 2 and self._now - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()

    @property
    def share(self) -> float:
        """That is done, 0 to 1."""
        return min(1.0, self.step / self.nsteps)

    @property
    def rate(self) -> float:
        """Steps per second in the last minute; 0 where there were none."""
        began, step = self._marks[0]
        seconds = self._now - began
        return (self.step - step) / seconds if seconds > 0.0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """To the end at this rate; None if that is not known, or if it is over."""
        known = self._now - self._marks[0][0] >= _KNOWN_SECONDS
        known = known and self.step - self._first >= _KNOWN_STEPS
        if not known or self.rate == 0.0 or self.step >= self.nsteps:
            return None
        return (self.nsteps - self.step) / self.rate

    @property
    def time_words(self) -> str:
        """How much is simulated, of how much."""
        done, wanted = (n * self.timestep_fs / _FS_PER_PS for n in (self.step, self.nsteps))
        return f"{done:.3f} of {wanted:g} ps"

    @property
    def temperature_words(self) -> str:
        """The mean of late; empty without momenta."""
        return f"T {self.temperature:.0f} K" if math.isfinite(self.temperature) else ""

    @property
    def bracket_words(self) -> str:
        """How wide the bracket of the model alone is; empty at first."""
        known = math.isfinite(self.start_error)
        return f"model alone {self.start_error:.3g} meV" if known else ""

    @property
    def path_words(self) -> str:
        """How the answers of this session came about; empty at first."""
        total = sum(self.paths.values())
        return ", ".join(
            f"{path} {100 * count / total:.0f} %" for path, count in self.paths.most_common()
        )

    @property
    def rate_words(self) -> str:
        """Nanoseconds per day and steps per second; empty at first."""
        if self.rate == 0.0:
            return ""
        per_day = self.rate * self.timestep_fs * _SECONDS_PER_DAY / _FS_PER_NS
        return f"{per_day:.3g} ns/day  {self.rate:.1f} steps/s"

    def line(self) -> str:
        """All of it in one line of a log."""
        left = self.seconds_left
        words = (
            f"{100 * self.share:3.0f} %",
            self.time_words,
            self.temperature_words,
            self.bracket_words,
            self.path_words,
            self.rate_words,
            "" if left is None else f"{duration(left)} left",
        )
        return "  ".join(word for word in words if word)

    def parts(self) -> list[Part]:
        """What may stand beside a bar, in the order in which it is shown."""
        parts = (
            Part(text=self.time_words, rank=0),
            Part(text=self.temperature_words, rank=1),
            Part(text=self.bracket_words, rank=2),
            Part(text=self.path_words, rank=4),
            Part(text=self.rate_words, rank=3, short=self.rate_words.partition("  ")[0]),
        )
        return [part for part in parts if part.text]


def _running_mean(old: float, new: float) -> float:
    return old + 0.05 * (new - old) if math.isfinite(old) else new


@contextmanager
def dynamics_display(status: DynamicsStatus) -> Iterator[Callable[[DynamicsStep], None]]:
    """Gives a function to call with every step."""
    if shows_bars(sys.stdout):
        with _bar(status) as show:
            yield show
    else:
        yield _lines(status)


def _lines(status: DynamicsStatus) -> Callable[[DynamicsStep], None]:
    last = [time.monotonic()]

    def show(event: DynamicsStep) -> None:
        status.update(event)
        now = time.monotonic()
        if now - last[0] >= _PLAIN_INTERVAL_SECONDS or status.step == status.nsteps:
            last[0] = now
            print(status.line(), flush=True)

    return show


@contextmanager
def _bar(status: DynamicsStatus) -> Iterator[Callable[[DynamicsStep], None]]:
    from rich.console import Console
    from rich.live import Live

    began = time.monotonic()

    def now() -> ProgressLine:
        """What is there at this moment."""
        return ProgressLine(
            share=status.share,
            elapsed=time.monotonic() - began,
            left=status.seconds_left,
            parts=tuple(status.parts()),
        )

    with Live(console=Console(), get_renderable=now, refresh_per_second=4):
        yield status.update
