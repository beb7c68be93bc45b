"""The Kohn-Sham energy functional E[R, P], term by term, and its Fock matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import coulomb_energy
from ase_srdft.dft.exact_exchange import exchange_energy
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.xc.quadrature import xc_energy

__all__ = ["Energies", "kohn_sham", "nuclear_repulsion"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Energies:
    """The terms of E[R, P] (Hartree); their sum is ``total``.

    Attributes:
        core: Tr P h.
        coulomb: 1/2 Tr P J[P].
        exact_exchange: -a/4 Tr P K[P].
        exchange_correlation: E_xc of the density.
        nuclear: repulsion of the nuclei.
    """

    core: Float[Tensor, " batch"]
    coulomb: Float[Tensor, " batch"]
    exact_exchange: Float[Tensor, " batch"]
    exchange_correlation: Float[Tensor, " batch"]
    nuclear: Float[Tensor, " batch"]

    @property
    def total(self) -> Float[Tensor, " batch"]:
        """E[R, P]."""
        electrons = self.core + self.coulomb + self.exact_exchange + self.exchange_correlation
        return electrons + self.nuclear


def nuclear_repulsion(
    charges: Float[Tensor, " natoms"], positions: Float[Tensor, "batch natoms 3"]
) -> Float[Tensor, " batch"]:
    """sum_(A<B) Z_A Z_B / R_AB (Hartree)."""
    natoms = len(charges)
    first, second = torch.triu_indices(natoms, natoms, 1, device=positions.device)
    distances: Tensor = (positions[:, first] - positions[:, second]).norm(dim=-1)
    return (charges[first] * charges[second] / distances).sum(-1)


def _trace(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum((-1, -2))


def kohn_sham(
    geometry: Geometry, density_matrix: Float[Tensor, "batch nao nao"]
) -> tuple[Energies, Float[Tensor, "batch nao nao"]]:
    """E[R, P] by terms and F[P] = dE/dP.

    Args:
        geometry: prepared geometries.
        density_matrix: P, spin-summed, symmetric.

    Returns:
        Energies, differentiable by P and (where they require gradients) the nuclei, and the
        Fock matrix (Hartree), detached.
    """
    integrals = geometry.integrals
    coulomb_term, coulomb = coulomb_energy(integrals, density_matrix)
    xc, xc_matrix = xc_energy(geometry.quadrature, density_matrix)
    fock = (integrals.core_hamiltonian + coulomb + xc_matrix).detach()
    exact_exchange = torch.zeros_like(xc)
    fraction = geometry.molecule.level.functional.exact_exchange
    if fraction > 0:
        trace, exchange = exchange_energy(integrals, density_matrix)
        exact_exchange = -0.25 * fraction * trace
        fock = fock - 0.5 * fraction * exchange
    charges = geometry.molecule.charges.to(geometry.positions.device)
    energies = Energies(
        core=_trace(density_matrix, integrals.core_hamiltonian),
        coulomb=coulomb_term,
        exact_exchange=exact_exchange,
        exchange_correlation=xc,
        nuclear=nuclear_repulsion(charges, geometry.positions),
    )
    return energies, fock
