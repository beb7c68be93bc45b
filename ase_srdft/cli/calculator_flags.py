"""The options that describe a calculator, the same for every command that moves atoms."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ase_srdft.cli.common import Parser
from ase_srdft.cli.frames import frame_nuclei, read_structures
from ase_srdft.cli.level_input import CHARGE_OF_STRUCTURES, LEVEL_FLAGS, level_values
from ase_srdft.cli.setting_flags import add_flags, given_settings
from ase_srdft.common.checks import require
from ase_srdft.common.errors import BadInput
from ase_srdft.common.promise_defaults import MAX_ERROR, MAX_FORCE_ERROR
from ase_srdft.common.settings import from_plain, settings_of
from ase_srdft.dft.level_of_theory import ANSWER_GRID_LEVEL, LevelOfTheory
from ase_srdft.models.shipped_models import GENERAL_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["add_calculator", "calculator_parameters", "chosen_structure"]

_OFF = "off"
_FLAGS: dict[str, tuple[str, ...]] = {
    "calculator.model": ("--model",),
    "calculator.max_error": ("--max-error",),
    "calculator.max_force_error": ("--max-force-error",),
    "calculator.learn": ("--learn",),
}
_MACHINE: dict[str, tuple[str, ...]] = {
    "calculator.threads": ("--threads",),
    "calculator.device": ("--device",),
}
_DECIDED = dict.fromkeys(LEVEL_FLAGS, "that of the model") | {
    "level.grid_level": str(ANSWER_GRID_LEVEL),
    "level.charge": CHARGE_OF_STRUCTURES,
    "calculator.threads": "the cores; one is left to a trainer beside",
}
#: Molecules that an error names.
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """Of a calculator, apart from its level of theory.

    Attributes:
        model: name of a shipped model, a .srdft file, or untrained.
        max_error: widest bracket around the SCF energy (eV); none for the model's state as it is.
        max_force_error: largest estimate of the error of a force (eV/Å).
        learn: from the geometries on the way, beside, in_turn or pause (of what it has learned so
            far); off for not at all.
        threads: of the calculator.
        device: of the network and the functional: cpu, cuda, cuda:1.
    """

    model: str = GENERAL_MODEL
    max_error: float | None = MAX_ERROR
    max_force_error: float = MAX_FORCE_ERROR
    learn: str = _OFF
    threads: int | None = None
    device: str = "cpu"


def add_calculator(parser: Parser) -> None:
    """All options of a calculator, with those of its level of theory."""
    settings = [*settings_of(_Settings(), "calculator."), *settings_of(LevelOfTheory(), "level.")]
    groups = {"calculator": _FLAGS, "level of theory": LEVEL_FLAGS, "machine": _MACHINE}
    add_flags(parser, settings, groups, _DECIDED)


def calculator_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """The parameters of `SRDFTCalculator` that the options of `add_calculator` ask for.

    Raises:
        BadInput: a value of another type, or another way to learn than there is.
    """
    from ase_srdft.calculator.parameters import LEARN

    known = list(settings_of(_Settings(), "calculator."))
    given = {
        path.removeprefix("calculator."): value
        for path, value in given_settings(options, known).items()
    }
    settings: dict[str, Any] = asdict(from_plain(_Settings, given, "calculator"))
    level = {path.removeprefix("level."): v for path, v in level_values(options).items()}
    if level["grid_level"] is None:
        level["grid_level"] = ANSWER_GRID_LEVEL
    ways = [_OFF, *(way for way in LEARN if isinstance(way, str))]
    require(settings["learn"] in ways, "learn", settings["learn"], " or ".join(ways))
    settings["learn"] = False if settings["learn"] == _OFF else settings["learn"]
    if settings["threads"] is None:
        cores = len(os.sched_getaffinity(0))
        settings["threads"] = max(1, cores - (settings["learn"] == "beside"))
    return settings | level


def chosen_structure(source: str, charge: int | None) -> Atoms:
    """The structure that a command is about: of several of one molecule the last, as ASE does.

    Args:
        source: a file or a name.
        charge: of the molecule (e); None for what the structure says.

    Raises:
        BadInput: it cannot be used, or says another charge; structures of several molecules.
    """
    frames = read_structures(source)
    formulas = dict.fromkeys(frame.get_chemical_formula() for frame in frames)
    if len(formulas) > 1:
        few = ", ".join(list(formulas)[:_NAMED])
        more = ", ..." if len(formulas) > _NAMED else ""
        raise BadInput(
            f"{source} has structures of {len(formulas)} formulas ({few}{more}): give one molecule"
        )
    (nuclei,) = frame_nuclei(frames[-1:], source, charge)
    atoms = frames[-1]
    atoms.calc = None
    if charge is not None:
        atoms.info["charge"] = nuclei.charge
    return atoms
