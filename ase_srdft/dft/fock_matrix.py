"""The Fock matrix F[P] as a differentiable operation, for models that iterate it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.exact_exchange import exchange_matrix
from ase_srdft.dft.integrals.provider import Integrals
from ase_srdft.dft.xc.quadrature import Quadrature, xc_potential

__all__ = ["fock_matrix"]


def fock_matrix(
    integrals: Integrals, quadrature: Quadrature, density_matrix: Float[Tensor, "batch nao nao"]
) -> Float[Tensor, "batch nao nao"]:
    """F[P] = h + J[P] - a/2 K[P] + V_xc[P] (Hartree), differentiable by P and the nuclei.

    `ase_srdft.dft.energy.kohn_sham` gives the same matrix detached, at no cost beside the energy.

    Args:
        integrals: at the nuclei.
        quadrature: on the grid that V_xc is wanted on; names the functional.
        density_matrix: P, spin-summed, symmetric; with exact exchange, fitted, the derivative is
            that along states of the same number of orbitals.
    """
    fock = integrals.core_hamiltonian + coulomb_matrix(integrals, density_matrix)
    fraction = quadrature.functional.exact_exchange
    if fraction > 0:
        fock = fock - 0.5 * fraction * exchange_matrix(integrals, density_matrix)
    return fock + xc_potential(quadrature, density_matrix)
