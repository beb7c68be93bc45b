"""Small drawings: axes, lines, marks and bars as one inline SVG, coloured by the page's CSS.

A figure is 560 units wide and scales with the page.  Colours, line widths and the size of the
letters are CSS classes (:mod:`ase_srdft.runs.report.style`), so that dark mode and narrow
screens need no second drawing.  Tooltips are ``<title>`` elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

__all__ = ["Axis", "Figure", "Mark", "markup", "number"]

_WIDTH = 560.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 34.0, 50.0
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def markup(words: object) -> str:
    """Any text as it may stand in HTML, in XML and in a quoted attribute.

    >>> markup('<a & "b">' + chr(0))
    '&lt;a &amp; &quot;b&quot;&gt;'
    """
    return escape("".join(c for c in str(words) if c.isprintable() or c == "\n"))


def number(value: float, digits: int = 3) -> str:
    """A number as people read it: significant digits, thousands apart, a true minus sign.

    >>> number(1593.6), number(0.04812), number(-48.0), number(1e-5), number(200_000)
    ('1,594', '0.0481', '−48', '10⁻⁵', '200,000')
    """
    if not math.isfinite(value):
        return "not finite"
    if value != 0 and not 1e-3 <= abs(value) < 1e7:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
        return power if mantissa == "1" else f"{mantissa}·{power}".replace("-", "−")
    decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    rounded = f"{value:,.{max(0, decimals)}f}"
    if "." in rounded:
        rounded = rounded.rstrip("0").rstrip(".")
    return rounded.replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values, linear or logarithmic.

    Attributes:
        label: quantity and unit.
        low: value at the left or the bottom.
        high: value at the right or the top.
        log: logarithmic.
    """

    label: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"an axis from {self.low} to {self.high}: use two finite ends, in order"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic axis from {self.low}: use a positive end")

    @classmethod
    def spanning(
        cls, label: str, values: Iterable[float], log: bool = False, margin: float = 0.06
    ) -> Axis:
        """An axis that covers the finite values (positive ones, if logarithmic) with a margin."""
        seen = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        low, high = min(seen), max(seen)
        if log:
            room = max((high / low) ** margin, 1.1)
            return cls(label=label, low=low / room, high=high * room, log=True)
        room = margin * (high - low) or max(abs(high), 1.0) * margin
        return cls(label=label, low=low - room, high=high + room)

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values within the range: about five, or the decades."""
        if self.log:
            return self._log_ticks()
        rough = (self.high - self.low) / 5.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(s for s in (1.0, 2.0, 2.5, 5.0, 10.0) if s * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1.0,) if math.log10(self.high / self.low) > 2.0 else (1.0, 2.0, 5.0)
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        values = [value for value in values if self.low <= value <= self.high]
        return values[:: math.ceil(len(values) / 7)] if values else []


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A dot with a tooltip.

    Attributes:
        x: value on the horizontal axis.
        y: value on the vertical axis.
        title: the tooltip.
        style: CSS class.
    """

    x: float
    y: float
    title: str
    style: str


