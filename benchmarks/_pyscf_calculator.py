"""PySCF as an ASE calculator at our levels of theory: what the calculator is compared with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.units import (
    E_ANGSTROM_PER_ATOMIC_DIPOLE,
    EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
    EV_PER_HARTREE,
)
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field

#: Geometries that are remembered, as our calculator does: images of a band.
_REMEMBERED = 16


class PySCFCalculator(Calculator):
    """Density-fitted SCF and gradient, from the density of the last geometry of the molecule.

    Args:
        level: of theory; the charge is the atoms'.
        conv_tol: of energies (Hartree).
        warm: whether to begin with the last density instead of the minao guess.

    Attributes:
        niterations: Fock matrices built so far.
    """

    implemented_properties = ["energy", "forces", "dipole"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, level: LevelOfTheory, conv_tol: float = 1e-9, warm: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.level, self.conv_tol, self.warm = level, conv_tol, warm
        self.niterations = 0
        self._densities: dict[tuple[int, ...], np.ndarray] = {}
        self._known: OrderedDict[bytes, dict[str, Any]] = OrderedDict()

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy (eV) and forces (eV/Å)."""
        forces: np.ndarray = self.get_forces(atoms)  # type: ignore[no-untyped-call]
        return float(self.get_potential_energy(atoms)), forces  # type: ignore[no-untyped-call]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Converge the SCF, and differentiate it where forces are wanted."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        assert self.atoms is not None
        nuclei = nuclei_of(self.atoms)
        key = nuclei.positions.tobytes()
        wanted = {"energy", "dipole"} | ({"forces"} & set(properties))
        if not wanted <= self._known.get(key, {}).keys():
            self._known[key] = self._solved(nuclei, "forces" in properties)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self.results = dict(self._known[key])

    def _solved(self, nuclei: Any, forces: bool) -> dict[str, Any]:
        molecule = Molecule(numbers=nuclei.numbers, level=replace(self.level, charge=nuclei.charge))
        scf = mean_field(molecule, nuclei.positions)
        scf.conv_tol = self.conv_tol
        scf.callback = self._count
        scf.kernel(dm0=self._densities.get(nuclei.numbers) if self.warm else None)
        if not scf.converged:
            raise RuntimeError("PySCF's SCF did not converge")
        density = scf.make_rdm1()
        self._densities[nuclei.numbers] = density
        results: dict[str, Any] = {
            "energy": scf.e_tot * EV_PER_HARTREE,
            "dipole": scf.dip_moment(dm=density, unit="AU", verbose=0)
            * E_ANGSTROM_PER_ATOMIC_DIPOLE,
        }
        if forces:
            gradient = scf.nuc_grad_method().kernel()
            results["forces"] = -gradient * EV_PER_ANGSTROM_PER_ATOMIC_FORCE
        return results

    def _count(self, _: dict[str, Any]) -> None:
        self.niterations += 1
