"""Integrals of two orbitals with the functions of one auxiliary basis, and those among themselves.

By libcint, or by the kernels where there are any for the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
import torch

from ase_srdft.dft.basis.auxiliary_basis import auxiliary_shells
from ase_srdft.dft.basis.element_basis import element_basis, formatted_basis
from ase_srdft.dft.integrals.cotangent_tape import (
    Cotangent,
    CoulombCotangent,
    ExchangeCotangent,
)
from ase_srdft.dft.integrals.fitted_exchange import dense_cotangents
from ase_srdft.dft.integrals.shell_tables import Array, Centres, JointTables, symmetric
from ase_srdft.dft.kernels.coulomb import (
    HIGHEST_AUXILIARY,
    HIGHEST_ORBITAL,
    AuxiliaryTables,
    CoulombKernels,
    OrbitalTables,
)
from ase_srdft.dft.kernels.library import loaded, wide_loops

__all__ = ["AuxiliaryIntegrals", "pull_three"]


class AuxiliaryIntegrals:
    """(mn|Q), m >= n packed by rows, and the metric (P|Q), with their vector-Jacobian products.

    Args:
        numbers: atomic numbers.
        basis: name of the orbital basis.
        orbitals: its shells.
        auxiliary_basis: name of the auxiliary one.
        highest: angular momentum of the auxiliary functions; None for all.
    """

    def __init__(
        self,
        numbers: tuple[int, ...],
        basis: str,
        orbitals: Centres,
        auxiliary_basis: str,
        highest: int | None = None,
    ) -> None:
        self._numbers, self._basis, self._orbitals = numbers, basis, orbitals
        self._name, self._highest = auxiliary_basis, highest
        shells = {n: formatted_basis(auxiliary_basis, n) for n in sorted(set(numbers))}
        if highest is not None:
            shells = {
                n: [s for s in own if cast(int, s[0]) <= highest] for n, own in shells.items()
            }
        self._auxiliary = Centres(numbers, shells)
        self._joint = JointTables(orbitals, self._auxiliary)

    @property
    def kernels(self) -> CoulombKernels | None:
        """What computes now; None for libcint."""
        return None if loaded() is None else self._compiled

    @cached_property
    def _compiled(self) -> CoulombKernels | None:
        """The kernels of this molecule, where there are any for its functions."""
        bases = [element_basis(self._basis, number) for number in self._numbers]
        shells = auxiliary_shells(self._numbers, self._name, self._highest)
        highest = max(max(basis.angular_momenta) for basis in bases)
        if highest > HIGHEST_ORBITAL or max(s.angular for s in shells) > HIGHEST_AUXILIARY:
            return None
        auxiliary = AuxiliaryTables(len(self._numbers), shells)
        charges = np.array(self._numbers, dtype=float)
        return CoulombKernels(OrbitalTables(bases), auxiliary, charges)

    def pull_terms(self, positions: Array, terms: Sequence[Cotangent]) -> Array:
        """Gradient by the nuclei for what nodes have left on the tape; by the kernels alone."""
        kernels = self._compiled
        assert kernels is not None
        factored = [term for term in terms if isinstance(term, CoulombCotangent)]
        exchange = [term for term in terms if isinstance(term, ExchangeCotangent)]
        by_pairs: Array | None = None
        by_metric: list[Array] = []
        if exchange:
            with wide_loops(len(exchange[0].vectors)):
                by_pairs, metric = dense_cotangents(exchange)
            by_metric.append(metric)
        for term in factored:
            if term.left is not None and term.right is not None:
                by_metric.append(symmetric(np.outer(term.left, term.right)))
        gradient: Array = np.zeros_like(positions)
        if by_metric:
            gradient += kernels.metric_gradient(positions, np.sum(by_metric, axis=0))
        if factored:
            matrices = np.concatenate([term.matrices for term in factored])
            coefficients = np.concatenate([term.coefficients for term in factored])
            if by_pairs is None:
                gradient += kernels.three_center_gradient(positions, matrices, coefficients)
            else:  # one pass for all
                pairs = torch.from_numpy(_packed_weights(matrices))
                torch.from_numpy(by_pairs).addmm_(pairs.T, torch.from_numpy(coefficients))
        if by_pairs is not None:
            gradient += kernels.three_center_dense_gradient(positions, by_pairs)
        return gradient

    def three_center(self, positions: Array) -> Array:
        """(mn|Q) (Hartree)."""
        if self.kernels is not None:
            return self.kernels.three_center(positions)
        env = self._joint.environment(positions)
        parts = (0, 0, 1)
        return self._joint.intor("int3c2e_sph", env, parts, aosym="s2ij")

    def pull_three_center(self, positions: Array, cotangent: Array) -> Array:
        """Gradient by the nuclei for a cotangent of :meth:`three_center`."""
        if self.kernels is not None:
            weights = np.ascontiguousarray(cotangent)
            return self.kernels.three_center_dense_gradient(positions, weights)
        nao = self._orbitals.nao
        rows, columns = np.tril_indices(nao)
        # each packed element stands for two of the full tensor, but those on the diagonal
        halved = cotangent * np.where(rows == columns, 1.0, 0.5)[:, None]
        weights = np.empty((nao, nao, cotangent.shape[1]))
        weights[rows, columns] = halved
        weights[columns, rows] = halved
        return pull_three(positions, self._joint, (self._orbitals, self._auxiliary), weights)

    def metric(self, positions: Array) -> Array:
        """(P|Q) (Hartree)."""
        if self.kernels is not None:
            return self.kernels.metric(positions)
        env = self._joint.environment(positions)
        return self._joint.intor("int2c2e_sph", env, (1, 1))

    def pull_metric(self, positions: Array, cotangent: Array) -> Array:
        """Gradient by the nuclei for a cotangent of :meth:`metric`."""
        if self.kernels is not None:
            return self.kernels.metric_gradient(positions, symmetric(cotangent))
        env = self._joint.environment(positions)
        slopes = self._joint.intor("int2c2e_ip1_sph", env, (1, 1), 3)
        weighted = np.einsum("cpq,pq->pc", slopes, symmetric(cotangent))
        return -2.0 * self._auxiliary.sum_by_atom(weighted)


def _packed_weights(matrices: Array) -> Array:
    """Of symmetric matrices (n, nao, nao): what the packed elements (n, npair) count."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    packed: Array = matrices[:, rows, columns] * np.where(rows == columns, 1.0, 2.0)
    return packed


def pull_three(
    positions: Array, joint: JointTables, centres: tuple[Centres, Centres], weights: Array
) -> Array:
    """Gradient by the nuclei of sum_mnq w_mnq (mn|q), w symmetric in the first two.

    Args:
        positions: nuclei (Bohr).
        joint: tables of both kinds of shells.
        centres: the orbitals' shells and those of q.
        weights: w, (nao, nao, naux).
    """
    orbitals, third = centres
    env = joint.environment(positions)
    slopes = joint.intor("int3c2e_ip1_sph", env, (0, 0, 1), 3)
    weighted = np.einsum("cmnq,mnq->cmq", slopes, weights)
    by_third = third.sum_by_atom(weighted.sum(1).T)
    result: Array = 2.0 * (by_third - orbitals.sum_by_atom(weighted.sum(2).T))
    return result
