"""What a calculator tells of the electrons: ASE's output methods, the bracket, the arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.calculators.abc import GetOutputsMixin
from ase.calculators.calculator import PropertyNotPresent

from ase_srdft.calculator.certificate import Certificate
from ase_srdft.calculator.density_outputs import DensityOutputs
from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.models.electronic_structure import ElectronicStructure

__all__ = ["BatchResults", "ElectronicOutputs"]

#: What ASE does not know.
_BESIDE = ("energy_bracket", "certificate")


class BatchResults(dict[str, Any]):
    """Results under ASE's names, and ``energy_bracket`` and ``certificate`` beside them.

    ASE refuses names that it does not know, in ``SinglePointCalculator(atoms, **results)`` for
    one.  So these two can be asked for as any result, ``results["certificate"]``, and are not among
    those that one gets by going through them all.

    Args:
        results: under ASE's names, in its units.
        energy_bracket: lower and upper bound (eV) of the SCF energy.
        certificate: what they are worth.
    """

    def __init__(
        self,
        results: dict[str, Any],
        energy_bracket: tuple[float, float],
        certificate: Certificate,
    ) -> None:
        super().__init__(results)
        self.energy_bracket, self.certificate = energy_bracket, certificate

    def __missing__(self, name: str) -> Any:
        if name in _BESIDE:
            return getattr(self, name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in _BESIDE or super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The result, those beside them included."""
        return getattr(self, name) if name in _BESIDE else super().get(name, default)

    def copy(self) -> BatchResults:
        """A shallow copy, with what is beside them."""
        return BatchResults(self, self.energy_bracket, self.certificate)

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchResults, (dict(self), self.energy_bracket, self.certificate)


class ElectronicOutputs(DensityOutputs, GetOutputsMixin):
    """Electronic results in eV by ASE's standard methods, and in Hartree as arrays."""

    @property
    def electronic_state(self) -> ElectronicStructure:
        """The electrons of the atoms last asked about."""
        raise NotImplementedError

    @property
    def energy_bracket(self) -> tuple[float, float]:
        """Lower and upper bound (eV) of the SCF energy where the atoms are now.

        The upper one is the energy itself, and variational.  The lower one holds where the
        functional is convex in the density matrix between the two states, which exact exchange
        is not: with hybrid functionals it can fall short of the error by some 10 % of it
        (`ase_srdft.dft.energy_bracket.EnergyBracket`).  Same basis, grid and density fitting.

        Raises:
            PropertyNotPresent: there was no geometry yet.
        """
        return self.electronic_state.energy_bracket

    def get_homo_lumo(self) -> tuple[float, float]:
        """Energies (eV) of the highest occupied and the lowest unoccupied orbital of F[P].

        Raises:
            PropertyNotPresent: no geometry yet, or a basis without an unoccupied orbital.
        """
        state = self.electronic_state
        if state.lumo is None:
            raise PropertyNotPresent("no LUMO: all orbitals of this basis are occupied")
        return state.homo * EV_PER_HARTREE, state.lumo * EV_PER_HARTREE

    def get_loewdin_charges(self) -> np.ndarray:
        """Löwdin's charges of the atoms (e), (natoms,); ASE's ``get_charges`` gives Mulliken's.

        Raises:
            PropertyNotPresent: there was no geometry yet.
        """
        return self.electronic_state.loewdin_charges

    def _outputmixin_get_results(self) -> dict[str, Any]:
        """What ASE's output methods read; the Fermi level is in the middle of the gap."""
        state = self.electronic_state
        top = state.homo if state.lumo is None else state.lumo
        return {
            "eigenvalues": state.mo_energy[None, None] * EV_PER_HARTREE,
            "occupations": state.mo_occ[None, None],
            "fermi_level": 0.5 * (state.homo + top) * EV_PER_HARTREE,
            "ibz_kpoints": np.zeros((1, 3)),
            "kpoint_weights": np.ones(1),
        }
