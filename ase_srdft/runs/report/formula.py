"""Formulas as chemists write them: HCN and NH3 rather than Hill's CHN and H3N."""

from __future__ import annotations

import re

from ase import Atoms

from ase_srdft.common.connectivity import bond_matrix

__all__ = ["chemists_formula", "with_subscripts"]

#: Non-metals from the least to the most electronegative, as IUPAC orders them in formulas (Red
#: Book 2005, table VI); metals come before them.
_NON_METALS = ["B", "Si", "C", "Sb", "As", "P", "N", "H", "Te", "Se", "S", "At", "I", "Br"]
_NON_METALS += ["Cl", "O", "F"]
_COUNTS = r"(?<=[A-Za-z])\d+"
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def chemists_formula(hill: str, atoms: Atoms | None = None) -> str:
    """A formula in the usual order of elements.

    A chain of three or more atoms that all differ is written along the chain, from a metal, from
    hydrogen or by the alphabet: HCN, HNC, HNCO, OCS.  All else with carbon keeps Hill's order
    (carbon, hydrogen, the alphabet).  What has no carbon goes from the least to the most
    electronegative element, with hydrogen before other non-metals where there is oxygen.

    Args:
        hill: Hill's formula; any other text is given back as it is.
        atoms: a geometry (Angstrom) that tells a chain; without one, carbon is taken to be in the
            middle of three different atoms.

    >>> [chemists_formula(name) for name in ("H2O", "H3N", "CHN", "C2H6O", "HNO3", "H4Si", "O2S")]
    ['H2O', 'NH3', 'HCN', 'C2H6O', 'HNO3', 'SiH4', 'SO2']
    """
    if not re.fullmatch(r"(?:[A-Z][a-z]?\d*)+", hill):
        return hill
    counts = dict(re.findall(r"([A-Z][a-z]?)(\d*)", hill))
    chain = _around_carbon(counts) if atoms is None else _chain(atoms)
    if len(chain) > 2 and len(set(chain)) == len(chain):
        backwards = _place_at_end(chain[-1]) < _place_at_end(chain[0])
        return "".join(reversed(chain) if backwards else chain)
    symbols = list(counts)
    if "C" not in counts:
        symbols.sort(key=lambda symbol: _place(symbol, "O" in counts))
    return "".join(symbol + counts[symbol] for symbol in symbols)


def with_subscripts(formula: str) -> str:
    """Formulas with their numbers set low; a level of theory, which has a slash, stays.

    >>> with_subscripts("C2H6O"), with_subscripts("H2O PBE/def2-svp")
    ('C₂H₆O', 'H₂O PBE/def2-svp')
    """
    words = r"(?<!\S)[^\s/]+(?!\S)"
    return re.sub(words, lambda word: re.sub(_COUNTS, _set_low, word[0]), formula)


def _set_low(count: re.Match[str]) -> str:
    return count[0].translate(_SUBSCRIPTS)


def _around_carbon(counts: dict[str, str]) -> list[str]:
    """Three different atoms with carbon in the middle; empty for any other formula."""
    if len(counts) != 3 or "C" not in counts or any(counts.values()):
        return []
    first, last = (symbol for symbol in counts if symbol != "C")
    return [first, "C", last]


def _chain(atoms: Atoms) -> list[str]:
    """The symbols along an unbranched, open chain; empty for any other molecule."""
    bonded = bond_matrix(atoms.numbers, atoms.positions)
    nbonds = bonded.sum(axis=1)
    ends = (nbonds == 1).nonzero()[0]
    if len(ends) != 2 or nbonds.max() > 2:
        return []
    path = [int(ends[0])]
    while following := [int(i) for i in bonded[path[-1]].nonzero()[0] if int(i) not in path]:
        path.append(following[0])
    return [atoms.symbols[index] for index in path] if len(path) == len(atoms) else []


def _place_at_end(symbol: str) -> tuple[bool, bool, str]:
    """Which end of a chain comes first: a metal, hydrogen, the alphabet."""
    return (symbol in _NON_METALS, symbol != "H", symbol)


def _place(symbol: str, with_oxygen: bool) -> tuple[int, str]:
    """Where an element stands in a formula without carbon."""
    if symbol not in _NON_METALS:
        return (-2, symbol)
    if symbol == "H" and with_oxygen:
        return (-1, symbol)
    return (_NON_METALS.index(symbol), symbol)
