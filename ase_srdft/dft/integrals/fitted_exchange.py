"""Fitted exchange of one geometry on the eigenvectors of a density matrix, and its derivatives.

With P = sum_k s_k x_k x_k^T, s_k = 1 or -1, V = L L^T the metric and b_mk = L^-1 (m x_k|Q),

    K[P]_mn = sum_kQ s_k b_mkQ b_nkQ.

A density matrix has far fewer eigenvectors with an eigenvalue other than zero than there are
orbitals, so that nothing is solved for all pairs of orbitals; but who asks for many matrices has
these solved once (`exchange_of_geometry`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.integrals.cotangent_tape import ExchangeCotangent
from ase_srdft.dft.integrals.packed_pairs import triangle_index

__all__ = [
    "FittedExchange",
    "dense_cotangents",
    "eigenvectors",
    "exchange_of_geometry",
    "half_transformed",
]


#: Eigenvalues of a matrix below this part of its largest are zero.
_NEGLIGIBLE = 1.0e-12
#: Numbers of (mn|Q) that are worked on at a time, so that they stay in a core's cache, but at least
#: so many columns.
_NUMBERS, _FEWEST = 200_000, 48


def eigenvectors(
    matrix: Float[Tensor, "nao nao"],
) -> tuple[Float[Tensor, "nao rank"], Float[Tensor, " rank"]]:
    """x, orthogonal, and s with P = sum_k s_k x_k x_k^T, s_k = 1 or -1."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values.abs() > _NEGLIGIBLE * values.abs().max()
    values = values[kept]
    return vectors[:, kept] * values.abs().sqrt(), values.sign()


