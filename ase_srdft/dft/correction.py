"""A state brought to self-consistency: few Fock matrices of the fine grid, more of a rough one.

Near self-consistency a Fock matrix is what it was at a nearby state and the change of its
potential, and for the change a rough grid will do, and the local companion of a hybrid functional:

    F[P] ~ A[P] = G[P] + c,    G[P] = J[P] + V_c[P] on the rough grid,    c = F[P'] - G[P']

DIIS (P. Pulay, J. Comput. Chem. 3, 556 (1982)) solves A; P' is the state of the last Fock matrix of
the fine grid, the level's own.  What is left out is a difference of differences: of two grids, a
thousandth of the residual [F, Gamma], and of two exchanges, a twentieth.  Against the latter, exact
exchange at a further state P" gives c there; between states where it is known it is interpolated:

    c = F[P'] - G[P'] + X[P"] - X[P'],    X = -a (K / 2 + V_x on the rough grid)

with V_x the local exchange that V_c has in the place of exact exchange, a the fraction of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.exact_exchange import exchange_matrix, exchange_on_occupied
from ase_srdft.dft.level_of_theory import Functional
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.xc.quadrature import xc_potential

__all__ = ["Correction", "residual"]

#: States that DIIS remembers, and the most that it makes on the way to one goal.
_REMEMBERED, _MOST_STATES = 8, 8
#: Lowers the occupied orbitals (Hartree): the step is as long as the electrons' answer lets it be.
_LEVEL_SHIFT = 0.2
#: Factor by which it grows where a step has led uphill.
_STIFFER = 3.0
#: A step from so many times the goal is taken to arrive: residuals fall by 2 to 5 with each.
_ARRIVES = 2.0
#: Share of the residual that is left where the local companion has answered for exact exchange.
_OF_COMPANION = 0.06
#: The most matrices of exact exchange on the way to one goal, and states at which c is known.
_MOST_EXCHANGES, _MOST_KNOWN = 4, 4
#: Added to the overlaps of the steps between those states, relative to the largest.
_SINGULAR = 1.0e-10


def residual(
    fock: Float[Tensor, "nao nao"], projector: Float[Tensor, "nao nao"]
) -> Float[Tensor, "nao nao"]:
    """[F, Gamma] in an orthonormal basis (Hartree), zero at self-consistency."""
    product = fock @ projector
    return product - product.T


class Correction:
    """The way of one geometry's state to self-consistency.

    Args:
        rough: the geometry on the rough grid, without history.
        density_matrix: P to begin with.
        fock: F[P] (Hartree) on the rough grid, which is that of the first A.

    Attributes:
        projector: Gamma of the present state, in Loewdin's basis.
        nbuilds: matrices G[P] that were made.
        nexchanges: matrices of exact exchange that were made beside those in Fock matrices.
    """

    def __init__(
        self,
        rough: Geometry,
        density_matrix: Float[Tensor, "1 nao nao"],
        fock: Float[Tensor, "1 nao nao"],
    ) -> None:
        self._rough = rough
        self._functional = rough.quadrature.functional
        self._core = rough.orthogonal(rough.integrals.core_hamiltonian)[0]
        self.projector: Float[Tensor, "nao nao"] = rough.projector(density_matrix)[0]
        self.nbuilds = self.nexchanges = 0
        self._shift = _LEVEL_SHIFT
        #: Gamma and G[P] of the last states.
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=_REMEMBERED)
        if self._functional.exact_exchange == 0:  # the Fock matrix is all that there is to it
            self._past.append((self.projector, rough.orthogonal(fock)[0] - self._core))
        #: Gamma and c where it is known, the last one in use.
        self._known: deque[tuple[Tensor, Tensor]] = deque(maxlen=_MOST_KNOWN)
        #: F[P'] - G[P'] and X[P'], where the latter is known.
        self._reference: tuple[Tensor, Tensor] | None = None
        self.refer(fock)

    @property
    def residual(self) -> float:
        """Norm of the present state's residual (Hartree) in A."""
        change = self._present_change()
        return float(residual(change + self._constant(self.projector), self.projector).norm())

    def refer(self, fock: Float[Tensor, "1 nao nao"]) -> None:
        """Take the Fock matrix (Hartree) of the present state for F[P']."""
        constant = self._rough.orthogonal(fock)[0] - self._present_change()
        if self._known and self._known[-1][0] is self.projector:
            self._known.pop()
        self._known.append((self.projector, constant))
        self._reference = None

    def onto(self, fine: Geometry) -> Float[Tensor, "1 nao nao"]:
        """Take the present state for P', and what is known of its Fock matrix to the fine grid.

        Returns:
            F[P'] (Hartree) there, at the cost of two matrices V_xc, and of K unless it is known.
        """
        change, density_matrix = self._present_change(), self._density_matrix()
        local = xc_potential(fine.quadrature, density_matrix)
        local = local - xc_potential(self._rough.quadrature, density_matrix)
        constant = self._core + self._rough.orthogonal(local)[0]
        if self._functional.exact_exchange > 0:
            last, with_exchange = self._known[-1]
            is_known = last is self.projector
            exchange = with_exchange - self._core if is_known else self._exchange()
            constant = constant + exchange
            self._reference = constant, exchange
        self._known.clear()
        self._known.append((self.projector, constant))
        root = self._rough.integrals.overlap @ self._rough.orthogonaliser
        return root @ (change + constant) @ root

    def go_back(
        self, projector: Float[Tensor, "nao nao"], fock: Float[Tensor, "1 nao nao"]
    ) -> None:
        """Begin again at an earlier state, with shorter steps and without what was learned."""
        self.projector = projector
        self._shift *= _STIFFER
        self._past.clear()
        self._known.clear()
        self.refer(fock)

    def relax(self, goal: float) -> None:
        """Move to the self-consistent state of A, to a residual of ``goal`` (norm, Hartree).

        Where exact exchange is known at P' it is asked for again on the way.  The last state is
        taken to be near enough from where it comes.

        Raises:
            torch.linalg.LinAlgError: the state has become nothing that is a number.
        """
        for _ in range(_MOST_EXCHANGES):
            left = _OF_COMPANION * self.residual
            if self._reference is None or left < goal:
                break
            self._relax(left)
            constant, exchange = self._reference
            constant = constant + self._change_of_exchange(exchange)
            self._known.append((self.projector, constant))
        self._relax(goal)

    def _relax(self, goal: float) -> None:
        for _ in range(_MOST_STATES):
            self._present_change()
            focks = [change + self._constant(projector) for projector, change in self._past]
            residuals = [
                residual(fock, projector)
                for fock, (projector, _) in zip(focks, self._past, strict=True)
            ]
            norm = float(residuals[-1].norm())
            if norm < goal:
                return
            shifted = torch.stack(
                [
                    fock - self._shift * projector
                    for fock, (projector, _) in zip(focks, self._past, strict=True)
                ]
            )
            best = torch.einsum("k,kmn->mn", _pulay_weights(residuals), shifted)[None]
            self.projector = occupied_projector(best, self._rough.molecule.nocc)[0][0]
            if norm < _ARRIVES * goal:
                return

    def _density_matrix(self) -> Float[Tensor, "1 nao nao"]:
        return self._rough.density_matrix(self.projector[None])

    def _present_change(self) -> Float[Tensor, "nao nao"]:
        """G[P] of the present state."""
        if not self._past or self._past[-1][0] is not self.projector:
            self.nbuilds += 1
            density_matrix = self._density_matrix()
            change = coulomb_matrix(self._rough.integrals, density_matrix)
            change = change + self._local(self._functional.companion, density_matrix)
            self._past.append((self.projector, self._rough.orthogonal(change)[0]))
        return self._past[-1][1]

    def _local(self, functional: Functional, density_matrix: Tensor) -> Tensor:
        return xc_potential(replace(self._rough.quadrature, functional=functional), density_matrix)

    def _exchange(self) -> Float[Tensor, "nao nao"]:
        """X of the present state."""
        self.nexchanges += 1
        density_matrix = self._density_matrix()
        exchange = 0.5 * exchange_matrix(self._rough.integrals, density_matrix)
        exchange = exchange + self._local(self._functional.local_exchange, density_matrix)
        return -self._functional.exact_exchange * self._rough.orthogonal(exchange)[0]

    def _change_of_exchange(self, earlier: Tensor) -> Float[Tensor, "nao nao"]:
        """How X of the present state differs from an earlier one, but for empty orbitals."""
        self.nexchanges += 1
        rough, density_matrix = self._rough, self._density_matrix()
        inverse, root = rough.orthogonaliser, rough.integrals.overlap @ rough.orthogonaliser
        half_exchange = (
            0.25 * inverse @ exchange_on_occupied(rough.integrals, density_matrix) @ root
        )
        local = rough.orthogonal(self._local(self._functional.local_exchange, density_matrix))
        fraction = self._functional.exact_exchange
        occupied = -fraction * (half_exchange + local @ self.projector)[0]
        occupied = occupied - earlier @ self.projector
        return occupied + occupied.T - self.projector @ occupied

    def _constant(self, projector: Float[Tensor, "nao nao"]) -> Float[Tensor, "nao nao"]:
        """c at a state: what it is at the last one known, and its change along known steps."""
        (last, constant), earlier = self._known[-1], list(self._known)[:-1]
        if not earlier or projector is last:
            return constant
        steps = torch.stack([(each - last).flatten() for each, _ in earlier])
        changes = torch.stack([each - constant for _, each in earlier])
        overlaps = steps @ steps.T
        overlaps.diagonal().add_(_SINGULAR * overlaps.diagonal().max())
        weights: Tensor = torch.linalg.solve(overlaps, steps @ (projector - last).flatten())
        return constant + torch.einsum("k,kmn->mn", weights, changes)


def _pulay_weights(residuals: list[Tensor]) -> Float[Tensor, " count"]:
    """Weights of sum one that make the weighted sum of the residuals smallest.

    Raises:
        torch.linalg.LinAlgError: a residual is not finite.
    """
    count = len(residuals)
    flat = torch.stack([each.flatten() for each in residuals])
    if not bool(torch.isfinite(flat).all()):
        raise torch.linalg.LinAlgError("a residual is not finite")  # type: ignore[attr-defined]
    table = flat.new_zeros((count + 1, count + 1))
    table[:count, :count] = flat @ flat.T
    table /= table.diagonal()[:count].min().clamp(min=torch.finfo(flat.dtype).tiny)
    table[count, :count] = table[:count, count] = 1.0
    # lstsq would do, but rounds as its memory happens to lie: no two runs would be alike
    weights: Tensor = torch.linalg.pinv(table, hermitian=True)[:count, count]
    return weights
