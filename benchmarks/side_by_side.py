"""Timing of several sides in turn, and of the pieces of one."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Seconds:
    """Of the processor, all threads of this process together, and of the clock on the wall."""

    cpu: float
    wall: float
    rounds: int = 1


def medians(
    sides: Mapping[_Key, Callable[[], object]], repeats: int, limit: float = math.inf
) -> dict[_Key, Seconds]:
    """Median times of each side, taken in turn after a first round that does not count.

    Args:
        sides: by name.
        repeats: rounds, at most.
        limit: seconds for all rounds.  Where the first takes a third of it or more, there is one
            more, of the sides that took less than a tenth of it: what they do but once would show.
            Of the others the first round counts.
    """
    first, duration = _round(sides)
    if 3 * duration >= limit:
        quick = {name: side for name, side in sides.items() if 10 * first[name].wall < limit}
        return first | _round(quick)[0]
    rounds = repeats if limit == math.inf else max(1, min(repeats, int(limit / duration)))
    times = [_round(sides)[0] for _ in range(rounds)]
    return {
        name: Seconds(
            statistics.median(each[name].cpu for each in times),
            statistics.median(each[name].wall for each in times),
            rounds,
        )
        for name in sides
    }


def _round(sides: Mapping[_Key, Callable[[], object]]) -> tuple[dict[_Key, Seconds], float]:
    """Times of each side, once, and the seconds of all of them."""
    times = {}
    begin = time.perf_counter()
    for name, side in sides.items():
        cpu, wall = time.process_time(), time.perf_counter()
        side()
        times[name] = Seconds(time.process_time() - cpu, time.perf_counter() - wall)
    return times, time.perf_counter() - begin


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