def _rows(
    three_center: Float[Tensor, "npair naux"], nao: int
) -> Iterator[tuple[slice, Float[Tensor, "nrows nao naux"]]]:
    """Some rows of the first orbital after the other, unpacked."""
    index = triangle_index(nao, three_center.device)
    step = max(1, _NUMBERS // (nao * three_center.shape[1]))
    for first in range(0, nao, step):
        rows = slice(first, first + step)
        yield rows, three_center[index[rows]]


def half_transformed(
    three_center: Float[Tensor, "npair naux"], vectors: Float[Tensor, "nao rank"]
) -> Float[Tensor, "nao rank naux"]:
    """(m x_k|Q) = sum_l x_lk (ml|Q), in the precision of x."""
    nao, rank = vectors.shape
    result = vectors.new_empty((nao, rank, three_center.shape[1]))
    for rows, unpacked in _rows(three_center, nao):
        result[rows] = vectors.T @ unpacked.to(vectors)
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedExchange:
    """What K[P] of one geometry was made from.

    Attributes:
        vectors: x.
        signs: s.
        fitted: b.
        factor: L.
    """

    vectors: Float[Tensor, "nao rank"]
    signs: Float[Tensor, " rank"]
    fitted: Float[Tensor, "nao rank naux"]
    factor: Float[Tensor, "naux naux"]

    @classmethod
    def of(
        cls,
        three_center: Float[Tensor, "npair naux"],
        factor: Float[Tensor, "naux naux"],
        matrix: Float[Tensor, "nao nao"],
    ) -> FittedExchange:
        """For a symmetric matrix P."""
        vectors, signs = eigenvectors(matrix)
        half = half_transformed(three_center, vectors)
        # one matrix for the solver, not one for each orbital; transposed, it is in BLAS's own order
        columns = half.flatten(0, 1).T
        fitted = torch.linalg.solve_triangular(factor, columns, upper=False).T.reshape(half.shape)
        return cls(vectors=vectors, signs=signs, fitted=fitted, factor=factor)

    def matrix(self) -> Float[Tensor, "nao nao"]:
        """K[P] (Hartree)."""
        same = bool((self.signs > 0).all())
        signed = self.fitted if same else self.signs[:, None] * self.fitted
        return signed.flatten(1) @ self.fitted.flatten(1).T

    def pulled_energy(self, scale: Tensor) -> ExchangeCotangent:
        """The derivative of Tr P K[P], times a number.

        With b_klQ = sum_m x_mk b_mlQ it is sum_kl s_k s_l b_kl^2: with c_kl = L^-T b_kl by (mn|Q)
        2 sum_kl s_k s_l x_mk x_nl c_klQ, by the metric -sum_kl s_k s_l c_kl c_kl^T.
        """
        vectors, signs = self.vectors, self.signs
        nao, rank, naux = self.fitted.shape
        pairs = (vectors.T @ self.fitted.flatten(1)).reshape(rank * rank, naux)
        solved = torch.linalg.solve_triangular(self.factor, pairs, upper=False, left=False)
        weighted = (scale * signs[:, None] * signs).reshape(-1, 1) * solved
        half = (vectors @ weighted.reshape(rank, -1)).reshape(nao, rank, naux)
        return ExchangeCotangent(
            vectors=vectors.cpu(),
            half=half.mul_(2.0).cpu(),
            metric=(-solved.T @ weighted).cpu(),
            symmetric=True,
        )

    def turned(self, weights: Float[Tensor, "nao nao"]) -> Float[Tensor, "nao rank naux"]:
        """u_mk = s_k sum_n W_mn b_nk, what `pulled` and `by_matrix` begin with."""
        signed = self.signs[:, None] * self.fitted
        return (weights @ signed.flatten(1)).reshape(self.fitted.shape)

    def by_half(self, turned: Float[Tensor, "nao rank naux"]) -> Float[Tensor, "nao rank naux"]:
        """The derivative of Tr(W K[P]) by (m x_k|Q), t_mk = 2 L^-T u_mk."""
        columns = turned.flatten(0, 1)
        half: Tensor = torch.linalg.solve_triangular(self.factor, columns, upper=False, left=False)
        return half.mul_(2.0).reshape(turned.shape)

    def pulled(
        self, turned: Float[Tensor, "nao rank naux"], half: Float[Tensor, "nao rank naux"]
    ) -> ExchangeCotangent:
        """The derivative of Tr(W K[P]), W symmetric.

        By (mn|Q) it is sum_k x_nk t_mkQ, by the metric -L^-T N L^-1 with N = sum_mk u_mk b_mk^T.
        """
        inner = turned.flatten(0, 1).T @ self.fitted.flatten(0, 1)
        outer = torch.linalg.solve_triangular(self.factor, inner, upper=False, left=False)
        metric = -torch.linalg.solve_triangular(self.factor.T, outer, upper=True)
        return ExchangeCotangent(
            vectors=self.vectors.cpu(), half=half.cpu(), metric=(0.5 * (metric + metric.T)).cpu()
        )

    def by_matrix(
        self,
        three_center: Float[Tensor, "npair naux"],
        half: Float[Tensor, "nao rank naux"],
    ) -> Float[Tensor, "nao nao"]:
        """The derivative of Tr(W K[P]) by P, along all changes that keep P's rank.

        By x_k the derivative is a_k = sum_mQ (mn|Q) t_mkQ = 2 s_k K[W] x_k.  So K[W] x is known,
        and K[W] itself, which would need all pairs of orbitals, is not.  With
        y_k = x_k / x_k^T x_k the matrix  K x y^T + y x^T K - y x^T K x y^T  does to every change
        dx x^T + x dx^T of P what K does.
        """
        by_vectors = torch.zeros_like(self.vectors)
        for rows, unpacked in _rows(three_center, len(half)):
            for row, own in zip(unpacked, half[rows], strict=True):
                by_vectors.addmm_(row, own.T)
        turned = 0.5 * by_vectors * self.signs
        dual = self.vectors / self.vectors.square().sum(0)
        outer = turned @ dual.T
        inner = self.vectors.T @ turned
        result: Tensor = outer + outer.T - dual @ inner @ dual.T
        return result


def _blocks(
    packed: Float[Tensor, "npair naux"], nao: int
) -> Iterator[tuple[slice, Float[Tensor, "nao nao nblock"]]]:
    """Some columns of B after the other, unpacked."""
    index = triangle_index(nao, packed.device)
    step = max(_FEWEST, _NUMBERS // nao**2)
    for first in range(0, packed.shape[1], step):
        columns = slice(first, first + step)
        yield columns, packed[:, columns][index]


def exchange_of_geometry(
    packed: Float[Tensor, "npair naux"], matrix: Float[Tensor, "nao nao"]
) -> Float[Tensor, "nao nao"]:
    """K of a symmetric matrix (Hartree) from B = (mn|Q) L^-T, m >= n packed by rows."""
    vectors, signs = eigenvectors(matrix)
    exchange = torch.zeros_like(matrix)
    for _, fitted in _blocks(packed, len(matrix)):
        half = vectors.T @ fitted  # sum_l x_lk B_mlQ, m first
        exchange += (signs[:, None] * half).flatten(1) @ half.flatten(1).T
    return exchange


def dense_cotangents(
    terms: Sequence[ExchangeCotangent],
) -> tuple[Float[np.ndarray, "npair naux"], Float[np.ndarray, "naux naux"]]:
    """Of nodes of one geometry together: cotangents of (mn|Q), m >= n packed by rows, and of V.

    Off the diagonal a packed element stands for two.
    """
    nao, _, naux = terms[0].half.shape
    by_three = terms[0].half.new_empty((nao * (nao + 1) // 2, naux))
    general = [term for term in terms if not term.symmetric]
    if general:
        _lay_general(general, by_three)
    for number, term in enumerate(term for term in terms if term.symmetric):
        _add_symmetric(term, by_three, float(bool(general) or number > 0))
    metric = torch.stack([term.metric for term in terms]).sum(0)
    return by_three.numpy(), metric.numpy()


def _lay_general(terms: Sequence[ExchangeCotangent], by_three: Float[Tensor, "npair naux"]) -> None:
    """sum_k x_nk t_mkQ + x_mk t_nkQ, half of it on the diagonal."""
    vectors = torch.cat([term.vectors for term in terms], 1)
    half = torch.cat([term.half for term in terms], 1)
    nao, naux = len(vectors), half.shape[2]
    rows, columns = torch.tril_indices(nao, nao)
    diagonal = (rows == columns).nonzero()[:, 0]
    step = max(_FEWEST, _NUMBERS // nao**2)
    for first in range(0, naux, step):
        block = slice(first, first + step)
        own = vectors @ half[:, :, block]  # m first
        by_three[:, block] = own[rows, columns] + own[columns, rows]
        by_three[diagonal, block] *= 0.5


def _add_symmetric(
    term: ExchangeCotangent, by_three: Float[Tensor, "npair naux"], kept: float
) -> None:
    """2 sum_k x_nk t_mkQ, half of it on the diagonal, to so much of what is there."""
    vectors, half = term.vectors, term.half
    for row in range(len(half)):
        start = row * (row + 1) // 2
        own = by_three[start : start + row]
        torch.addmm(own, vectors[:row], half[row], beta=kept, alpha=2.0, out=own)
        own = by_three[start + row : start + row + 1]
        torch.addmm(own, vectors[row : row + 1], half[row], beta=kept, out=own)
