"""What commands tell about models without evaluating them: a list, and one card."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from ase_srdft.common.errors import BadInput

if TYPE_CHECKING:
    from ase_srdft.calculator.model_card import ModelCard

__all__ = ["answer_about_models", "print_table"]

_HEADER = ("model", "family", "level", "molecules", "T/K", "error/µEh", "largest")


def answer_about_models(model: str | None, given: Set[str]) -> int:
    """Print the list of the shipped models, or the card of one; returns the exit code.

    Args:
        model: name or path, for the card.
        given: options that are not at their defaults, by name; ``list`` or ``card`` is one.

    Raises:
        BadInput: options that have nothing to do with it, no model for the card, or one that
            cannot be read.
    """
    from ase_srdft.calculator.model_card import model_card
    from ase_srdft.models.shipped_models import list_models

    listing = "list" in given
    others = sorted(given - ({"list"} if listing else {"card", "model"}))
    if others:
        words = "--list stands alone" if listing else "MODEL --card stands alone"
        raise BadInput(f"{words}, without {', '.join(others)}: leave the one or the other out")
    if listing:
        print_table([model_card(name) for name in list_models()])
        return 0
    if model is None:
        raise BadInput("no MODEL: give --card a .srdft file or the name of a shipped model")
    print(model_card(model))
    return 0


def print_table(cards: Sequence[ModelCard]) -> None:
    """Print models, a line each."""
    rows = [_HEADER, *map(_cells, cards)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        words = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(words).rstrip())
    print(
        "error, largest: bracket widths of geometries held out, -: not recorded; see MODEL --card"
    )


def _cells(card: ModelCard) -> tuple[str, ...]:
    """The columns of `_HEADER`."""
    from ase_srdft.calculator.card_words import error_words, level_words, molecule_words

    levels = "any" if card.level_free else ", ".join(map(level_words, card.levels or ()))
    isomer = "" if card.structure is None else ", one isomer"
    temperature = "-" if card.temperature_K is None else f"{card.temperature_K:g}"
    widths = (card.bracket_width_uEh, card.bracket_width_max_uEh)
    errors = ("-" if width is None else error_words(width) for width in widths)
    return card.name, card.family, levels, molecule_words(card) + isomer, temperature, *errors
