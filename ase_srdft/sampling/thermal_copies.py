"""What there is to begin with, before any dynamics: structures displaced as they vibrate."""

from __future__ import annotations

from math import sqrt

import numpy as np
from jaxtyping import Float

from ase_srdft.common.connectivity import same_connectivity
from ase_srdft.common.units import ANGSTROM_PER_BOHR, HARTREE_PER_KELVIN
from ase_srdft.dft.molecule import Molecule
from ase_srdft.sampling.lindh_mobility import mobility_square_root

__all__ = ["thermal_copies"]


def thermal_copies(
    molecule: Molecule,
    reference: Float[np.ndarray, "natoms 3"],
    count: int,
    temperature_K: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "count natoms 3"]:
    """Copies of a structure, rattled as its model Hessian vibrates: R0 + sqrt(kT) M^(1/2) xi.

    Copies with other bonds than the structure are drawn again with half the amplitude.
    """
    numbers = np.array(molecule.numbers)
    root = mobility_square_root(numbers, reference)
    amplitude = np.full(count, sqrt(HARTREE_PER_KELVIN * temperature_K))
    copies = np.repeat(reference[None], count, 0)
    wanted = np.ones(count, dtype=bool)
    while wanted.any():
        noise = rng.standard_normal((int(wanted.sum()), reference.size))
        moved = (amplitude[wanted, None] * (noise @ root)).reshape(-1, *reference.shape)
        copies[wanted] = reference + moved
        good = same_connectivity(numbers, reference * ANGSTROM_PER_BOHR, copies * ANGSTROM_PER_BOHR)
        wanted = ~good & (amplitude > 1e-6)
        amplitude[wanted] *= 0.5
    return copies
