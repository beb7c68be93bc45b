"""A state brought to self-consistency: few Fock matrices of the fine grid, more of a coarse one.

Near self-consistency a Fock matrix is what it was at a nearby state and the change of its
potential, and for the change a coarse grid will do, and the local companion of a hybrid functional:

    F[P] ~ A[P] = F[P'] + G[P] - G[P'],      G[P] = J[P] + V_c[P] on the coarse grid

P' is the state of the last Fock matrix of the fine grid.  DIIS (P. Pulay, J. Comput. Chem. 3, 556
(1982)) solves A, and a new P' is what it ends at.  What is left out is a difference of differences,
so few such rounds take the residual [F, Gamma] to nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.xc.quadrature import xc_potential

__all__ = ["Correction", "residual"]

#: States that DIIS remembers, and the most that it makes from one fine Fock matrix.
_REMEMBERED, _MOST_STATES = 8, 8
#: Lowers the occupied orbitals (Hartree): the step is as long as the electrons' answer lets it be.
_LEVEL_SHIFT = 0.2
#: Factor by which it grows where a step has led uphill.
_STIFFER = 3.0


def residual(
    fock: Float[Tensor, "nao nao"], projector: Float[Tensor, "nao nao"]
) -> Float[Tensor, "nao nao"]:
    """[F, Gamma] in an orthonormal basis (Hartree), zero at self-consistency."""
    product = fock @ projector
    return product - product.T


class Correction:
    """The way of one geometry's state to self-consistency.

    Args:
        coarse: the geometry on the coarse grid, without history.
        density_matrix: P' to begin with.
        fock: F[P'] (Hartree) on the coarse grid.

    Attributes:
        projector: Gamma of the present state, in Loewdin's basis.
        nbuilds: Fock matrices of the coarse grid that were made.
    """

    def __init__(
        self,
        coarse: Geometry,
        density_matrix: Float[Tensor, "1 nao nao"],
        fock: Float[Tensor, "1 nao nao"],
    ) -> None:
        self._coarse = coarse
        quadrature = coarse.quadrature
        self._quadrature = replace(quadrature, functional=quadrature.functional.companion)
        self.projector: Float[Tensor, "nao nao"] = coarse.projector(density_matrix)[0]
        self.nbuilds = 0
        self._shift = _LEVEL_SHIFT
        #: Gamma and G[P] of the last states.
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=_REMEMBERED)
        if quadrature.functional.exact_exchange > 0:
            self._remember()
        else:  # the Fock matrix is all that there is to it
            change = coarse.orthogonal(fock - coarse.integrals.core_hamiltonian)[0]
            self._past.append((self.projector, change))
        self.refer(fock)

    @property
    def residual(self) -> float:
        """Norm of the present state's residual (Hartree) in A."""
        projector, change = self._past[-1]
        return float(residual(self._constant + change, projector).norm())

    def refer(self, fock: Float[Tensor, "1 nao nao"]) -> None:
        """Take the Fock matrix (Hartree) of the present state for F[P']."""
        self._constant = self._coarse.orthogonal(fock)[0] - self._past[-1][1]

    def go_back(
        self, projector: Float[Tensor, "nao nao"], fock: Float[Tensor, "1 nao nao"]
    ) -> None:
        """Begin again at an earlier state, with shorter steps and without what was learned."""
        self.projector = projector
        self._shift *= _STIFFER
        self._past.clear()
        self._remember()
        self.refer(fock)

    def relax(self, goal: float) -> None:
        """Move to the self-consistent state of A, to a residual of ``goal`` (norm, Hartree).

        Raises:
            torch.linalg.LinAlgError: the state has become nothing that is a number.
        """
        for _ in range(_MOST_STATES):
            focks = [self._constant + change for _, change in self._past]
            residuals = [
                residual(fock, projector)
                for fock, (projector, _) in zip(focks, self._past, strict=True)
            ]
            if float(residuals[-1].norm()) < goal:
                return
            shifted = torch.stack(
                [
                    fock - self._shift * projector
                    for fock, (projector, _) in zip(focks, self._past, strict=True)
                ]
            )
            best = torch.einsum("k,kmn->mn", _pulay_weights(residuals), shifted)[None]
            self.projector = occupied_projector(best, self._coarse.molecule.nocc)[0][0]
            self._remember()

    def _remember(self) -> None:
        self.nbuilds += 1
        density_matrix = self._coarse.density_matrix(self.projector[None])
        change = coulomb_matrix(self._coarse.integrals, density_matrix)
        change = change + xc_potential(self._quadrature, density_matrix)
        self._past.append((self.projector, self._coarse.orthogonal(change)[0]))


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
    right = flat.new_zeros(count + 1)
    right[count] = 1.0
    weights: Tensor = torch.linalg.lstsq(table, right[:, None]).solution[:count, 0]
    return weights
