"""A transformer between DFT iterations, after QPT (Mathiasen et al., arXiv:2402.04030).

One iteration from the guess gives F_guess and P_0; the transformer, whose attention is biased by
S, h, F_guess and P_0, adds a symmetric correction in Loewdin's basis; k iterations with mixing
refine what it predicts:

    H_0 = X F_guess X + dF_theta,   P_i = aufbau(H_i),   H_(i+1) = (1 - m) H_i + m X F[P_i] X

and the state is aufbau(H_k).  All is differentiated through, the Fock builds included.  Published
is the mixing of densities, ``P <- (1 - m) P + m aufbau(F[P])``, whose state is the last aufbau of
an unmixed F and so keeps the whole of the error that a bare iteration amplifies; choose it with
``mixed: density``.  A new model corrects nothing: it is k mixed iterations from the guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.checks import require, require_at_least, require_choice
from ase_srdft.dft.fock_matrix import fock_matrix
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel, register
from ase_srdft.models.orbital_tokens.biased_attention import PairProduct, QuantumLayer
from ase_srdft.models.orbital_tokens.rotated_axes import Frame
from ase_srdft.models.orbital_tokens.tokens import OrbitalNetworkConfig, OrbitalTokens

__all__ = ["QptConfig", "QptModel"]

MIXED = ("fock", "density")


@dataclass(frozen=True, kw_only=True)
class QptConfig(OrbitalNetworkConfig):
    """Configuration of the QPT family.

    Attributes:
        guess: guess Fock matrix (``companion``, ``roothaan``, ``minao``, ``sap``,
            ``core``).
        iterations: k, Fock builds after the transformer; not negative.
        mixing: m, the share of what is new, above 0 and 1 at most.  Some molecules bear more than
            0.3; from 0.35 on the iterations in malonaldehyde and uracil lead away
            (``benchmarks/guess_choice.py``).
        mixed: ``fock`` or ``density``.
    """

    guess: str = "minao"
    iterations: int = 3
    mixing: float = 0.3
    mixed: str = "fock"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, self, "iterations")
        require(0 < self.mixing <= 1, "mixing", self.mixing, "a number above 0, and 1 at most")
        require_choice(self, "mixed", MIXED)


@register
class QptModel(ElectronicStateModel):
    """Occupied orbitals of a predicted Hamiltonian after a few self-consistency iterations."""

    family = "qpt"
    Config = QptConfig
    learning_rate = 3.0e-4

    def __init__(self, level: LevelOfTheory, elements: tuple[int, ...], config: QptConfig) -> None:
        super().__init__(level, elements, config)
        self.guess = config.guess
        sizes = (config.features, config.heads, config.mlp_features)
        self.tokens = OrbitalTokens(level.basis, self.elements, config)
        self.layers = nn.ModuleList(
            QuantumLayer(*sizes, nbiases=4) for _ in range(config.orbital_layers)
        )
        self.head = PairProduct(config.features, starts_at_zero=True)

    def _predicted(
        self, geometry: Geometry, tokens: Float[Tensor, "batch nao c"], frame: Frame
    ) -> Float[Tensor, "batch nao nao"]:
        """H_0 (Hartree) in Loewdin's basis."""
        integrals, guess = geometry.integrals, geometry.orthogonal(geometry.guess_fock)
        first = geometry.density_matrix(occupied_projector(guess, geometry.molecule.nocc)[0])
        matrices = (integrals.overlap, integrals.core_hamiltonian, geometry.guess_fock, first)
        biases = torch.stack([frame.there(matrix).to(tokens) for matrix in matrices], 1)
        for layer in self.layers:
            tokens = layer(tokens, biases)
        half = frame.back(self.head(tokens))
        return guess + 0.5 * (half + half.transpose(-1, -2))

    def hamiltonian(self, geometries: Sequence[Geometry]) -> list[Float[Tensor, "batch nao nao"]]:
        """The transformer's H_0 (Hartree) of each batch, before it is refined."""
        matrices = []
        for geometry, (tokens, frame) in zip(geometries, self.tokens(geometries), strict=True):
            root = geometry.integrals.overlap @ geometry.orthogonaliser  # S X = S^(1/2)
            predicted = self._predicted(geometry, tokens, frame)
            matrices.append(root @ predicted @ root.transpose(-1, -2))
        return matrices

    def _refined(self, geometry: Geometry, fock: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Projector, orbital energies and orbitals after all iterations."""
        nocc, share = geometry.molecule.nocc, self.config.mixing
        quadrature = geometry.quadrature
        state = occupied_projector(fock, nocc)
        mixed = state[0]
        for _ in range(self.config.iterations):
            built = fock_matrix(geometry.integrals, quadrature, geometry.density_matrix(mixed))
            built = geometry.orthogonal(built)
            if self.config.mixed == "fock":
                fock = torch.lerp(fock, built, share)
                state = occupied_projector(fock, nocc)
                mixed = state[0]
            else:
                state = occupied_projector(built, nocc)
                mixed = torch.lerp(mixed, state[0], share)
        return state

    def forward(self, geometries: Sequence[Geometry]) -> list[ElectronicState]:
        """States of several batches in one evaluation of the backbone."""
        states = []
        for geometry, (tokens, frame) in zip(geometries, self.tokens(geometries), strict=True):
            fock = self._predicted(geometry, tokens, frame)
            projector, energies, vectors = self._refined(geometry, fock)
            states.append(ElectronicState.of(geometry, projector, vectors, energies))
        return states
