"""Which atoms are bonded, and which are too close, from distances alone (Angstrom)."""

from __future__ import annotations

from collections import Counter

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from jaxtyping import Bool, Float, Integer

from ase_srdft.common.elements import chemical_symbols

__all__ = ["bond_matrix", "bonded_groups", "same_connectivity", "same_molecule", "too_close"]

#: Atoms are bonded up to this multiple of the sum of their covalent radii.
_BOND_FACTOR = 1.3


def bond_matrix(
    numbers: Integer[np.ndarray, " natoms"],
    positions_angstrom: Float[np.ndarray, "*batch natoms 3"],
) -> Bool[np.ndarray, "*batch natoms natoms"]:
    """Which atoms are closer than 1.3 times the sum of their covalent radii.

    Symmetric, and false on the diagonal.

    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> np.argwhere(np.triu(bond_matrix(water.numbers, water.positions))).tolist()
    [[0, 1], [0, 2]]
    """
    radii = covalent_radii[numbers]
    reach = _BOND_FACTOR * (radii[:, None] + radii)
    np.fill_diagonal(reach, 0.0)
    vectors = positions_angstrom[..., :, None, :] - positions_angstrom[..., None, :, :]
    bonded: np.ndarray = (vectors**2).sum(axis=-1) < reach**2
    return bonded


def same_connectivity(
    numbers: Integer[np.ndarray, " natoms"],
    reference_angstrom: Float[np.ndarray, "natoms 3"],
    positions_angstrom: Float[np.ndarray, "nwalkers natoms 3"],
) -> Bool[np.ndarray, " nwalkers"]:
    """Which walkers have exactly the bonds of the reference.

    A walker with a position that is not finite has not.
    """
    finite = np.isfinite(positions_angstrom).all(axis=(1, 2))
    expected = bond_matrix(numbers, reference_angstrom)
    found = bond_matrix(numbers, np.where(finite[:, None, None], positions_angstrom, 0.0))
    same: np.ndarray = finite & (found == expected).all(axis=(1, 2))
    return same


def same_molecule(one: Atoms, other: Atoms) -> bool:
    """Whether two structures (Angstrom) have the same atoms and bonds, however they are listed.

    The atoms of both are sorted into ever finer classes, by element and by the classes of their
    neighbours (B. Weisfeiler and A. Leman, 1968).  Structures with the same bonds are never told
    apart; a few with other bonds, which differ only in how like atoms form rings, are not told
    apart either.  Conformers and mirror images are the same molecule.

    >>> from ase.build import molecule
    >>> ethanol = molecule("CH3CH2OH")
    >>> same_molecule(ethanol, ethanol[::-1]), same_molecule(ethanol, molecule("CH3OCH3"))
    (True, False)
    """
    if sorted(one.numbers) != sorted(other.numbers):
        return False
    neighbours = [
        offset + np.flatnonzero(row)
        for atoms, offset in ((one, 0), (other, len(one)))
        for row in bond_matrix(atoms.numbers, atoms.positions)
    ]
    classes, nclasses = np.concatenate([one.numbers, other.numbers]), 0
    while len(np.unique(classes)) > nclasses:
        nclasses = len(np.unique(classes))
        kinds = [(classes[i], *np.sort(classes[near])) for i, near in enumerate(neighbours)]
        order = {kind: index for index, kind in enumerate(sorted(set(kinds)))}
        classes = np.array([order[kind] for kind in kinds])
    return bool((np.sort(classes[: len(one)]) == np.sort(classes[len(one) :])).all())


def bonded_groups(atoms: Atoms) -> str:
    """The atoms other than hydrogen, each with its hydrogens, counted: an isomer in a few words.

    Says nothing of the other bonds, so that some isomers have the same words.

    >>> from ase.build import molecule
    >>> bonded_groups(molecule("CH3CH2OH")), bonded_groups(molecule("CH3OCH3"))
    ('CH3, CH2, OH', '2 CH3, O')
    """
    hydrogens = bond_matrix(atoms.numbers, atoms.positions)[:, atoms.numbers == 1].sum(axis=1)
    groups = zip(atoms.numbers.tolist(), (-hydrogens).tolist(), strict=True)
    counts = sorted(Counter(group for group in groups if group[0] != 1).items())
    return ", ".join(
        (f"{times} " if times > 1 else "") + chemical_symbols[number] + _hydrogens(-few)
        for (number, few), times in counts
    )


def _hydrogens(count: int) -> str:
    return "" if count == 0 else "H" if count == 1 else f"H{count}"


def too_close(
    numbers: Integer[np.ndarray, " natoms"],
    positions_angstrom: Float[np.ndarray, "nwalkers natoms 3"],
) -> Bool[np.ndarray, " nwalkers"]:
    """Which walkers are not finite or have two atoms within half their covalent distance."""
    finite = np.isfinite(positions_angstrom).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], positions_angstrom, 0.0)
    radii = covalent_radii[numbers]
    first, second = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(safe[:, first] - safe[:, second], axis=-1)
    clash: np.ndarray = (distances < 0.5 * (radii[first] + radii[second])).any(axis=1)
    hopeless: np.ndarray = ~finite | clash
    return hopeless
