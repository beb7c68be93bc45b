"""The energy as a function of the occupied orbitals alone, with its derivatives.

In Loewdin's basis, with orbitals C = (C_o, C_v) of which the first are occupied, a state is turned
by kappa into the occupied ones of C exp(K), K_vo = kappa, K_ov = -kappa^T, and the energy is

    E(kappa) = E + <g, kappa> + 1/2 <kappa, H kappa> + ...,    g = 4 F_vo
    H kappa = 4 (F_vv kappa - kappa F_oo) + 4 (dF)_vo

where dF answers to dGamma = C_v kappa C_o^T + transpose.  A tilt c, a constant that is added to the
Fock matrix, adds 2 Tr c Gamma: with c = F_fine[P'] - F[P'] the surface of a rough grid has the
slope of a fine one at P', and nearly its shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.exact_exchange import repeated_exchange
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.xc.quadrature import xc_potential

__all__ = ["EnergySurface", "Place", "canonical"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where orbitals are on the surface.

    Attributes:
        orbitals: in columns, the occupied ones first, in Loewdin's basis.
        nocc: how many are occupied.
        energy: (Hartree), tilted.
        fock: among these orbitals (Hartree), tilted.
    """

    orbitals: Float[Tensor, "nao nao"]
    nocc: int
    energy: float
    fock: Float[Tensor, "nao nao"]

    @property
    def projector(self) -> Float[Tensor, "nao nao"]:
        """Gamma."""
        occupied = self.orbitals[:, : self.nocc]
        return occupied @ occupied.T

    @property
    def slope(self) -> Float[Tensor, "nvirtual nocc"]:
        """g (Hartree)."""
        return 4.0 * self.fock[self.nocc :, : self.nocc]

    @property
    def residual(self) -> float:
        """Norm of [F, Gamma] (Hartree)."""
        mixing = float(self.fock[self.nocc :, : self.nocc].norm())
        return math.sqrt(2.0) * mixing

    @property
    def distances(self) -> Float[Tensor, "nvirtual nocc"]:
        """e_a - e_i (Hartree), the diagonal of the Fock matrix."""
        levels = self.fock.diagonal()
        return levels[self.nocc :, None] - levels[: self.nocc]

    @property
    def gap(self) -> float:
        """The lowest empty orbital's energy minus the highest occupied one's (Hartree)."""
        distances = canonical(self)[0].distances
        return float(distances.min()) if distances.numel() else float("inf")

    def turned(self, turn: Float[Tensor, "nvirtual nocc"]) -> Float[Tensor, "nao nao"]:
        """C exp(K)."""
        generator = self.fock.new_zeros(self.fock.shape)
        generator[self.nocc :, : self.nocc] = turn
        generator[: self.nocc, self.nocc :] = -turn.T
        rotation: Tensor = torch.linalg.matrix_exp(generator)
        return self.orbitals @ rotation


def canonical(
    place: Place,
) -> tuple[Place, Float[Tensor, "nocc nocc"], Float[Tensor, "nvirtual nvirtual"]]:
    """The same state in orbitals that make the blocks of F diagonal, and what turned them."""
    nocc, fock = place.nocc, place.fock
    _, of_occupied = torch.linalg.eigh(fock[:nocc, :nocc])
    _, of_virtual = torch.linalg.eigh(fock[nocc:, nocc:])
    turn = torch.block_diag(of_occupied, of_virtual)
    same = replace(place, orbitals=place.orbitals @ turn, fock=turn.T @ fock @ turn)
    return same, of_occupied, of_virtual


class EnergySurface:
    """The energy of one geometry on a grid, tilted.

    Args:
        geometry: one, without history.
        tilt: added to the Fock matrix (Hartree), in Loewdin's basis.

    Attributes:
        nbuilds: Fock matrices that were made, and their answers to a change.
    """

    def __init__(self, geometry: Geometry, tilt: Float[Tensor, "nao nao"] | None = None) -> None:
        self.geometry = geometry
        self.nocc = geometry.molecule.nocc
        self._tilt = torch.zeros_like(geometry.orthogonaliser[0]) if tilt is None else tilt
        self.nbuilds = 0

    @torch.no_grad()
    def at(self, orbitals: Float[Tensor, "nao nao"]) -> Place:
        """The energy and the Fock matrix of orbitals."""
        self.nbuilds += 1
        occupied = orbitals[:, : self.nocc]
        projector = occupied @ occupied.T
        energies, fock = kohn_sham(self.geometry, self.geometry.density_matrix(projector[None]))
        tilted = self.geometry.orthogonal(fock)[0] + self._tilt
        energy = float(energies.total) + 2.0 * float((self._tilt * projector).sum())
        return Place(
            orbitals=orbitals,
            nocc=self.nocc,
            energy=energy,
            fock=orbitals.T @ tilted @ orbitals,
        )

    def response(
        self, place: Place, turn: Float[Tensor, "nvirtual nocc"]
    ) -> Float[Tensor, "nvirtual nocc"]:
        """H kappa (Hartree): how the slope answers to a small turn."""
        self.nbuilds += 1
        geometry, nocc = self.geometry, self.nocc
        occupied, virtual = place.orbitals[:, :nocc], place.orbitals[:, nocc:]
        half = virtual @ turn @ occupied.T
        with torch.no_grad():
            change = geometry.density_matrix((half + half.T)[None])
            density_matrix = geometry.density_matrix((occupied @ occupied.T)[None])
            answer = coulomb_matrix(geometry.integrals, change)
            fraction = geometry.molecule.level.functional.exact_exchange
            if fraction > 0:
                answer = answer - 0.5 * fraction * repeated_exchange(geometry.integrals, change)
        with torch.enable_grad():
            density_matrix.requires_grad_()
            trace = (xc_potential(geometry.quadrature, density_matrix) * change).sum()
            (of_xc,) = torch.autograd.grad(trace, density_matrix)
        turned = virtual.T @ geometry.orthogonal(answer + of_xc)[0] @ occupied
        fock = place.fock
        return 4.0 * (fock[nocc:, nocc:] @ turn - turn @ fock[:nocc, :nocc] + turned)
