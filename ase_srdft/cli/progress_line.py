"""One line of progress that fits a terminal: what matters least gives way first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Part", "ProgressLine", "duration", "shows_bars"]

#: Columns of the bar: on a wide terminal, on others, and where there is hardly room for it.
_BAR, _SHORT_BAR, _SHORTEST_BAR = 20, 10, 4
#: A terminal as wide as this one is wide.
_WIDE = 120
_GAP = "  "
#: Terminals that cannot move the cursor.
_NO_CURSOR = ("dumb", "unknown")


def shows_bars(stream: Any) -> bool:
    """Whether it is a terminal that can show a line again, changed."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in _NO_CURSOR


def duration(seconds: float) -> str:
    """In words: ``1:05``, ``2:01:05`` or ``12 days``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours / 24:.0f} days"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Words that are shown if there is room.

    Attributes:
        text: the words.
        rank: the lowest are the last to give way.
        short: what is shown where there is no room for all of them; empty for nothing.
    """

    text: str
    rank: int
    short: str = ""


@dataclass(frozen=True, kw_only=True)
class ProgressLine:
    """Bar, percentage and time, and beside them as much as there is room for; for rich.

    Attributes:
        share: that is done, 0 to 1.
        elapsed: seconds.
        left: seconds; None if not known.
        parts: in the order in which they are shown.
    """

    share: float
    elapsed: float
    left: float | None
    parts: Sequence[Part]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The line, as wide as the terminal is now."""
        from rich.text import Text

        plain = options.ascii_only or console.no_color or not console.color_system
        width, words = self.fitted(options.max_width)
        done = round(self.share * width)
        dash = "#" if options.ascii_only else "━"
        rest = ("-" if options.ascii_only else " ") if plain else dash
        line = Text(no_wrap=True, overflow="crop", end="")
        line.append(dash * done, "bar.complete")
        line.append(rest * (width - done), "bar.back")
        line.append((_GAP if width else "") + words)
        yield line

    def fitted(self, columns: int) -> tuple[int, str]:
        """The length of the bar, and the words beside it."""
        percentage = f"{100 * self.share:3.0f} %"
        elapsed = duration(self.elapsed)
        left = [] if self.left is None else [f"{duration(self.left)} left"]
        for words in ([percentage, elapsed, *left], [percentage, *(left or [elapsed])]):
            room = columns - len(_GAP.join(["", *words]))
            if room >= _SHORTEST_BAR:
                break
        else:
            return 0, _GAP.join(words)[:columns]
        bar = min(room, _BAR if columns >= _WIDE else _SHORT_BAR)
        return bar, _GAP.join([*words, *self._beside(room - bar)])

    def _beside(self, room: int) -> list[str]:
        """The parts that there is room for, the most important ones first."""
        shown: dict[int, str] = {}
        for index in sorted(range(len(self.parts)), key=lambda index: self.parts[index].rank):
            part = self.parts[index]
            for text in filter(None, (part.text, part.short)):
                if len(_GAP) + len(text) <= room:
                    shown[index] = text
                    room -= len(_GAP) + len(text)
                    break
        return [shown[index] for index in sorted(shown)]
