"""Atom-centred quadrature before partitioning: radial shells times Lebedev spheres, from PySCF."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int

from ase_srdft.common.elements import chemical_symbols

__all__ = ["BLOCK", "COARSE_GRID", "RESPONSE_GRID", "AtomicGrid", "atomic_grid", "bragg_radius"]

#: Points of a block, one atom's own and close together.
BLOCK = 128
#: Pseudo-level of the coarse training grid (see :func:`atomic_grid`).
COARSE_GRID = -1
#: Pseudo-level of the grid on which a correction asks how a potential answers to a change.
RESPONSE_GRID = -2
#: Radial shells and angular points of the two: hydrogen and helium, others.  The others have five
#: shells more for each further period.
_OWN_GRIDS = {
    COARSE_GRID: ((20, 50), (25, 110)),
    RESPONSE_GRID: ((15, 38), (20, 50)),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class AtomicGrid:
    """Quadrature around one free atom.

    Attributes:
        offsets: points relative to the nucleus (Bohr).
        volumes: quadrature weights before Becke's partition (Bohr^3).
    """

    offsets: Float[np.ndarray, "npoints 3"]
    volumes: Float[np.ndarray, " npoints"]

    @cached_property
    def in_blocks(self) -> AtomicGrid:
        """The same quadrature in blocks of `BLOCK` neighbours.

        The last block is filled up by repeating a point without weight.
        """
        order = np.concatenate(_halved(np.arange(len(self.volumes)), self.offsets))
        padding = np.full(-len(order) % BLOCK, order[-1])
        volumes = np.concatenate([self.volumes[order], np.zeros(len(padding))])
        return AtomicGrid(offsets=self.offsets[np.concatenate([order, padding])], volumes=volumes)


def _halved(
    members: Int[np.ndarray, " nmembers"], offsets: Float[np.ndarray, "npoints 3"]
) -> list[np.ndarray]:
    """Points cut in two across their longest extent until each part fits into a block."""
    if len(members) <= BLOCK:
        return [members]
    axis = int(np.argmax(np.ptp(offsets[members], axis=0)))
    ordered = members[np.argsort(offsets[members, axis], kind="stable")]
    middle = -(-len(members) // BLOCK) // 2 * BLOCK
    return [*_halved(ordered[:middle], offsets), *_halved(ordered[middle:], offsets)]


@lru_cache(maxsize=256)
def atomic_grid(number: int, level: int) -> AtomicGrid:
    """The Treutler-Ahlrichs/Lebedev grid of one element, pruned as NWChem does.

    Level 0 to 9 are PySCF's.  ``COARSE_GRID`` is for training only: 20 radial shells with 50
    angular points on hydrogen and helium, 25 (and 5 more per further period) with 110 on others,
    pruned like the rest: 1,216 points on H and 2,066 on C, against 2,472 and 5,180 of level 1.
    A state that is stationary on it is stationary on level 1 to 1 microhartree
    (``benchmarks/training_grid.py``), because the energy is of second order in the difference of
    the two Fock matrices.  ``RESPONSE_GRID`` is for differences of potentials alone
    (`ase_srdft.dft.correction`): 15 shells of 38 points, 20 of 50 on others.
    """
    from pyscf import dft, gto

    symbol = chemical_symbols[number]
    any_basis = {symbol: [[0, [1.0, 1.0]]]}
    mol = gto.M(atom=[(symbol, (0.0, 0.0, 0.0))], basis=any_basis, spin=number % 2, verbose=0)
    grids = dft.gen_grid.Grids(mol)
    if level in _OWN_GRIDS:
        light, (nradial, nangular) = _OWN_GRIDS[level]
        period = int(np.searchsorted((2, 10, 18, 36, 54, 86), number))
        grids.atom_grid = {symbol: light if period == 0 else (nradial + 5 * (period - 1), nangular)}
    else:
        grids.level = level
    table = grids.gen_atomic_grids(mol)
    offsets, volumes = table[symbol]
    return AtomicGrid(offsets=np.ascontiguousarray(offsets), volumes=np.asarray(volumes))


def bragg_radius(number: int) -> float:
    """Bragg-Slater radius (Bohr) that shifts Becke's cell boundaries."""
    from pyscf.dft import radi

    return float(radi.BRAGG_RADII[number])
