"""One geometry of an evaluation as ASE's results, in its units."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from ase_srdft.common.errors import DegenerateState
from ase_srdft.common.units import (
    ANGSTROM_PER_BOHR,
    E_ANGSTROM_PER_ATOMIC_DIPOLE,
    EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
    EV_PER_HARTREE,
)
from ase_srdft.dft.dipole_moment import dipole_moment
from ase_srdft.models.electronic_structure import ElectronicStructure
from ase_srdft.models.single_point_result import SinglePointResult

__all__ = ["ase_results"]


def ase_results(
    atoms: Atoms, evaluation: SinglePointResult, index: int, state: ElectronicStructure
) -> dict[str, Any]:
    """What ASE asks for: eV, e·Å, e and, where there are forces, eV/Å.

    Args:
        atoms: the structure; its masses set the origin of an ion's dipole.
        evaluation: of this geometry and perhaps others of the molecule.
        index: its place among them.
        state: its electrons.

    Raises:
        CalculationFailed: forces of degenerate frontier orbitals, or a result that is not finite.

    Warns:
        DegenerateState: an energy of such a state.
    """
    molecule = evaluation.geometry.molecule
    # the origin matters for ions only
    centre = atoms.get_center_of_mass() if molecule.level.charge else atoms.positions.mean(axis=0)
    positions = (atoms.positions - centre) / ANGSTROM_PER_BOHR
    moment = dipole_moment(molecule, positions, state.density_matrix)
    energy = state.energy * EV_PER_HARTREE
    results: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "dipole": moment * E_ANGSTROM_PER_ATOMIC_DIPOLE,
        "charges": state.mulliken_charges,
        "magmom": 0.0,
        "magmoms": np.zeros(len(atoms)),
    }
    if evaluation.forces is not None:
        atomic = evaluation.forces[index].cpu().numpy()
        results["forces"] = atomic * EV_PER_ANGSTROM_PER_ATOMIC_FORCE
    degeneracy = evaluation.degeneracy(index)
    if degeneracy is not None and evaluation.forces is not None:
        raise CalculationFailed(
            f"no forces: {degeneracy}; distort the structure, or ask for the energy alone"
        )
    if degeneracy is not None:
        warnings.warn(
            f"an energy that hangs on rounding: {degeneracy}; it is an upper bound of the SCF "
            "energy, but nothing to compare with its neighbours",
            DegenerateState,
            stacklevel=2,
        )
    broken = [name for name, value in results.items() if not np.isfinite(value).all()]
    if broken:
        raise CalculationFailed(
            f"the {broken[0]} of {atoms.get_chemical_formula()} is not finite: check the geometry "
            "and the model"
        )
    return results
