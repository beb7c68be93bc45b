"""Settings are the fields of dataclasses: their dotted names, and their values from plain ones.

Plain values are what YAML, JSON and the command line give: names, numbers, words, lists.  What
they are to become is decided by the type of the field, here and nowhere else.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from inspect import cleandoc
from math import isfinite
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ase_srdft.common.errors import BadInput

__all__ = ["Setting", "convert", "convert_all", "from_plain", "nearest", "settings_of"]

_Config = TypeVar("_Config")
#: What words of YAML mean where a type is one choice.
_WORDS: dict[type, dict[str, bool | None]] = {
    bool: {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False},
    type(None): {"none": None, "null": None},
}
#: Names of types for a user, where they differ from Python's.
_NAMES = {type(None): "None", tuple: "list"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A value that can be chosen: a field of a dataclass, or of one inside it.

    Attributes:
        path: dotted name, such as ``sampling.step_size``.
        kind: type of the field.
        default: value where none is given.
        text: what the docstring of the class says of it, in one line.
    """

    path: str
    kind: Any
    default: Any
    text: str

    @property
    def choices(self) -> tuple[Any, ...]:
        """The types that a value may have."""
        return _choices(self.kind)


def settings_of(config: object, above: str = "") -> Iterator[Setting]:
    """All settings of a dataclass whose values are the defaults, in the order of its fields."""
    kinds, texts = get_type_hints(type(config)), _attribute_texts(type(config))
    for name, kind in ((f.name, kinds[f.name]) for f in fields(config)):  # type: ignore[arg-type]
        path, default = above + name, getattr(config, name)
        if is_dataclass(kind):
            yield from settings_of(default, f"{path}.")
        else:
            yield Setting(path=path, kind=kind, default=default, text=texts.get(name, ""))


def from_plain(cls: type[_Config], values: object, where: str = "") -> _Config:
    """A configuration from plain nested values; what is not given keeps its default.

    Args:
        cls: a dataclass; each of its fields has a default.
        values: by name; a whole number will do for a float, a whole float for an integer, and
            text for either, since YAML takes ``1e-3`` for text.
        where: dotted name of the configuration itself, for messages.

    Raises:
        BadInput: unknown name, wrong type, a number that is not finite, or a value that the
            class refuses.
    """
    given = convert_all(cls, values, where)
    try:
        made = cls(**given)
    except BadInput as err:  # the class does not know where it stands
        name = str(err).split(" ")[0]
        raise BadInput(_below(where, err) if name in given else str(err)) from None
    for name, value in given.items():
        if isinstance(value, float) and not isfinite(value):
            raise BadInput(f"{_below(where, name)} is {value!r}: use a finite number")
    return made


def convert_all(cls: type, values: object, where: str = "") -> dict[str, Any]:
    """The values that are given, each of the type that the field of its name has.

    Raises:
        BadInput: unknown name or wrong type.
    """
    if not isinstance(values, dict):
        raise BadInput(f"{where or 'the configuration'} is {values!r}: use name: value pairs")
    hints = get_type_hints(cls)
    kinds = {field.name: hints[field.name] for field in fields(cls)}
    prepared: dict[str, Any] = {}
    for name, value in values.items():
        label = _below(where, name)
        if name not in kinds:
            known = [setting.path for setting in settings_of(cls())]
            raise BadInput(
                f"unknown setting {label!r}: use one of {', '.join(kinds)}"
                f"{nearest(str(name), known, where)}"
            )
        kind = kinds[name]
        read = from_plain if is_dataclass(kind) else convert
        prepared[name] = read(kind, value, label)
    return prepared


def convert(kind: Any, value: Any, label: str) -> Any:
    """A value of the type of a field.

    Raises:
        BadInput: it cannot be one.
    """
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(convert(get_args(kind)[0], each, f"an entry of {label}") for each in value)
    choices = _choices(kind)
    for choice in choices:  # text last: "off" is a word before it is a name
        converted = _converted(choice, value)
        if converted is not value:
            return converted
    if not any(_is_a(value, choice) for choice in choices):
        names = (_NAMES.get(choice, choice.__name__) for choice in choices)
        raise BadInput(f"{label} is {value!r}: use {' or '.join(names)}")
    return value


def nearest(name: str, known: list[str], where: str = "") -> str:
    """The known name that a mistyped one is meant for, to end a message with; empty if none."""
    # the right name without its group, of a setting or of a flag; else a similar one
    found = [path for path in known if path.rpartition(".")[2] == name.lstrip("-")]
    found = found or get_close_matches(name, known, n=1, cutoff=0.7)
    return f" (nearest: {_below(where, found[0])})" if found else ""


def _below(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _choices(kind: Any) -> tuple[Any, ...]:
    """The members of a union, without what their brackets say of their entries."""
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return tuple(get_origin(member) or member for member in members)


def _is_a(value: Any, choice: type | tuple[type, ...]) -> bool:
    """Whether a value is of a type, or one of several; truth values are no numbers."""
    return isinstance(value, choice) and (choice is bool or not isinstance(value, bool))


def _converted(choice: type, value: Any) -> Any:
    """Another value of a type, from a number or text; the value itself where there is none."""
    if _is_a(value, choice):
        return value
    if isinstance(value, str) and choice in (bool, type(None)):
        return _WORDS[choice].get(value.strip().lower(), value)
    if choice not in (int, float) or not _is_a(value, (int, float, str)):
        return value
    try:
        if choice is float:
            return float(value)
        return int(value) if _is_decimal(value) else _whole(float(value))
    except (ValueError, OverflowError):
        return value


def _is_decimal(value: int | float | str) -> bool:
    """Whether it is text of digits, which may be more of them than a float holds."""
    return isinstance(value, str) and value.strip().lstrip("+-").replace("_", "").isdecimal()


def _whole(number: float) -> int:
    """A float as an integer.

    Raises:
        ValueError: it has a fraction, or is not finite.
    """
    if not number.is_integer():
        raise ValueError(number)
    return int(number)


def _attribute_texts(cls: type) -> dict[str, str]:
    """What the "Attributes:" of a docstring say, by name."""
    section = cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")[2]
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        if line.startswith("    ") and not line.startswith("     "):
            name, _, line = line.strip().partition(": ")
        texts[name] = f"{texts.get(name, '')} {line.strip()}".strip()
    return texts
