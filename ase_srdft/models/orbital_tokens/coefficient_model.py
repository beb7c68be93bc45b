"""The coefficient family: C = X QR(Z), Z from a transformer on orbitals (arXiv:2506.01225).

What is published, and what can be chosen instead:

- The first nocc columns of QR(Z) are occupied.  Columns stand in the order of the atoms, so the
  energy depends on that; ``occupied: dominant`` takes the span of Z's nocc largest singular
  vectors, which does not.
- The density before the first layer fills the first nocc basis functions.  Here it is by default
  that of superposed atoms (``start_density: minao``).
- The axes are those of the input, and the energy depends on them.  ``frame: random`` teaches
  rotations while training.

Orbitals are predicted without a Hamiltonian, so the state has no ``mo_energy``; those of F[P] are
in `ase_srdft.models.electronic_structure`.  A new model knows nothing: in ethanol (PBE/6-31G) its
energy is some 40 to 70 Hartree above the SCF's, and the condition number of its occupied columns,
on which the slope depends, a few hundred to a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.checks import require_choice
from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.exact_exchange import exchange_matrix
from ase_srdft.dft.guess_fock import minimal_density_matrix
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector, span_projector
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel, register
from ase_srdft.models.orbital_tokens.biased_attention import PairProduct, QuantumLayer
from ase_srdft.models.orbital_tokens.rotated_axes import Frame
from ase_srdft.models.orbital_tokens.tokens import OrbitalNetworkConfig, OrbitalTokens

__all__ = ["CoefficientConfig", "CoefficientModel"]

OCCUPIED = ("first", "dominant")


@dataclass(frozen=True, kw_only=True)
class CoefficientConfig(OrbitalNetworkConfig):
    """Configuration of the coefficient family.

    Attributes:
        start_density: density of the first layer's bias: ``minao`` (superposed atoms),
            ``core`` (aufbau of the core Hamiltonian) or ``basis_order`` (the first nocc of
            Loewdin's orbitals, as published).
        occupied: ``first`` (columns of QR(Z), as published) or ``dominant`` (singular vectors of
            Z, which do not depend on the order of the atoms).
    """

    start_density: str = "minao"
    occupied: str = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "start_density", START_DENSITIES)
        require_choice(self, "occupied", OCCUPIED)


def _superposed_atoms(geometry: Geometry) -> Tensor:
    return minimal_density_matrix(geometry.molecule, geometry.integrals)


def _first_orbitals(geometry: Geometry) -> Tensor:
    filled = torch.zeros_like(geometry.orthogonaliser[:, 0])
    filled[:, : geometry.molecule.nocc] = 1.0
    return geometry.density_matrix(torch.diag_embed(filled))


def _core_aufbau(geometry: Geometry) -> Tensor:
    core = geometry.orthogonal(geometry.integrals.core_hamiltonian)
    return geometry.density_matrix(occupied_projector(core, geometry.molecule.nocc)[0])


#: What makes each density of the first layer's bias.
START_DENSITIES: dict[str, Callable[[Geometry], Tensor]] = {
    "minao": _superposed_atoms,
    "basis_order": _first_orbitals,
    "core": _core_aufbau,
}


@register
class CoefficientModel(ElectronicStateModel):
    """Occupied orbitals as the span of predicted columns."""

    family = "coefficient"
    Config = CoefficientConfig
    learning_rate = 3.0e-4

    def __init__(
        self, level: LevelOfTheory, elements: tuple[int, ...], config: CoefficientConfig
    ) -> None:
        super().__init__(level, elements, config)
        self.guess = "minao" if config.start_density == "minao" else "core"
        sizes = (config.features, config.heads, config.mlp_features)
        self.tokens = OrbitalTokens(level.basis, self.elements, config)
        self.layers = nn.ModuleList(
            QuantumLayer(*sizes, nbiases=3) for _ in range(config.orbital_layers)
        )
        self.head = PairProduct(config.features)

    def start_density(self, geometry: Geometry) -> Float[Tensor, "batch nao nao"]:
        """P before the first layer."""
        return START_DENSITIES[self.config.start_density](geometry)

    def occupied_span(
        self, columns: Float[Tensor, "batch nao nao"], nocc: int
    ) -> tuple[Float[Tensor, "batch nao nao"], Float[Tensor, "batch nao nao"]]:
        """Gamma from Z, differentiable, and orthonormal orbitals, the occupied ones first."""
        if self.config.occupied == "first":
            return span_projector(columns[..., :nocc])
        projector, _, vectors = occupied_projector(-columns @ columns.transpose(-1, -2), nocc)
        return projector, vectors

    def _state(self, geometry: Geometry, tokens: Tensor, frame: Frame) -> ElectronicState:
        """All layers, each biased by the density of the one before."""
        core = geometry.integrals.core_hamiltonian
        fixed = [frame.there(matrix).to(tokens) for matrix in (core, geometry.orthogonal(core))]
        density_matrix = self.start_density(geometry)
        projector = orbitals = density_matrix
        for layer in self.layers:
            field = coulomb_matrix(geometry.integrals, density_matrix)
            field = field - 0.5 * exchange_matrix(geometry.integrals, density_matrix)
            biases = torch.stack([*fixed, frame.there(field).to(tokens)], 1)
            tokens = layer(tokens, biases)
            projector, orbitals = self.occupied_span(self.head(tokens), geometry.molecule.nocc)
            projector = frame.back(projector)
            density_matrix = geometry.density_matrix(projector)
        return ElectronicState.of(geometry, projector, frame.columns_back(orbitals))

    def forward(self, geometries: Sequence[Geometry]) -> list[ElectronicState]:
        """States of several batches in one evaluation of the backbone."""
        return [
            self._state(geometry, tokens, frame)
            for geometry, (tokens, frame) in zip(geometries, self.tokens(geometries), strict=True)
        ]
