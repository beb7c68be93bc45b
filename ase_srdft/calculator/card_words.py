"""A model's card in words."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

from ase_srdft.common.connectivity import bonded_groups
from ase_srdft.common.units import EV_PER_HARTREE, MICROHARTREE
from ase_srdft.dft.level_of_theory import LevelOfTheory

if TYPE_CHECKING:
    from ase_srdft.calculator.model_card import ModelCard

__all__ = [
    "NOT_RECORDED",
    "card_words",
    "error_words",
    "level_words",
    "molecule_words",
    "rows_of_card",
]

NOT_RECORDED = "not recorded"
#: Columns of a card.
_WIDTH, _LABEL = 100, 13
#: So many molecules are named, and others counted.
_MOST_NAMES = 4


def rows_of_card(card: ModelCard) -> dict[str, str]:
    """What a card tells but for its name, by labels."""
    rows = {
        "family": card.family,
        "level": _levels(card),
        "elements": ", ".join(card.elements),
        "molecules": molecule_words(card) + _isomer(card),
        "scope": card.scope,
        "temperature": _temperature(card),
        "error": _errors(card),
        "training": _training(card),
        "made by": _made_by(card),
        "size": f"{card.nparameters:,} parameters, {card.nbytes:,} bytes",
        "sha256": card.sha256,
    }
    return {label: text for label, text in rows.items() if text is not None}


def card_words(card: ModelCard) -> str:
    """All of a card, in lines of at most 100 characters."""
    lines = [
        fill(
            text,
            _WIDTH,
            initial_indent=f"{label:<{_LABEL}}",
            subsequent_indent=" " * _LABEL,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, text in rows_of_card(card).items()
    ]
    return "\n".join([card.name, *lines])


def level_words(level: LevelOfTheory) -> str:
    """Functional and basis.

    >>> level_words(LevelOfTheory(xc="PBE0", basis="def2-SVP"))
    'PBE0/def2-svp'
    """
    return f"{level.xc}/{level.basis}"


def error_words(microhartree: float | None) -> str:
    """An energy with two digits at least.

    >>> [error_words(each) for each in (0.04844, 7.7766, 793.34, None)]
    ['0.048', '7.8', '793.3', 'not recorded']
    """
    if microhartree is None:
        return NOT_RECORDED
    return f"{microhartree:,.1f}" if abs(microhartree) >= 1.0 else f"{microhartree:.2g}"


def molecule_words(card: ModelCard) -> str:
    """Formulas of few molecules; of many, how many and of which elements."""
    if card.molecules is None:
        return NOT_RECORDED
    if len(card.molecules) <= _MOST_NAMES:
        return ", ".join(card.molecules)
    return f"{len(card.molecules):,} of {' '.join(card.elements)}"


def _isomer(card: ModelCard) -> str:
    """Which isomer a model of one molecule is for."""
    if card.structure is not None:
        return f", one isomer: {bonded_groups(card.structure)} (card.structure)"
    one = card.molecules is not None and len(card.molecules) == 1
    return f", one isomer: {NOT_RECORDED}" if one else ""


def _levels(card: ModelCard) -> str:
    if card.levels is None:
        return f"any; trained at: {NOT_RECORDED}"
    level = card.levels[0]
    how = "density fitting" if level.density_fitting else "exact integrals"
    if isinstance(level.density_fitting, str):
        how += f" by {level.density_fitting}"
    words = f"{', '.join(map(level_words, card.levels))} ({how}, grid level {level.grid_level})"
    if card.level_free:
        return f"any; trained at {words}"
    return f"{words}, charge {level.charge}"


def _temperature(card: ModelCard) -> str:
    if card.temperature_K is not None:
        return f"{card.temperature_K:g} K"
    return "none: trained on given frames alone" if card.nsamples == 0 else NOT_RECORDED


def _errors(card: ModelCard) -> str:
    mean, largest = map(_in_both_units, (card.bracket_width_uEh, card.bracket_width_max_uEh))
    words = f"mean {mean}, largest {largest}"
    if card.bracket_width_uEh is None and card.bracket_width_max_uEh is None:
        return NOT_RECORDED
    held = "geometries" if card.nvalidation is None else f"{card.nvalidation} geometries"
    many = card.molecules is not None and len(card.molecules) > 1
    return f"{words}: brackets of {held} held out{', of the molecules trained on' if many else ''}"


def _in_both_units(microhartree: float | None) -> str:
    if microhartree is None:
        return NOT_RECORDED
    milli = 1e3 * EV_PER_HARTREE * microhartree / MICROHARTREE
    return f"{error_words(microhartree)} µEh ({milli:.2g} meV)"


def _training(card: ModelCard) -> str:
    counts = {"steps": card.nsteps, "own samples": card.nsamples, "given frames": card.nframes}
    words = [f"{count:,} {what}" for what, count in counts.items() if count is not None]
    if card.seconds is not None:
        words.append(f"{card.seconds / 60.0:.0f} min")
    words.append(f"seed {NOT_RECORDED if card.seed is None else card.seed}")
    if card.start_from is not None:
        words.append(f"on top of the weights of {card.start_from}, whose training is not counted")
    return ", ".join(words)


def _made_by(card: ModelCard) -> str:
    return f"ase_srdft {card.version or NOT_RECORDED}, commit {card.commit or NOT_RECORDED}"
