"""The options that name a level of theory, the same for every command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ase_srdft.cli.common import Parser
from ase_srdft.cli.setting_flags import add_flags
from ase_srdft.common.settings import settings_of
from ase_srdft.dft.level_of_theory import LevelOfTheory

__all__ = ["CHARGE_OF_STRUCTURES", "LEVEL_FLAGS", "add_level", "level_values"]

#: Where nothing is said of the charge.
CHARGE_OF_STRUCTURES = "what the structures say, else 0"

#: Short flags by dotted names.
LEVEL_FLAGS: dict[str, tuple[str, ...]] = {
    "level.xc": ("--xc",),
    "level.basis": ("--basis",),
    "level.density_fitting": ("--density-fitting",),
    "level.grid_level": ("--grid-level",),
    "level.charge": ("--charge",),
}


def add_level(parser: Parser, decided: Mapping[str, str]) -> None:
    """All options of the level of theory.

    Args:
        parser: of a command.
        decided: defaults in words by dotted names, where they are not those of `LevelOfTheory`.
    """
    settings = list(settings_of(LevelOfTheory(), "level."))
    decided = {"level.charge": CHARGE_OF_STRUCTURES} | dict(decided)
    add_flags(parser, settings, {"level of theory": LEVEL_FLAGS}, decided)


def level_values(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, by dotted names (``level.xc``); None where they say nothing."""
    return {path: getattr(options, path) for path in LEVEL_FLAGS}
