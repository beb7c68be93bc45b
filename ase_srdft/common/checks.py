"""Checks of settings: one line that names the setting, its value, and what to use instead."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from ase_srdft.common.errors import BadInput

__all__ = ["require", "require_at_least", "require_choice", "require_positive"]


def require(condition: bool, name: str, value: object, what: str) -> None:
    """Refuse a value where the condition does not hold.

    Raises:
        BadInput: ``name is value: use what``.
    """
    if not condition:
        raise BadInput(f"{name} is {value!r}: use {what}")


def require_choice(config: object, name: str, choices: Iterable[str]) -> None:
    """This attribute is one of the choices.

    Raises:
        BadInput: it is not; naming them.
    """
    value = getattr(config, name)
    require(value in choices, name, value, " or ".join(choices))


def require_positive(config: object, *names: str) -> None:
    """Each of these attributes is finite and above zero.

    Raises:
        BadInput: one is not.
    """
    for name in names:
        value = getattr(config, name)
        require(value > 0 and isfinite(value), name, value, "a positive number")


def require_at_least(lowest: int, config: object, *names: str) -> None:
    """Each of these attributes is finite and at least ``lowest``.

    Raises:
        BadInput: one is not.
    """
    for name in names:
        value = getattr(config, name)
        require(value >= lowest and isfinite(value), name, value, f"at least {lowest}")
