"""Integrals by libcint, through PySCF, with vector-Jacobian products.

Derivatives by an orbital's centre are minus those by the electron, <d_mu ...>, which is what the
``ip`` integrals hold; the derivative by the remaining centre follows from translational
invariance, so one ``ip`` integral of each kind is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.dft.basis.auxiliary_basis import auxiliary_shells
from ase_srdft.dft.basis.element_basis import element_basis, formatted_basis
from ase_srdft.dft.basis.guess_tables import atomic_potential, minimal_basis
from ase_srdft.dft.integrals.cotangent_tape import CoulombCotangent
from ase_srdft.dft.integrals.provider import Arrays
from ase_srdft.dft.kernels.coulomb import (
    HIGHEST_AUXILIARY,
    HIGHEST_ORBITAL,
    AuxiliaryTables,
    CoulombKernels,
    OrbitalTables,
)
from ase_srdft.dft.kernels.library import loaded
from ase_srdft.dft.level_of_theory import LevelOfTheory

__all__ = ["LibcintProvider"]

Array = NDArray[np.float64]
#: Where libcint keeps the origin of 1/r.
_RINV_ORIGIN = slice(4, 7)


class _Centres:
    """libcint's tables of one basis on the nuclei of the molecule."""

    def __init__(self, numbers: tuple[int, ...], shells: dict[int, Any]) -> None:
        from pyscf import gto

        atoms = [(chemical_symbols[n], (0.0, 0.0, float(i))) for i, n in enumerate(numbers)]
        basis = {chemical_symbols[n]: s for n, s in shells.items()}
        mol = gto.Mole()
        mol._atm, mol._bas, mol._env = mol.make_env(atoms, basis, np.zeros(gto.mole.PTR_ENV_START))
        self.tables = (mol._atm, mol._bas, mol._env)
        self.nbas = len(mol._bas)
        location = gto.moleintor.make_loc(mol._bas, "sph")
        self.nao = int(location[-1])
        owners = np.repeat(mol._bas[:, 0], np.diff(location))
        self._by_atom = np.zeros((len(numbers), self.nao))
        self._by_atom[owners, np.arange(self.nao)] = 1.0

    def sum_by_atom(self, by_orbital: Array) -> Array:
        """Add up the rows (nao, ...) of each atom's orbitals."""
        result: Array = self._by_atom @ by_orbital
        return result


class _Joint:
    """Several bases in one table, with coordinates to be filled in."""

    def __init__(self, *parts: _Centres) -> None:
        from pyscf import gto

        atm, bas, env = parts[0].tables
        for part in parts[1:]:
            atm, bas, env = gto.conc_env(atm, bas, env, *part.tables)
        self.atm, self.bas, self.env = atm, bas, env
        self.ncopies = len(parts)
        self.first_shells = np.cumsum([0, *[part.nbas for part in parts]])

    def shells(self, *which: int) -> tuple[int, ...]:
        """Shell slice of the given parts, in libcint's flat form."""
        return tuple(int(self.first_shells[i + end]) for i in which for end in (0, 1))

    def environment(self, positions: Array, rinv_atom: int | None = None) -> Array:
        """The parameter array with nuclei (and the origin of 1/r) in place."""
        env: Array = self.env.copy()
        repeated = np.tile(positions, (self.ncopies, 1))
        env[self.atm[:, 1][:, None] + np.arange(3)] = repeated
        if rinv_atom is not None:
            env[_RINV_ORIGIN] = positions[rinv_atom]
        return env


