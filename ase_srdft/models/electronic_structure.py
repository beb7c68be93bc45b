"""The electronic structure of one geometry as plain arrays, in atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.dft.atomic_charges import loewdin_charges, mulliken_charges
from ase_srdft.models.correction_record import CorrectionRecord
from ase_srdft.models.single_point_result import SinglePointResult

__all__ = ["ElectronicStructure", "electronic_structures"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ElectronicStructure:
    """What a model knows of the electrons at one geometry: Hartree, Bohr, PySCF's order of AOs.

    ``density_matrix`` is the model's state.  The orbitals are those of its Hamiltonian:
    F[P] C = S C e, occupied from below.  Their density 2 C_occ C_occ^T is P itself only at
    self-consistency; how far it is from it is what the bracket measures.

    Attributes:
        density_matrix: P of the model, spin-summed.
        fock: F[P] (Hartree).
        overlap: S.
        energy: E[P], the bracket's upper end (Hartree).
        energy_lower: the bracket's lower end (Hartree); see
            `ase_srdft.dft.energy_bracket.EnergyBracket`.
        nocc: number of doubly occupied orbitals.
        mulliken_charges: of the atoms (e), from P.
        loewdin_charges: likewise.
        path: how the state came about: ``model``; or ``damped`` or ``guess``, where half or none
            of the model's correction gave a lower energy than all of it; ``corrected``, or
            ``searched`` or ``scf`` (`ase_srdft.calculator.certificate.Certificate`).
        correction: more of it, where it had a promise to keep.
    """

    density_matrix: Float[np.ndarray, "nao nao"]
    fock: Float[np.ndarray, "nao nao"]
    overlap: Float[np.ndarray, "nao nao"]
    energy: float
    energy_lower: float
    nocc: int
    mulliken_charges: Float[np.ndarray, " natoms"]
    loewdin_charges: Float[np.ndarray, " natoms"]
    path: str = "model"
    correction: CorrectionRecord | None = None

    @property
    def nao(self) -> int:
        """Number of atomic orbitals, and of molecular ones."""
        return len(self.fock)

    @property
    def energy_bracket(self) -> tuple[float, float]:
        """Lower and upper bound of the SCF energy (eV)."""
        return self.energy_lower * EV_PER_HARTREE, self.energy * EV_PER_HARTREE

    @property
    def mo_energy(self) -> Float[np.ndarray, " nao"]:
        """Eigenvalues of F[P] (Hartree), ascending."""
        return self._eigenpairs[0].copy()

    @property
    def mo_coeff(self) -> Float[np.ndarray, "nao nao"]:
        """Eigenvectors of F[P] in columns, C^T S C = 1."""
        return self._eigenpairs[1].copy()

    @property
    def mo_occ(self) -> Float[np.ndarray, " nao"]:
        """Electrons in each orbital: 2 up to the HOMO, 0 from the LUMO on."""
        return np.where(np.arange(self.nao) < self.nocc, 2.0, 0.0)

    @property
    def homo(self) -> float:
        """Energy of the highest occupied orbital (Hartree)."""
        return float(self.mo_energy[self.nocc - 1])

    @property
    def lumo(self) -> float | None:
        """Energy of the lowest unoccupied orbital (Hartree); None if the basis has none."""
        return float(self.mo_energy[self.nocc]) if self.nocc < self.nao else None

    @cached_property
    def _eigenpairs(self) -> tuple[np.ndarray, np.ndarray]:
        energies, vectors = eigh(self.fock, self.overlap)
        return energies, vectors


def electronic_structures(evaluation: SinglePointResult) -> list[ElectronicStructure]:
    """Each geometry of an evaluation by itself, on the CPU and without its graph."""
    geometry, bracket = evaluation.geometry, evaluation.bracket
    matrices = (evaluation.state.density_matrix, evaluation.fock, geometry.integrals.overlap)
    density_matrices, focks, overlaps = (m.detach().cpu().numpy() for m in matrices)
    molecule = geometry.molecule
    return [
        ElectronicStructure(
            density_matrix=density_matrices[i].copy(),
            fock=focks[i].copy(),
            overlap=overlaps[i].copy(),
            energy=float(bracket.upper[i]),
            energy_lower=float(bracket.lower[i]),
            nocc=molecule.nocc,
            mulliken_charges=mulliken_charges(molecule, overlaps[i], density_matrices[i]),
            loewdin_charges=loewdin_charges(molecule, overlaps[i], density_matrices[i]),
            path=evaluation.paths[i],
            correction=evaluation.corrections[i] if evaluation.corrections else None,
        )
        for i in range(len(geometry))
    ]
