"""The door from ASE: `Atoms` in, checked nuclei in atomic units out.

Whatever the package is given as ``Atoms`` passes `nuclei_of` before anything is computed, so each
fault has one check and one message.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from jaxtyping import Float

from ase_srdft.common.charges import total_charge
from ase_srdft.common.errors import BadGeometry, BadInput
from ase_srdft.common.units import ANGSTROM_PER_BOHR

__all__ = ["Nuclei", "check_structure", "nuclei_of"]

_CLOSEST_ANGSTROM = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Nuclei:
    """The nuclei of a molecule in vacuum and its total charge, as `nuclei_of` has checked them.

    Attributes:
        numbers: atomic numbers.
        positions: in Bohr, float64.
        charge: of the molecule (e).
    """

    numbers: tuple[int, ...]
    positions: Float[np.ndarray, "natoms 3"]
    charge: int

    def __post_init__(self) -> None:
        expected = (len(self.numbers), 3)
        if self.positions.shape != expected:
            raise BadInput(
                f"positions of shape {self.positions.shape} for {len(self.numbers)} atoms: use "
                f"{expected}"
            )


def nuclei_of(
    atoms: Atoms | Nuclei,
    charge: int | None = None,
    multiplicity: int | None = None,
    what: str = "the structure",
) -> Nuclei:
    """The nuclei of a structure, once everything that can be wrong with it was checked.

    What a level of theory or a model does not cover is not checked here: an odd number of
    electrons, or an element without a basis (`ase_srdft.dft.molecule.Molecule`).

    >>> nuclei = nuclei_of(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], charges=[-1, 0]))
    >>> nuclei.numbers, nuclei.charge, f"{nuclei.positions[1, 2]:.3f}"
    ((8, 1), -1, '1.833')

    Args:
        atoms: the structure (Angstrom); nuclei, which were checked before, need only be of the
            charge that is asked for.
        charge: total charge (e) that the atoms must not contradict; None for what they state, or
            0 (see `ase_srdft.common.charges`).
        multiplicity: what was asked for, for messages only: it can but be 1.
        what: how messages call the structure, such as "frame 3".

    Raises:
        BadInput: no atoms, an atom that is no element, periodic boundary conditions, statements
            of the charge that contradict each other, or an open shell.
        BadGeometry: positions that are not finite, or two atoms closer than 0.3 Angstrom.
    """
    if isinstance(atoms, Nuclei):
        if charge not in (None, atoms.charge):
            raise BadInput(f"{what}: charge={charge}, but the nuclei are of charge {atoms.charge}")
        return atoms
    _check_composition(atoms, what)
    try:
        total = total_charge(atoms, charge, multiplicity)
    except BadInput as err:
        raise BadInput(f"{what}: {err}") from None
    _check_positions(atoms, what)
    return Nuclei(
        numbers=tuple(atoms.numbers.tolist()),
        positions=atoms.positions / ANGSTROM_PER_BOHR,
        charge=total,
    )


def check_structure(atoms: Atoms, what: str) -> None:
    """Check what `nuclei_of` checks, but for charge and spin.

    For a reader of files, who does not know yet which charge is asked for.

    Args:
        atoms: the structure.
        what: how messages call it.

    Raises:
        BadInput: no atoms, an atom that is no element, or periodic boundary conditions.
        BadGeometry: positions that are not finite, or two atoms closer than 0.3 Angstrom.
    """
    _check_composition(atoms, what)
    _check_positions(atoms, what)


def _check_composition(atoms: Atoms, what: str) -> None:
    if len(atoms) == 0:
        raise BadInput(f"{what} has no atoms; give a structure with at least one")
    unknown = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers >= len(chemical_symbols)))
    if len(unknown):
        raise BadInput(
            f"{what}: atom {unknown[0]} has the atomic number {atoms.numbers[unknown[0]]}, "
            "which is no element; remove dummy atoms"
        )
    if atoms.pbc.any():
        raise BadInput(
            f"{what} is periodic (pbc = {atoms.pbc.tolist()}), and only molecules in vacuum are "
            "supported; set atoms.pbc = False if the cell is just a box"
        )


def _check_positions(atoms: Atoms, what: str) -> None:
    broken = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(broken):
        raise BadGeometry(
            f"{what}: atom {_name(atoms, broken[0])} is at {atoms.positions[broken[0]].tolist()}; "
            "every coordinate must be a finite number of Angstrom"
        )
    first, second = np.triu_indices(len(atoms), 1)
    distances = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1)
    if distances.min(initial=np.inf) >= _CLOSEST_ANGSTROM:
        return
    pair = distances.argmin()
    raise BadGeometry(
        f"{what}: atoms {_name(atoms, first[pair])} and {_name(atoms, second[pair])} are "
        f"{distances[pair]:.3f} Angstrom apart, closer than {_CLOSEST_ANGSTROM} Angstrom; "
        "check the units (Angstrom) and the atoms' order"
    )


def _name(atoms: Atoms, index: np.integer) -> str:
    return f"{index} ({chemical_symbols[atoms.numbers[index]]})"