class LibcintProvider:
    """Integrals of one molecule at one level of theory (see ``IntegralProvider``).

    Args:
        numbers: atomic numbers.
        level: level of theory.
        guess: name of the guess whose tables are wanted.
    """

    def __init__(self, numbers: tuple[int, ...], level: LevelOfTheory, guess: str) -> None:
        kinds = sorted(set(numbers))
        self._charges = np.array(numbers, dtype=float)
        self._orbitals = _Centres(numbers, {n: formatted_basis(level.basis, n) for n in kinds})
        self._joint = _Joint(self._orbitals)
        #: What evaluates an integral, and what pulls a cotangent of it back to the nuclei.
        self._integrals: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
            "overlap": (self._overlap, self._pull_overlap),
            "core_hamiltonian": (self._core_hamiltonian, self._pull_core_hamiltonian),
        }
        if guess in ("roothaan", "minao"):
            shells = {n: minimal_basis(n).shells for n in kinds}
            self._minimal = _Centres(numbers, shells)
            self._with_minimal = _Joint(self._orbitals, self._minimal)
            self._integrals["guess_overlap"] = (self._guess_overlap, self._pull_guess_overlap)
        elif guess == "sap":
            self._screening = _Centres(numbers, {n: [[0, [1.0, 1.0]]] for n in kinds})
            self._screening.tables = _charge_tables(numbers)
            self._with_screening = _Joint(self._orbitals, self._screening)
            pair = (self._guess_potential, self._pull_guess_potential)
            self._integrals["guess_potential"] = pair
        if level.auxiliary_basis is None:
            self._integrals["four_center"] = (self._four_center, self._pull_four_center)
        else:
            shells = {n: formatted_basis(level.auxiliary_basis, n) for n in kinds}
            self._auxiliary = _Centres(numbers, shells)
            self._with_auxiliary = _Joint(self._orbitals, self._auxiliary)
            self._integrals["three_center"] = (self._three_center, self._pull_three_center)
            self._integrals["metric"] = (self._metric, self._pull_metric)
        self.names = tuple(self._integrals)
        self._numbers, self._level = numbers, level

    @property
    def _kernels(self) -> CoulombKernels | None:
        """What computes now; None for libcint."""
        return None if loaded() is None else self._compiled

    @property
    def takes_terms(self) -> bool:
        """Whether cotangents of (mn|Q) and the metric may come in factors."""
        return self._kernels is not None

    @cached_property
    def _compiled(self) -> CoulombKernels | None:
        """The kernels of this molecule, where there are any for its functions."""
        if self._level.auxiliary_basis is None:
            return None
        bases = [element_basis(self._level.basis, number) for number in self._numbers]
        shells = auxiliary_shells(self._numbers, self._level.auxiliary_basis)
        highest = max(max(basis.angular_momenta) for basis in bases)
        if highest > HIGHEST_ORBITAL or max(s.angular for s in shells) > HIGHEST_AUXILIARY:
            return None
        auxiliary = AuxiliaryTables(len(self._numbers), shells)
        return CoulombKernels(OrbitalTables(bases), auxiliary, self._charges)

    def evaluate(self, positions: Float[np.ndarray, "natoms 3"]) -> Arrays:
        """The integrals at one geometry (Bohr), by name."""
        return {name: evaluate(positions) for name, (evaluate, _) in self._integrals.items()}

    def pull_back(
        self,
        positions: Float[np.ndarray, "natoms 3"],
        cotangents: Arrays,
        terms: Sequence[CoulombCotangent] = (),
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei (per Bohr) of ``sum(cotangent * integral)``.

        Args:
            positions: nuclei (Bohr).
            cotangents: by the names of the integrals.
            terms: of (mn|Q) and the metric, in factors.
        """
        gradient = np.zeros_like(positions)
        if terms:
            kernels = self._compiled
            assert kernels is not None
            matrices, coefficients = (
                np.concatenate([getattr(term, name) for term in terms])
                for name in ("matrices", "coefficients")
            )
            left, right = (
                np.stack([getattr(term, name) for term in terms]) for name in ("left", "right")
            )
            gradient += kernels.three_center_gradient(positions, matrices, coefficients)
            gradient += kernels.metric_gradient(positions, left, right)
        for name, cotangent in cotangents.items():
            _, pull_back = self._integrals[name]
            gradient += pull_back(positions, cotangent)
        return gradient

    def _intor(
        self,
        name: str,
        joint: _Joint,
        env: Array,
        parts: tuple[int, ...],
        comp: int = 1,
        aosym: str = "s1",
    ) -> Array:
        from pyscf import gto

        result: Array = gto.moleintor.getints(
            name, joint.atm, joint.bas, env, joint.shells(*parts), comp, aosym=aosym
        )
        return result

    def _symmetric(self, matrix: Array) -> Array:
        return 0.5 * (matrix + matrix.T)

    # one-electron integrals

    def _overlap(self, positions: Array) -> Array:
        env = self._joint.environment(positions)
        return self._intor("int1e_ovlp_sph", self._joint, env, (0, 0))

    def _pull_overlap(self, positions: Array, cotangent: Array) -> Array:
        env = self._joint.environment(positions)
        slopes = self._intor("int1e_ipovlp_sph", self._joint, env, (0, 0), 3)
        return self._pull_pair(slopes, cotangent)

    def _pull_pair(self, slopes: Array, cotangent: Array) -> Array:
        # bra and ket give the same, hence the factor of two
        weighted = np.einsum("cmn,mn->mc", slopes, self._symmetric(cotangent))
        return -2.0 * self._orbitals.sum_by_atom(weighted)

    def _core_hamiltonian(self, positions: Array) -> Array:
        env = self._joint.environment(positions)
        kinetic = self._intor("int1e_kin_sph", self._joint, env, (0, 0))
        return kinetic + self._intor("int1e_nuc_sph", self._joint, env, (0, 0))

    def _pull_core_hamiltonian(self, positions: Array, cotangent: Array) -> Array:
        env = self._joint.environment(positions)
        slopes = self._intor("int1e_ipkin_sph", self._joint, env, (0, 0), 3)
        if self._kernels is not None:
            symmetric = np.ascontiguousarray(self._symmetric(cotangent))
            attraction = self._kernels.nuclear_gradient(positions, symmetric)
            gradient: Array = self._pull_pair(slopes, cotangent) + attraction
            return gradient
        slopes = slopes + self._intor("int1e_ipnuc_sph", self._joint, env, (0, 0), 3)
        gradient = self._pull_pair(slopes, cotangent)
        symmetric = self._symmetric(cotangent)
        for atom, charge in enumerate(self._charges):
            env = self._joint.environment(positions, rinv_atom=atom)
            slopes = self._intor("int1e_iprinv_sph", self._joint, env, (0, 0), 3)
            gradient[atom] -= 2.0 * charge * np.einsum("cmn,mn->c", slopes, symmetric)
        return gradient

    # guess

    def _guess_overlap(self, positions: Array) -> Array:
        env = self._with_minimal.environment(positions)
        return self._intor("int1e_ovlp_sph", self._with_minimal, env, (0, 1))

    def _pull_guess_overlap(self, positions: Array, cotangent: Array) -> Array:
        env = self._with_minimal.environment(positions)
        slopes = self._intor("int1e_ipovlp_sph", self._with_minimal, env, (0, 1), 3)
        weighted = slopes * cotangent
        by_minimal = self._minimal.sum_by_atom(weighted.sum(1).T)
        return by_minimal - self._orbitals.sum_by_atom(weighted.sum(2).T)

    def _guess_potential(self, positions: Array) -> Array:
        env = self._with_screening.environment(positions)
        integrals = self._intor("int3c2e_sph", self._with_screening, env, (0, 0, 1))
        potential: Array = -integrals.sum(-1)
        return potential

    def _pull_guess_potential(self, positions: Array, cotangent: Array) -> Array:
        symmetric = -self._symmetric(cotangent)
        weights = np.broadcast_to(symmetric[:, :, None], (*symmetric.shape, len(positions)))
        return self._pull_three(positions, self._with_screening, self._screening, weights)

    # two-electron integrals

    def _three_center(self, positions: Array) -> Array:
        if self._kernels is not None:
            return self._kernels.three_center(positions)
        env = self._with_auxiliary.environment(positions)
        parts = (0, 0, 1)
        return self._intor("int3c2e_sph", self._with_auxiliary, env, parts, aosym="s2ij")

    def _pull_three_center(self, positions: Array, cotangent: Array) -> Array:
        nao = self._orbitals.nao
        rows, columns = np.tril_indices(nao)
        # each packed element stands for two of the full tensor, but those on the diagonal
        halved = cotangent * np.where(rows == columns, 1.0, 0.5)[:, None]
        weights = np.empty((nao, nao, cotangent.shape[1]))
        weights[rows, columns] = halved
        weights[columns, rows] = halved
        return self._pull_three(positions, self._with_auxiliary, self._auxiliary, weights)

    def _pull_three(
        self, positions: Array, joint: _Joint, third: _Centres, weights: Array
    ) -> Array:
        env = joint.environment(positions)
        slopes = self._intor("int3c2e_ip1_sph", joint, env, (0, 0, 1), 3)
        weighted = np.einsum("cmnq,mnq->cmq", slopes, weights)
        by_third = third.sum_by_atom(weighted.sum(1).T)
        return 2.0 * (by_third - self._orbitals.sum_by_atom(weighted.sum(2).T))

    def _metric(self, positions: Array) -> Array:
        if self._kernels is not None:
            return self._kernels.metric(positions)
        env = self._with_auxiliary.environment(positions)
        return self._intor("int2c2e_sph", self._with_auxiliary, env, (1, 1))

    def _pull_metric(self, positions: Array, cotangent: Array) -> Array:
        env = self._with_auxiliary.environment(positions)
        slopes = self._intor("int2c2e_ip1_sph", self._with_auxiliary, env, (1, 1), 3)
        weighted = np.einsum("cpq,pq->pc", slopes, self._symmetric(cotangent))
        return -2.0 * self._auxiliary.sum_by_atom(weighted)

    def _four_center(self, positions: Array) -> Array:
        env = self._joint.environment(positions)
        integrals = self._intor("int2e_sph", self._joint, env, (0, 0, 0, 0))
        return integrals.reshape([self._orbitals.nao] * 4)

    def _pull_four_center(self, positions: Array, cotangent: Array) -> Array:
        env = self._joint.environment(positions)
        weights = cotangent + cotangent.transpose(1, 0, 2, 3)
        weights = weights + weights.transpose(0, 1, 3, 2)
        weights = (weights + weights.transpose(2, 3, 0, 1)) / 8.0
        nao = self._orbitals.nao
        slopes = self._intor("int2e_ip1_sph", self._joint, env, (0, 0, 0, 0), 3)
        slopes = slopes.reshape(3, nao, nao * nao * nao)
        weighted = np.einsum("cmx,mx->mc", slopes, weights.reshape(nao, -1))
        return -4.0 * self._orbitals.sum_by_atom(weighted)


def _charge_tables(numbers: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """libcint tables with one contracted Gaussian charge per atom (the guess ``sap``)."""
    from pyscf import gto

    tables: list[Any] | None = None
    for number in numbers:
        rows = np.array(atomic_potential(number))
        charge = gto.mole.fakemol_for_cgtf_charge(np.zeros((1, 3)), rows[:, 0], rows[:, 1])
        new = [charge._atm, charge._bas, charge._env]
        tables = new if tables is None else list(gto.conc_env(*tables, *new))
    assert tables is not None
    return tables[0], tables[1], tables[2]
