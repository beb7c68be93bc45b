"""The total charge of a structure, from every place where it is stated, and its closed shell.

Besides a parameter there are four places: ``initial_charges`` and ``initial_magmoms`` of the atoms,
their ``info`` (the comment line of an extended xyz file ends there), and the charges and moments
that a calculation before this one found.  Whatever is stated must agree, and where an answer of
ours was computed with a charge, it must be stated.

==============================================  ==================================================
key of ``info``; case, _ and - do not matter    what it must be
==============================================  ==================================================
``charge``, ``total_charge``, ``net_charge``,   the total charge (e)
``tot_charge``, ``molecular_charge``,
``formal_charge``, ``chrg``, ``chg``, ``q``
``multiplicity``, ``spin_multiplicity``,        1
``mult``
``spin``, ``total_spin``                        1 or 0.  The data sets that have this key beside
                                                a charge mean the multiplicity by it, so 1 is the
                                                singlet; where it means 2S or S, 0 is.  1 cannot
                                                be 2S, for the number of electrons is even, as is
                                                checked elsewhere.
``unpaired_electrons``, ``n_unpaired``,         0
``unpaired``, ``uhf``, ``magmom``,
``total_magmom``
==============================================  ==================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ase_srdft.common.errors import BadInput

__all__ = ["CHARGE_OF_ANSWER", "is_stated", "stated", "total_charge"]

#: How far a sum of partial charges or moments may be from a whole number.
_WHOLE = 1.0e-3
#: How far the charges that a calculation gave to the atoms may sum from the total: they are
#: rounded, one by one, and some schemes do not sum well; but no other whole number is as close.
_COMPUTED = 0.5
#: The charge that an answer of ours was computed with, in ``info``.
CHARGE_OF_ANSWER = "srdft_charge"
#: Without underscores.
_CHARGE_KEYS = (
    "charge",
    "totalcharge",
    "totcharge",
    "netcharge",
    "molecularcharge",
    "formalcharge",
    "chrg",
    "chg",
    "q",
)
_SINGLET = {
    "multiplicity": (1,),
    "spinmultiplicity": (1,),
    "mult": (1,),
    "spin": (0, 1),
    "totalspin": (0, 1),
    "unpairedelectrons": (0,),
    "nunpaired": (0,),
    "unpaired": (0,),
    "uhf": (0,),
    "magmom": (0,),
    "totalmagmom": (0,),
}
_NO_OPEN_SHELL = (
    "but open shells are not supported; without it, the closed-shell singlet is what would be "
    "computed, which is not the ground state of every molecule (not that of O2)"
)


def total_charge(atoms: Atoms, charge: int | None, multiplicity: int | None) -> int:
    """The total charge (e): what the parameter and the atoms say, and 0 if none says anything.

    Args:
        atoms: their initial charges count where any is not zero; the keys of ``info`` that count
            are in the table above.  None as a value states nothing.
        charge: the parameter.
        multiplicity: for the message only.

    Raises:
        BadInput: two statements contradict each other, or one is no whole number; an open
            shell.
    """
    _refuse_open_shell(atoms, multiplicity)
    statements = list(_charges(atoms, charge))
    earlier = atoms.info.get(CHARGE_OF_ANSWER)
    if earlier and not statements:
        raise BadInput(
            f"info[{CHARGE_OF_ANSWER!r}] is {earlier}, of an answer before this one, and no charge "
            f"is given: give charge={earlier}, or charge=0 if that is what you want"
        )
    words, total = statements[0] if statements else ("no charge is given", 0)
    for other_words, other in statements[1:]:
        if other != total:
            raise BadInput(f"{words}, but {other_words}: make them agree")
    computed = _computed(atoms, "charges")
    if computed is not None and not abs(computed.sum() - total) < _COMPUTED:
        raise BadInput(
            f"{words}, but the charges that a calculation gave to the atoms sum to "
            f"{computed.sum():g}: give the total charge, or remove them (atoms.calc = None)"
        )
    return total


def is_stated(key: str) -> bool:
    """Whether a key of ``info`` tells of the charge or the spin."""
    return _plain(key) in _CHARGE_KEYS or _plain(key) in _SINGLET


def stated(info: Mapping[str, Any]) -> dict[str, Any]:
    """What ``info`` says of charge and spin, by its own keys; what is None says nothing."""
    return {
        key: value
        for key, value in info.items()
        if isinstance(key, str) and value is not None and is_stated(key)
    }


def _plain(key: str) -> str:
    """``Total-Charge`` and ``total_charge:`` are one key; so a comment in words is seen, too."""
    return re.split("[:;,]", re.sub("[-_]", "", key.lower()), maxsplit=1)[0]


def _charges(atoms: Atoms, charge: int | None) -> Iterator[tuple[str, int]]:
    """Each statement of the total charge, in words and as a number."""
    if charge is not None:
        yield f"charge={charge}", charge
    charges = atoms.get_initial_charges()
    total = float(charges.sum())
    whole = round(total) if np.isfinite(total) else 0
    if not abs(total - whole) < _WHOLE:
        raise BadInput(
            f"the atoms' initial charges sum to {total:g}: make it a whole number, or remove them "
            "and give charge=..."
        )
    if charges.any():
        yield f"the atoms' initial charges sum to {whole}", whole
    for key, value in stated(atoms.info).items():
        if _plain(key) in _CHARGE_KEYS:
            whole = _whole(key, value)
            yield f"info[{key!r}] is {whole}", whole


def _refuse_open_shell(atoms: Atoms, multiplicity: int | None) -> None:
    against = "" if multiplicity is None else f" against multiplicity={multiplicity}"
    moment = float(np.linalg.norm(atoms.get_initial_magnetic_moments().sum(axis=0)))
    if not moment <= _WHOLE:
        raise BadInput(
            f"the atoms' initial magnetic moments sum to {moment:g}, a multiplicity of "
            f"{moment + 1:g}{against}, {_NO_OPEN_SHELL}; "
            "atoms.set_initial_magnetic_moments(None) takes them away"
        )
    for key, value in stated(atoms.info).items():
        allowed = _SINGLET.get(_plain(key))
        read = _number if _plain(key).endswith("magmom") else _whole
        if allowed is not None and read(key, value) not in allowed:
            raise BadInput(f"info[{key!r}] is {value}{against}, {_NO_OPEN_SHELL}")
    for name in ("magmom", "magmoms"):
        computed = _computed(atoms, name)
        if computed is None:
            continue
        moment = float(np.linalg.norm(computed.sum(axis=0)))
        if not moment <= _COMPUTED:
            raise BadInput(
                f"a calculation gave the atoms a magnetic moment of {moment:g}{against}, "
                f"{_NO_OPEN_SHELL}"
            )


def _computed(atoms: Atoms, name: str) -> np.ndarray | None:
    """What a calculation before this one found, as files keep it, along the atoms."""
    if not isinstance(atoms.calc, SinglePointCalculator):
        return None
    value = atoms.calc.results.get(name)
    try:
        return None if value is None else np.atleast_1d(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        raise BadInput(f"the {name} of the atoms are {value!r}: use numbers") from None


def _whole(key: str, value: Any) -> int:
    number = _number(key, value)
    if round(number) != number:
        raise _no_number(key, value)
    return round(number)


def _number(key: str, value: Any) -> float:
    """The one number that a key of ``info`` has; an array of one is fine, True and "1" are not."""
    array = np.empty(0) if isinstance(value, list | tuple | str) else np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise _no_number(key, value)
    return float(array.reshape(())[()])


def _no_number(key: str, value: Any) -> BadInput:
    # ASE makes True of a word without a value in the comment line of an xyz file
    words = "has no value" if value is True else f"is {' '.join(repr(value).split())}"
    return BadInput(
        f"info[{key!r}] {words}: use a whole number ({_plain(key)}=... in the comment line of "
        "an xyz file), or remove it"
    )
