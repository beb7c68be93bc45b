"""What a model is for and how good it is, from its own file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ase import Atoms

from ase_srdft.calculator.card_words import NOT_RECORDED, card_words, level_words
from ase_srdft.common.elements import chemical_symbols
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import LoadedModel, load_model
from ase_srdft.models.shipped_models import model_path

__all__ = ["ModelCard", "model_card", "trained_structure"]

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ModelCard:
    """What is known of a trained model; ``print`` it to read it.

    What the file does not record is None.

    Attributes:
        name: of a shipped model, or the path.
        family: of models.
        level_free: whether its weights belong to no level of theory.
        levels: of theory that it was trained at.
        elements: symbols of those that it knows.
        molecules: formulas of those that it was trained on, with what tells isomers apart there.
        scope: what these are, in a sentence.
        structure: of a model of one molecule, that which its training began with and whose bonds
            it kept to (Angstrom): the isomer that the model is for.  Of shipped models that do
            not record it, a minimum of their own with these bonds.
        temperature_K: of the dynamics that it was trained on (K); None without dynamics.
        bracket_width_uEh: certified error, the mean bracket width over the geometries held out
            (microhartree).
        bracket_width_max_uEh: the widest of these brackets (microhartree).
        bracket_widths_uEh: all of these brackets (microhartree).
        nvalidation: how many geometries were held out.
        nsteps: training steps.
        nsamples: geometries of its own dynamics that it was trained on.
        nframes: given geometries that it was trained on.
        seconds: that the training took.
        seed: of everything random in the training.
        start_from: the model whose weights the training went on from; None also for none.
        version: of the package that trained it.
        commit: of the package's sources, where they were a checkout (``-dirty``: changed since).
        nparameters: weights.
        nbytes: size of the file.
        sha256: checksum of the file, as the command ``sha256sum`` tells it.
    """

    name: str
    family: str
    level_free: bool
    levels: tuple[LevelOfTheory, ...] | None
    elements: tuple[str, ...]
    molecules: tuple[str, ...] | None
    scope: str | None
    structure: Atoms | None
    temperature_K: float | None
    bracket_width_uEh: float | None
    bracket_width_max_uEh: float | None
    bracket_widths_uEh: tuple[float, ...] | None
    nvalidation: int | None
    nsteps: int | None
    nsamples: int | None
    nframes: int | None
    seconds: float | None
    seed: int | None
    start_from: str | None
    version: str | None
    commit: str | None
    nparameters: int
    nbytes: int
    sha256: str

    def __str__(self) -> str:
        return card_words(self)

    def __repr__(self) -> str:
        levels = NOT_RECORDED if self.levels is None else ", ".join(map(level_words, self.levels))
        return f"<ModelCard {self.name}: {self.family}, {levels}>"


def model_card(model: str | Path) -> ModelCard:
    """The card of a model: what it was trained on, how well, and by what.

    >>> card = model_card("water-pbe-6-31g")
    >>> card, card.nparameters, card.structure.symbols
    (<ModelCard water-pbe-6-31g: potential, PBE/6-31g>, 153408, Symbols('OH2'))

    Args:
        model: name of a shipped model (`ase_srdft.list_models`), or path of a ``.srdft`` file.

    Raises:
        BadInput: no such model.
        DamagedFile: its content does not match its checksum, or is no model.
    """
    path = model_path(Path(model).expanduser())
    loaded, content = load_model(path), path.read_bytes()
    own, record = loaded.model, _Record(loaded.training)
    sampled = record.get(bool, "config", "self_refine") is not False
    levels = _levels(own, record)
    return ModelCard(
        name=str(model),
        family=own.family,
        level_free=own.level_free,
        levels=levels,
        elements=tuple(chemical_symbols[number] for number in own.elements),
        molecules=_molecules(record, levels),
        scope=record.get(str, "config", "scope"),
        structure=trained_structure(loaded),
        temperature_K=record.number("config", "sampling", "temperature_K") if sampled else None,
        bracket_width_uEh=record.number("bracket_width_uEh"),
        bracket_width_max_uEh=record.number("bracket_width_max_uEh"),
        bracket_widths_uEh=_widths(record),
        nvalidation=record.get(int, "nvalidation"),
        nsteps=record.get(int, "steps"),
        nsamples=record.get(int, "samples"),
        nframes=record.get(int, "nframes"),
        seconds=record.number("seconds"),
        seed=record.get(int, "config", "seed"),
        start_from=record.get(str, "config", "start_from"),
        version=record.get(str, "version"),
        commit=record.get(str, "commit"),
        nparameters=sum(parameter.numel() for parameter in own.parameters()),
        nbytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def trained_structure(loaded: LoadedModel) -> Atoms | None:
    """The structure that tells which isomer a model of one molecule is for (Angstrom)."""
    record = _Record(loaded.training)
    numbers = record.get(list, "structure", "numbers")
    positions = record.get(list, "structure", "positions_angstrom")
    if numbers is None or positions is None:
        return None
    charge = record.get(int, "structure", "charge")
    return Atoms(numbers, positions, info={"charge": charge} if charge else {})


class _Record:
    """A training record, of which any part may be missing."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self._plain = plain

    def get(self, kind: type[_Value], *names: str) -> _Value | None:
        """The value under nested names if it is there, and of its type."""
        value: Any = self._plain
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, kind) else None

    def number(self, *names: str) -> float | None:
        """Likewise, a number."""
        whole = self.get(int, *names)
        return self.get(float, *names) if whole is None else float(whole)


def _levels(model: ElectronicStateModel, record: _Record) -> tuple[LevelOfTheory, ...] | None:
    """Levels that a model was trained at; a level-free one does not know them by itself."""
    trained = record.get(dict, "config", "level")
    if not model.level_free:
        return (model.default_level,)
    if trained is None:
        return None
    level = LevelOfTheory(**trained)
    names = [name.partition("/") for name in record.get(list, "config", "levels") or []]
    return tuple(replace(level, xc=xc, basis=basis) for xc, _, basis in names) or (level,)


def _widths(record: _Record) -> tuple[float, ...] | None:
    """The finite ones of those that are recorded; None where there are none."""
    widths = record.get(list, "bracket_widths_uEh") or []
    numbers = (float(width) for width in widths if isinstance(width, (int, float)))
    return tuple(width for width in numbers if math.isfinite(width)) or None


def _molecules(record: _Record, levels: Sequence[LevelOfTheory] | None) -> tuple[str, ...] | None:
    """Names of the molecules; at several levels each is recorded once for every one, with it."""
    names, several = record.get(list, "molecules"), levels or ()
    if names is None or len(several) < 2:
        return None if names is None else tuple(names)
    suffix = f" {level_words(several[0])}"
    return tuple(name.removesuffix(suffix) for name in names[:: len(several)])
