"""Progress of a training run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase_srdft.training.events import Event
    from ase_srdft.training.run_directory import RunDirectory
    from ase_srdft.training.trainer import Trainer

__all__ = ["progress_display"]

_PLAIN_INTERVAL_SECONDS = 10.0


class _Status:
    """The latest figures, as words."""

    def __init__(self) -> None:
        self.energy = self.width = self.validated = float("nan")
        self.acceptance = self.hamiltonian = float("nan")
        self._first: tuple[float, int] | None = None
        self.rate = 0.0

    def update(self, event: Event) -> None:
        """Take in an event."""
        if event.training is not None:
            weight = 0.05 if math.isfinite(self.energy) else 1.0  # a running mean
            self.energy = _towards(self.energy, event.training.energy, weight)
            self.width = _towards(self.width, event.training.bracket_width, weight)
            if event.training.hamiltonian_error is not None:
                self.hamiltonian = event.training.hamiltonian_error
        if event.sampling is not None:
            self.acceptance = event.sampling.acceptance
        if event.validation is not None:
            self.validated = event.validation.bracket_width
        if self._first is None:
            self._first = (event.elapsed, event.step)
        seconds = event.elapsed - self._first[0]
        if seconds > 0:
            self.rate = (event.step - self._first[1]) / seconds

    def __str__(self) -> str:
        held_out = ""
        if math.isfinite(self.validated):
            held_out = f" (held out {1e6 * self.validated:.0f})"
        if math.isfinite(self.hamiltonian):
            text = f"Hamiltonian error {1e6 * self.hamiltonian:.0f} uEh"
            return text + (held_out and f"  bracket{held_out}")
        return f"E {self.energy:.5f} Eh  bracket {1e6 * self.width:.0f} uEh{held_out}"


def _towards(old: float, new: float, weight: float) -> float:
    return new if weight == 1.0 else old + weight * (new - old)


@contextmanager
def progress_display(
    trainer: Trainer, directory: RunDirectory
) -> Iterator[Callable[[Event], None]]:
    """Gives a function to call with every event."""
    level, formulas = trainer.config.level, ", ".join(trainer.names)
    print(
        f"{formulas} at {level}, {'going on in' if directory.resumed else 'into'} {directory.path}",
        flush=True,
    )
    status = _Status()
    if sys.stdout.isatty():
        with _bar(status) as show:
            yield show
    else:
        yield _lines(status)


def _lines(status: _Status) -> Callable[[Event], None]:
    last = [-_PLAIN_INTERVAL_SECONDS]

    def show(event: Event) -> None:
        status.update(event)
        now = time.monotonic()
        if event.validation is None and now - last[0] < _PLAIN_INTERVAL_SECONDS:
            return
        if event.sampling is not None:
            return
        last[0] = now
        accepted = f" (accepted {status.acceptance:.2f})" if event.nsamples else ""
        print(
            f"{100 * event.progress:3.0f} %  step {event.step}  {status}  "
            f"samples {event.nsamples}{accepted}  {status.rate:.1f} steps/s",
            flush=True,
        )

    return show


@contextmanager
def _bar(status: _Status) -> Iterator[Callable[[Event], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, refresh_per_second=4) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(event: Event) -> None:
            status.update(event)
            words = f"step {event.step}  {status}  {event.nsamples} samples"
            if math.isfinite(status.acceptance):
                words += f" ({100 * status.acceptance:.0f} % accepted)"
            words += f"  {status.rate:.1f} steps/s"
            bar.update(task, completed=event.progress, description=words)

        yield show
