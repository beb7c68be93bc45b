"""What is held out, level of theory by level, and the molecules with the widest brackets."""

from __future__ import annotations

from ase_srdft.runs.report.formula import chemists_formula, with_subscripts
from ase_srdft.runs.report.history import History, LevelWidths, MoleculeWidth
from ase_srdft.runs.report.words import markup, number

__all__ = ["held_out_tables"]


def held_out_tables(history: History) -> str:
    """A section of the page; empty for one molecule at one level, and for older logs."""
    certified = history.certified
    if certified is None or not (certified.levels or certified.worst):
        return ""
    return (
        '<section class="card"><h2>Where brackets are widest</h2>'
        f"{_levels_table(certified.levels)}{_worst_table(certified.worst)}"
        f"<p>Of the saved model, on what was held out at step {number(certified.step)}.</p>"
        "</section>"
    )


def _levels_table(levels: tuple[LevelWidths, ...]) -> str:
    if not levels:
        return ""
    rows = "".join(
        f"<tr><th>{markup(each.level)}</th><td>{number(each.nvalidation)}</td>"
        f"<td>{number(each.bracket_width_uEh)}</td>"
        f"<td>{number(each.bracket_width_max_uEh)}</td></tr>"
        for each in levels
    )
    return _table(
        ("level of theory", "geometries", "certified error, mean (µEh)", "maximum (µEh)"), rows
    )


def _worst_table(worst: tuple[MoleculeWidth, ...]) -> str:
    if not worst:
        return ""
    rows = "".join(
        f"<tr><th>{markup(_label(each.molecule))}</th><td>{number(each.bracket_width_uEh)}</td></tr>"
        for each in worst
    )
    return _table(("widest brackets", "certified error, mean (µEh)"), rows)


def _table(headings: tuple[str, ...], rows: str) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _label(name: str) -> str:
    """A name as chemists write it: "HCN (isomer 2) PBE/6-31g" of "CHN (isomer 2) PBE/6-31g"."""
    hill, space, rest = name.partition(" ")
    return with_subscripts(chemists_formula(hill)) + space + rest
