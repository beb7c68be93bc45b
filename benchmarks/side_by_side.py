"""Timing of several sides in turn, and of the pieces of one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    """Of the processor, all threads of this process together, and of the clock on the wall."""

    cpu: float
    wall: float


def medians(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Seconds]:
    """Median times of each side, taken in turn after a first round that does not count."""
    times: dict[str, list[Seconds]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            side()
            spent = Seconds(time.process_time() - cpu, time.perf_counter() - wall)
            if repeat > 0:
                times[name].append(spent)
    return {
        name: Seconds(
            statistics.median(each.cpu for each in values),
            statistics.median(each.wall for each in values),
        )
        for name, values in times.items()
    }


def median_seconds(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median wall times, as :func:`medians`."""
    return {name: seconds.wall for name, seconds in medians(sides, repeats).items()}


class Stopwatch:
    """Seconds by label, summed over laps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def start(self) -> None:
        """Begin a lap that :meth:`lap` will end."""
        self._last = time.perf_counter()

    def lap(self, label: str) -> None:
        """Give the time since the last call to a label."""
        now = time.perf_counter()
        self.seconds[label] = self.seconds.get(label, 0.0) + now - self._last
        self._last = now


def print_seconds(title: str, seconds: Mapping[str, float]) -> None:
    """A table of milliseconds and shares."""
    total = sum(seconds.values())
    print(f"\n{title}")
    for label, value in [*seconds.items(), ("sum", total)]:
        print(f"  {label:<44}{1e3 * value:9.1f} ms {100 * value / total:5.0f} %")
