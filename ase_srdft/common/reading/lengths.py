"""The unit of length that a file names in words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from ase_srdft.common.errors import BadInput
from ase_srdft.common.units import ANGSTROM_PER_BOHR

__all__ = ["angstrom_per_unit", "length_keys"]

_UNITS = {
    1.0: "angstrom angstroms angstroem ang angs a å ångström angström ångstrom",
    ANGSTROM_PER_BOHR: "bohr bohrs a0 au a.u. atomic atomic_units",
    10.0: "nm nanometer nanometers nanometre nanometres",
    0.01: "pm picometer picometers picometre picometres",
}
_ANGSTROM = {name: factor for factor, names in _UNITS.items() for name in names.split()}
#: What has the unit: ``r_unit``, ``units_length``, and ``unit`` alone, but not ``e_unit``.
_LENGTHS = r"r|x|xyz|pos|positions?|coords?|coordinates?|lengths?|distances?|geometry"
_KEY = re.compile(rf"(?:({_LENGTHS})_?)?units?(?:_?({_LENGTHS}))?")


def length_keys(names: Mapping[str, Any]) -> list[str]:
    """The keys that name a unit of length (or just a unit), in any case and with - for _."""
    return [
        key
        for key in names
        if isinstance(key, str) and _KEY.fullmatch(key.lower().replace("-", "_").rstrip(":"))
    ]


def angstrom_per_unit(names: Mapping[str, Any], what: str) -> float:
    """Angstrom in the unit of length that keys and values name; 1 if there is no such key.

    Args:
        names: may have other keys as well, such as those of other quantities' units.
        what: has these names, for the message.

    Raises:
        BadInput: an unknown unit, or two that differ.
    """
    found: dict[str, float] = {}
    for key in length_keys(names):
        value = np.asarray(names[key])
        name = value.reshape(()).item() if value.size == 1 else None
        name = name.decode(errors="replace") if isinstance(name, bytes) else name
        factor = _factor(name) if isinstance(name, str) else None
        if factor is None:
            shown = " ".join(repr(names[key]).split())
            raise BadInput(
                f"{what}: {key} is {shown}, no unit of length that is known; use 'Angstrom' or "
                "'Bohr', or remove it if the positions are in Angstrom"
            )
        found[key] = factor
    if len(set(found.values())) > 1:
        shown = ", ".join(f"{key} = {names[key]!s}" for key in found)
        raise BadInput(f"{what} has two units of length ({shown}); keep the one that is right")
    return next(iter(found.values()), 1.0)


def _factor(name: str) -> float | None:
    """Angstrom in a unit, in any case and spelling; None if it is unknown."""
    return _ANGSTROM.get("_".join(unicodedata.normalize("NFKC", name).lower().split()))
