"""Directives for what the source already says: a command's help, and the settings of a dataclass.

``{command} ase_srdft.cli.train --help-all`` shows what the command prints, and ``{settings}
ase_srdft.training.config.TrainingConfig`` a table of the class's fields, from their docstring;
``{presets}`` shows the settings that have a name.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from ase_srdft.cli.train_input import add_training_settings
from ase_srdft.common.settings import Setting, settings_of
from ase_srdft.training.presets import PRESETS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["Command", "Presets", "Settings", "help_of", "rows_of", "setup"]

_WIDTH = "88"  # columns of a command's help


def help_of(module: str, *arguments: str) -> str:
    """What a command prints before it ends, such as with ``--help``.

    Args:
        module: of the command, with a ``main``.
        arguments: that make it print and end.

    Raises:
        RuntimeError: it did not end with the exit code 0.
    """
    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        with contextlib.redirect_stdout(printed):
            code = import_module(module).main(list(arguments))
    except SystemExit as end:
        code = end.code
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    if code:
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {code}: it should print")
    return printed.getvalue()


def rows_of(settings: Iterable[Setting], prefix: str, flags: Mapping[str, list[str]]) -> list[str]:
    """A markdown table of settings: name and flags, default, meaning.

    Args:
        settings: of one section.
        prefix: that stands before each name.
        flags: of a command, by dotted name.
    """
    rows = ["| setting | default | what it is |", "| --- | --- | --- |"]
    for setting in settings:
        names = [prefix + setting.path, *flags.get(prefix + setting.path, [])]
        default = "on" if setting.default is True else "off" if setting.default is False else None
        default = default or ("–" if setting.default in (None, (), {}) else str(setting.default))
        text = setting.text.replace("|", "\\|")
        rows.append(f"| {'<br>'.join(f'`{name}`' for name in names)} | {default} | {text} |")
    return rows


def _training_flags() -> dict[str, list[str]]:
    """The flags of ``ase-srdft-train`` by the setting that they set."""
    parser: Any = argparse.ArgumentParser()
    add_training_settings(parser, everything=True)
    flags: dict[str, list[str]] = {}
    for action in parser._actions:  # argparse has no other way to ask
        flags.setdefault(action.dest, []).extend(action.option_strings)
    return {
        path: sorted({name for name in names if not name.startswith("--no-")}, key=len)
        for path, names in flags.items()
    }


class Command(SphinxDirective):
    """The help of a command, as it prints it."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """A block of text."""
        text = help_of(*self.arguments[0].split())
        return [nodes.literal_block(text, text, language="text")]


class Settings(SphinxDirective):
    """The fields of a dataclass of settings: names, flags, defaults, and what they are."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012
        "section": directives.unchanged,
        "prefix": directives.unchanged,
        "flags": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """A table."""
        module, _, name = self.arguments[0].rpartition(".")
        section = self.options.get("section")
        chosen = [
            each
            for each in settings_of(getattr(import_module(module), name)())
            if section is None or each.path.rpartition(".")[0] == section.strip(".")
        ]
        if not chosen:
            raise self.error(f"no settings in section {section!r} of {name}")
        flags = _training_flags() if "flags" in self.options else {}
        rows = rows_of(chosen, self.options.get("prefix", ""), flags)
        return self.parse_text_to_nodes("\n".join(rows))


class Presets(SphinxDirective):
    """The settings of every preset, as a file of settings has them."""

    def run(self) -> list[nodes.Node]:
        """A block of YAML."""
        text = yaml.safe_dump(PRESETS, sort_keys=False)
        return [nodes.literal_block(text, text, language="yaml")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the directives known to Sphinx."""
    app.add_directive("command", Command)
    app.add_directive("presets", Presets)
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "version": "1"}