class Figure:
    """One drawing; what is added later lies on top.

    Args:
        name: unique on its page: letters and hyphens.
        description: what it shows, for those who cannot see it.
        x: horizontal axis.
        y: vertical axis.
        height: in the units of which the figure is 560 wide.
    """

    def __init__(
        self, name: str, description: str, *, x: Axis, y: Axis, height: float = 310.0
    ) -> None:
        self.name = name
        self.description = description
        self.x, self.y = x, y
        self.height = height
        self._parts: list[str] = []

    def _at_x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * self.x.share(value)

    def _at_y(self, value: float) -> float:
        return self.height - _BOTTOM - (self.height - _TOP - _BOTTOM) * self.y.share(value)

    def _drawable(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.y.log)

    def line(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """A line through the points that the axes can show."""
        path = " ".join(
            f"{self._at_x(x):.1f},{self._at_y(y):.1f}" for x, y in points if self._drawable(y)
        )
        if path:
            self._parts.append(f'<polyline class="{style}" points="{path}"/>')

    def strips(self, points: Sequence[tuple[float, str]]) -> None:
        """Invisible upright strips about given x, each with a tooltip."""
        centres = [self._at_x(x) for x, _ in points]
        middles = [(a + b) / 2.0 for a, b in pairwise(centres)]
        ends = [_LEFT, *middles, _WIDTH - _RIGHT]
        height = self.height - _TOP - _BOTTOM
        for (_, title), (left, right) in zip(points, pairwise(ends), strict=False):
            self._parts.append(
                f'<rect class="strip" x="{left:.1f}" y="{_TOP}" width="{max(0, right - left):.1f}" '
                f'height="{height}"><title>{markup(title)}</title></rect>'
            )

    def marks(self, marks: Iterable[Mark]) -> None:
        """Dots that the axes can show."""
        for mark in marks:
            if self._drawable(mark.y):
                x, y = self._at_x(mark.x), self._at_y(mark.y)
                self._parts.append(
                    f'<circle class="{mark.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.6">'
                    f"<title>{markup(mark.title)}</title></circle>"
                )

    def level(self, value: float, label: str, at_left: bool = False) -> None:
        """A dashed horizontal line with its name above it, at the right or the left."""
        end, anchor = (_LEFT + 6, "start") if at_left else (_WIDTH - _RIGHT - 4, "end")
        y = self._at_y(value)
        self._parts.append(
            f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="note" x="{end}" y="{y - 6:.1f}" text-anchor="{anchor}">'
            f"{markup(label)}</text>"
        )

    def bar(self, left: float, right: float, bottom: float, top: float, mark: Mark) -> None:
        """A bar between two x and two y; of the mark, the tooltip and the style."""
        x, y = self._at_x(left), self._at_y(top)
        width = max(0.0, self._at_x(right) - x - 1.0)
        self._parts.append(
            f'<rect class="{mark.style}" x="{x + 0.5:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{max(0.0, self._at_y(bottom) - y):.1f}">'
            f"<title>{markup(mark.title)}</title></rect>"
        )

    def render(self) -> str:
        """The drawing as an ``<svg>`` element."""
        width, height = _WIDTH - _LEFT - _RIGHT, self.height - _TOP - _BOTTOM
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {self.height:g}" '
            f'role="img" aria-label="{markup(self.description)}">'
            f'<clipPath id="clip-{self.name}">'
            f'<rect x="{_LEFT - 9}" y="{_TOP - 4}" width="{width + 18}" '
            f'height="{height + 4}"/></clipPath>'
            f'{self._grid()}<g clip-path="url(#clip-{self.name})">{"".join(self._parts)}</g></svg>'
        )

    def _grid(self) -> str:
        bottom = self.height - _BOTTOM
        parts = [
            f'<text class="label" x="2" y="15">{markup(self.y.label)}</text>',
            f'<text class="label" x="{_WIDTH - _RIGHT}" y="{self.height - 6}" text-anchor="end">'
            f"{markup(self.x.label)}</text>",
        ]
        for value, words in zip(self.y.ticks(), _labels(self.y), strict=True):
            y = self._at_y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/><text x="{_LEFT - 7}" y="{y:.1f}" dy="0.35em" '
                f'text-anchor="end">{words}</text>'
            )
        for value, words in zip(self.x.ticks(), _labels(self.x), strict=True):
            x = self._at_x(value)
            parts.append(
                f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
                f'<text x="{x:.1f}" y="{bottom + 7}" dy="0.95em" text-anchor="middle">{words}'
                "</text>"
            )
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
        )
        return "".join(parts)


def _labels(axis: Axis) -> list[str]:
    """The ticks in words, with as many decimals as tell them apart."""
    ticks = axis.ticks()
    if axis.log or len(ticks) < 2:
        return [number(tick) for tick in ticks]
    step = ticks[1] - ticks[0]
    if max(map(abs, ticks)) >= 1e7 or step < 1e-4:
        return [number(tick) for tick in ticks]
    decimals = next(n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6)
    return [f"{tick:,.{decimals}f}".replace("-", "−") for tick in ticks]
