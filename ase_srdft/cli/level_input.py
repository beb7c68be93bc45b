"""The options that name a level of theory, the same for every command."""

from __future__ import annotations

import argparse
from typing import Any

from ase_srdft.cli.common import Parser

__all__ = ["LEVEL_SETTINGS", "add_density_fitting", "add_level", "level_values"]

#: Flag, name in the level of theory, type, help.
LEVEL_SETTINGS: tuple[tuple[str, str, type, str], ...] = (
    ("--xc", "level.xc", str, "LDA, PBE, BLYP, PBE0, B3LYP or B3LYP5"),
    ("--basis", "level.basis", str, "any basis of PySCF's with s, p and d functions"),
    ("--grid-level", "level.grid_level", int, "PySCF's grid level, 0 to 9"),
    ("--charge", "level.charge", int, "total charge in e"),
)


def add_level(parser: Parser) -> None:
    """All options of the level of theory."""
    group = parser.add_argument_group("level of theory (default: PBE/6-31g, grid level 1)")
    for flag, path, kind, text in LEVEL_SETTINGS:
        group.add_argument(flag, dest=path, type=kind, metavar=kind.__name__.upper(), help=text)
    add_density_fitting(group)


def add_density_fitting(parser: Parser | argparse._ArgumentGroup) -> None:
    """The one option that takes a name or a word."""
    parser.add_argument(
        "--density-fitting",
        metavar="BASIS",
        help="auxiliary basis by name, or 'off' for exact four-centre integrals",
    )


def level_values(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, by dotted names (``level.xc``); None where they say nothing."""
    values = {path: getattr(options, path) for _, path, _, _ in LEVEL_SETTINGS}
    fitting = options.density_fitting
    return values | {"level.density_fitting": False if fitting == "off" else fitting}
