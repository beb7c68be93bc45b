"""Numbers, energies and durations in words, and text that is safe in a page."""

from __future__ import annotations

import math
from html import escape

from ase_srdft.common.units import EV_PER_HARTREE, MICROHARTREE

__all__ = ["CHEMICAL_ACCURACY_UEH", "duration", "energy_in_words", "markup", "number", "printable"]

#: 1 kcal/mol.
CHEMICAL_ACCURACY_UEH = 1593.6
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def printable(words: object) -> str:
    """Any text without control characters."""
    return "".join(c for c in str(words) if c.isprintable() or c == "\n")


def markup(words: object) -> str:
    """Any text as it may stand in HTML and in a quoted attribute, without control characters.

    >>> markup('<a & "b">' + chr(0))
    '&lt;a &amp; &quot;b&quot;&gt;'
    """
    return escape(printable(words))


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


def energy_in_words(energy_uEh: float) -> str:
    """An energy in microhartree and in millielectronvolt.

    >>> energy_in_words(1593.6)
    '1,594 microhartree (µEh), which is 43.4 millielectronvolt (meV)'
    """
    meV = energy_uEh / MICROHARTREE * EV_PER_HARTREE * 1e3
    return (
        f"{number(energy_uEh)} microhartree (µEh), which is {number(meV)} millielectronvolt (meV)"
    )


def duration(seconds: float) -> str:
    """Seconds in two units at most.

    >>> duration(12.4), duration(75.0), duration(7500.0)
    ('12 s', '1 min 15 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
