"""Flags, types, help and defaults of a command, made from the fields of a dataclass.

Each setting has a flag of its dotted name (``--sampling.step-size``).  Those that most users meet
may have a short flag besides, and are what ``--help`` shows; ``--help-all`` shows every setting.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ase_srdft.common.settings import Setting, convert

__all__ = ["add_flags", "dotted_flag", "given_settings"]

_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "STR", bool: "on|off"}


def add_flags(
    parser: argparse.ArgumentParser,
    settings: Sequence[Setting],
    common: Mapping[str, Mapping[str, tuple[str, ...]]],
    decided: Mapping[str, str],
    everything: bool = False,
) -> None:
    """Give a parser the flags of settings; the value of a flag that is not given is None.

    Args:
        parser: of a command.
        settings: all that can be chosen.
        common: what the short help shows: title of a group, path in it, flags of the path; no
            flags stand for the dotted one.  The group without a title is not shown.
        decided: defaults that the command decides, in words, by path.
        everything: let the help show all settings by their dotted flags instead.
    """
    by_path = {setting.path: setting for setting in settings}
    short = {path: flags for paths in common.values() for path, flags in paths.items()}
    shown: set[str] = set()
    for title, paths in (_sections(by_path) if everything else common).items():
        group = parser.add_argument_group(title)
        for path, flags in paths.items() if title else ():
            flags = flags or (dotted_flag(path),)
            others = short.get(path, ()) if everything else None
            _add(group, by_path[path], flags, _help(by_path[path], decided, others))
            shown |= set(flags)
    for path, setting in by_path.items():
        flags = tuple(dict.fromkeys((*short.get(path, ()), dotted_flag(path))))
        _add(parser, setting, [flag for flag in flags if flag not in shown], argparse.SUPPRESS)


def given_settings(options: argparse.Namespace, settings: Iterable[Setting]) -> dict[str, Any]:
    """The settings that flags have given, by dotted names."""
    given: dict[str, Any] = {}
    for setting in settings:
        value = getattr(options, setting.path, None)
        if value is None:
            continue
        if dict in setting.choices:
            given |= {f"{setting.path}.{name}": text for name, text in value}
        else:
            given[setting.path] = value
    return given


def dotted_flag(path: str) -> str:
    """The flag of a dotted name: ``--sampling.step-size`` of ``sampling.step_size``."""
    return f"--{path.replace('_', '-')}"


def _sections(paths: Iterable[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """The dotted names by the dataclass they belong to, each with no flags but the dotted one."""
    sections: dict[str, dict[str, tuple[str, ...]]] = {}
    for path in paths:
        sections.setdefault(path.rpartition(".")[0] or "run", {})[path] = ()
    return sections


def _help(setting: Setting, decided: Mapping[str, str], short: Sequence[str] | None) -> str:
    """What a setting is, and its default: one sentence, or all and its short flags if given."""
    text = setting.text.partition(". ")[0] if short is None else setting.text
    notes = [f"default: {decided.get(setting.path) or _default_text(setting.default)}"]
    others = [flag for flag in short or () if flag != dotted_flag(setting.path)]
    notes += [f"short: {', '.join(others)}"] if others else []
    return f"{text.rstrip('.')} ({'; '.join(notes)})".replace("``", "").replace("%", "%%")


def _default_text(default: object) -> str:
    """A default as the flag takes it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default is None or default in ((), {}) else str(default)


def _add(
    group: argparse._ActionsContainer, setting: Setting, flags: Sequence[str], text: str
) -> None:
    """Add one setting under some flags, if there are any."""
    choices = [choice for choice in setting.choices if choice is not type(None)]
    how: dict[str, Any] = {"type": _reader(setting)}
    if choices == [bool]:
        how = {"action": argparse.BooleanOptionalAction}
    elif choices == [tuple]:
        how = {"nargs": "+", "metavar": "STR"}
    elif choices == [dict]:
        how = {"nargs": "+", "action": "extend", "type": _pair, "metavar": "NAME=VALUE"}
    else:
        how["metavar"] = "|".join(_METAVARS[choice] for choice in choices)
    if flags:
        group.add_argument(*flags, dest=setting.path, help=text, **how)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r}: use NAME=VALUE")
    return name, value


def _reader(setting: Setting) -> Callable[[str], Any]:
    """What reads the text of a flag; argparse calls it by its name where it cannot."""

    def read(text: str) -> Any:
        value = convert(setting.kind, text, setting.path)
        return text if value is None else value  # None would be a flag that is not given

    read.__name__ = setting.choices[0].__name__
    return read
