"""Integrals by libcint, through PySCF, with vector-Jacobian products.

Derivatives by an orbital's centre are minus those by the electron, <d_mu ...>, which is what the
``ip`` integrals hold; the derivative by the remaining centre follows from translational
invariance, so one ``ip`` integral of each kind is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from ase_srdft.dft.basis.element_basis import formatted_basis
from ase_srdft.dft.basis.guess_tables import minimal_basis
from ase_srdft.dft.integrals.auxiliary_integrals import AuxiliaryIntegrals, pull_three
from ase_srdft.dft.integrals.cotangent_tape import Cotangent
from ase_srdft.dft.integrals.provider import HIGHEST_OF_POTENTIAL, Arrays
from ase_srdft.dft.integrals.shell_tables import (
    Array,
    Centres,
    JointTables,
    charge_tables,
    symmetric,
)
from ase_srdft.dft.kernels.coulomb import CoulombKernels
from ase_srdft.dft.kernels.library import wide_loops
from ase_srdft.dft.level_of_theory import LevelOfTheory

__all__ = ["LibcintProvider"]


class LibcintProvider:
    """Integrals of one molecule at one level of theory (see ``IntegralProvider``).

    Args:
        numbers: atomic numbers.
        level: level of theory.
        guess: name of the guess whose tables are wanted.
        potential_basis: auxiliary basis that a model's potential is expanded in, if any; with
            s, p and d functions alone where the level's own auxiliary basis is another one.
    """

    def __init__(
        self,
        numbers: tuple[int, ...],
        level: LevelOfTheory,
        guess: str,
        potential_basis: str | None = None,
    ) -> None:
        kinds = sorted(set(numbers))
        self._charges = np.array(numbers, dtype=float)
        self._orbitals = Centres(numbers, {n: formatted_basis(level.basis, n) for n in kinds})
        self._joint = JointTables(self._orbitals)
        #: What evaluates an integral, and what pulls a cotangent of it back to the nuclei.
        self._integrals: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
            "overlap": (self._overlap, self._pull_overlap),
            "core_hamiltonian": (self._core_hamiltonian, self._pull_core_hamiltonian),
        }
        if guess in ("companion", "roothaan", "minao"):
            shells = {n: minimal_basis(n).shells for n in kinds}
            self._minimal = Centres(numbers, shells)
            self._with_minimal = JointTables(self._orbitals, self._minimal)
            self._integrals["guess_overlap"] = (self._guess_overlap, self._pull_guess_overlap)
        elif guess == "sap":
            self._screening = Centres(numbers, {n: [[0, [1.0, 1.0]]] for n in kinds})
            self._screening.tables = charge_tables(numbers)
            self._with_screening = JointTables(self._orbitals, self._screening)
            pair = (self._guess_potential, self._pull_guess_potential)
            self._integrals["guess_potential"] = pair
        if level.auxiliary_basis is None:
            self._integrals["four_center"] = (self._four_center, self._pull_four_center)
        new_set = partial(AuxiliaryIntegrals, numbers, level.basis, self._orbitals)
        self._auxiliary_sets: dict[str, AuxiliaryIntegrals] = {}
        if level.auxiliary_basis is not None:
            self._auxiliary_sets[""] = new_set(level.auxiliary_basis)
        if potential_basis is not None and potential_basis != level.auxiliary_basis:
            self._auxiliary_sets["potential_"] = new_set(potential_basis, HIGHEST_OF_POTENTIAL)
        for prefix, own in self._auxiliary_sets.items():
            self._integrals[f"{prefix}three_center"] = (own.three_center, own.pull_three_center)
            self._integrals[f"{prefix}metric"] = (own.metric, own.pull_metric)
        self.names = tuple(self._integrals)

    @property
    def _kernels(self) -> CoulombKernels | None:
        """What computes now; None for libcint."""
        every = [own.kernels for own in self._auxiliary_sets.values()]
        return next((kernels for kernels in every if kernels is not None), None)

    @property
    def taped_sets(self) -> tuple[str, ...]:
        """The auxiliary sets whose cotangents may be left on a tape."""
        return tuple(p for p, own in self._auxiliary_sets.items() if own.kernels is not None)

    def evaluate(self, positions: Float[np.ndarray, "natoms 3"]) -> Arrays:
        """The integrals at one geometry (Bohr), by name."""
        return {name: evaluate(positions) for name, (evaluate, _) in self._integrals.items()}

    def pull_back(
        self,
        positions: Float[np.ndarray, "natoms 3"],
        cotangents: Arrays,
        terms: Mapping[str, Sequence[Cotangent]] | None = None,
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei (per Bohr) of ``sum(cotangent * integral)``.

        Args:
            positions: nuclei (Bohr).
            cotangents: by the names of the integrals.
            terms: what was left for (mn|Q) and the metric of each auxiliary set.
        """
        gradient = np.zeros_like(positions)
        for prefix, own_terms in (terms or {}).items():
            gradient += self._auxiliary_sets[prefix].pull_terms(positions, own_terms)
        for name, cotangent in cotangents.items():
            _, pull_back = self._integrals[name]
            gradient += pull_back(positions, cotangent)
        return gradient

    # one-electron integrals

    def _overlap(self, positions: Array) -> Array:
        env = self._joint.environment(positions)
        return self._joint.intor("int1e_ovlp_sph", env, (0, 0))

    def _pull_overlap(self, positions: Array, cotangent: Array) -> Array:
        env = self._joint.environment(positions)
        slopes = self._joint.intor("int1e_ipovlp_sph", env, (0, 0), 3)
        return self._pull_pair(slopes, cotangent)

    def _pull_pair(self, slopes: Array, cotangent: Array) -> Array:
        # bra and ket give the same, hence the factor of two
        weighted = np.einsum("cmn,mn->mc", slopes, symmetric(cotangent))
        return -2.0 * self._orbitals.sum_by_atom(weighted)

    def _core_hamiltonian(self, positions: Array) -> Array:
        env = self._joint.environment(positions)
        kinetic = self._joint.intor("int1e_kin_sph", env, (0, 0))
        return kinetic + self._joint.intor("int1e_nuc_sph", env, (0, 0))

    def _pull_core_hamiltonian(self, positions: Array, cotangent: Array) -> Array:
        env = self._joint.environment(positions)
        slopes = self._joint.intor("int1e_ipkin_sph", env, (0, 0), 3)
        if self._kernels is not None:
            contiguous = np.ascontiguousarray(symmetric(cotangent))
            attraction = self._kernels.nuclear_gradient(positions, contiguous)
            gradient: Array = self._pull_pair(slopes, cotangent) + attraction
            return gradient
        slopes = slopes + self._joint.intor("int1e_ipnuc_sph", env, (0, 0), 3)
        gradient = self._pull_pair(slopes, cotangent)
        own = symmetric(cotangent)
        for atom, charge in enumerate(self._charges):
            env = self._joint.environment(positions, rinv_atom=atom)
            slopes = self._joint.intor("int1e_iprinv_sph", env, (0, 0), 3)
            gradient[atom] -= 2.0 * charge * np.einsum("cmn,mn->c", slopes, own)
        return gradient

    # guess

    def _guess_overlap(self, positions: Array) -> Array:
        env = self._with_minimal.environment(positions)
        return self._with_minimal.intor("int1e_ovlp_sph", env, (0, 1))

    def _pull_guess_overlap(self, positions: Array, cotangent: Array) -> Array:
        env = self._with_minimal.environment(positions)
        slopes = self._with_minimal.intor("int1e_ipovlp_sph", env, (0, 1), 3)
        weighted = slopes * cotangent
        by_minimal = self._minimal.sum_by_atom(weighted.sum(1).T)
        return by_minimal - self._orbitals.sum_by_atom(weighted.sum(2).T)

    def _guess_potential(self, positions: Array) -> Array:
        env = self._with_screening.environment(positions)
        integrals = self._with_screening.intor("int3c2e_sph", env, (0, 0, 1))
        potential: Array = -integrals.sum(-1)
        return potential

    def _pull_guess_potential(self, positions: Array, cotangent: Array) -> Array:
        negative = -symmetric(cotangent)
        weights = np.broadcast_to(negative[:, :, None], (*negative.shape, len(positions)))
        return pull_three(
            positions, self._with_screening, (self._orbitals, self._screening), weights
        )

    # two-electron integrals

    def _four_center(self, positions: Array) -> Array:
        env = self._joint.environment(positions)
        with wide_loops(self._orbitals.nao):
            integrals = self._joint.intor("int2e_sph", env, (0, 0, 0, 0))
        return integrals.reshape([self._orbitals.nao] * 4)

    def _pull_four_center(self, positions: Array, cotangent: Array) -> Array:
        env = self._joint.environment(positions)
        weights = cotangent + cotangent.transpose(1, 0, 2, 3)
        weights = weights + weights.transpose(0, 1, 3, 2)
        weights = (weights + weights.transpose(2, 3, 0, 1)) / 8.0
        nao = self._orbitals.nao
        with wide_loops(nao):
            slopes = self._joint.intor("int2e_ip1_sph", env, (0, 0, 0, 0), 3)
        slopes = slopes.reshape(3, nao, nao * nao * nao)
        weighted = np.einsum("cmx,mx->mc", slopes, weights.reshape(nao, -1))
        return -4.0 * self._orbitals.sum_by_atom(weighted)
