"""The Fock family: F_theta(R) = F_guess(R) + dF_theta(R), occupied orbitals by aufbau.

dF is made of rotation-equivariant blocks in Loewdin's basis (``X F_guess X + dF``), where all
its elements are of one scale, or in the basis itself; it is zero at initialisation.  The network
is given the nuclei and what the guess knows of the electrons (:mod:`.guess_matrices`), block by
block: how they answer to a Fock matrix is not local, a diagonalisation sees it and messages
between neighbours would have to learn it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.checks import require_at_least, require_choice, require_positive
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import check_guess
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel, register
from ase_srdft.models.fock.block_layers import BlocksFromFeatures, FeaturesFromBlocks
from ase_srdft.models.fock.block_layout import (
    elements_by_placement,
    highest_angular_momentum,
    placements,
    rows_by_placement,
)
from ase_srdft.models.fock.guess_features import guess_matrices, nguess_matrices
from ase_srdft.models.layers.atom_graph import Graph, build_graph
from ase_srdft.models.layers.atom_head import AtomHead, Gate
from ase_srdft.models.layers.couplings import couple
from ase_srdft.models.layers.so3net import Backbone, PairFeatures

__all__ = ["FockConfig", "FockModel"]


@dataclass(frozen=True, kw_only=True)
class FockConfig:
    """Configuration of the Fock family.

    Attributes:
        features: channels of the backbone and the heads.
        layers: interaction layers.
        cutoff_bohr: range of messages and blocks (Bohr).
        nradial: radial basis functions.
        guess: guess Fock matrix (``companion``, ``roothaan``, ``minao``, ``sap``,
            ``core``).
        reads_guess: whether the guess's matrices are part of the network's input.
        correction_basis: ``orthonormal`` (Loewdin) or ``atomic``.
    """

    features: int = 64
    layers: int = 3
    cutoff_bohr: float = 12.0
    nradial: int = 24
    guess: str = "companion"
    reads_guess: bool = True
    correction_basis: str = "orthonormal"

    def __post_init__(self) -> None:
        check_guess(self.guess)
        require_choice(self, "correction_basis", ("orthonormal", "atomic"))
        require_positive(self, "features", "layers", "cutoff_bohr")
        require_at_least(2, self, "nradial")  # which have a width


class PairHead(nn.Module):
    """Even and odd tensors of each ordered pair: an SO(3) convolution kept per pair."""

    def __init__(self, features: int, lmax: int, nradial: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, features, bias=False)
        self.second = nn.Linear(features, features, bias=False)
        self.filters = nn.Linear(nradial, 3 * (lmax + 1) * features)
        self.shape = (3, lmax + 1, features)
        self.index = [angular for angular in range(lmax + 1) for _ in range(2 * angular + 1)]
        self.gate = Gate(features, lmax)

    def forward(
        self,
        features: Tensor,
        graph: Graph,
        basis: PairFeatures,
        read: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """Features (natoms, ncomponents, c) to (npairs, ncomponents, c), even and odd."""
        mixed = self.first(features).index_select(0, graph.first)
        mixed = mixed + self.second(features).index_select(0, graph.second)
        filters = (self.filters(basis.radial) * basis.envelope).unflatten(1, self.shape)
        even = couple(basis.couplings, filters[:, 0], mixed)
        even = even + mixed * filters[:, 2][:, self.index]
        odd = couple(basis.odd_couplings, filters[:, 1], mixed)
        if read is not None:
            even, odd = even + read[0], odd + read[1]
        gated: tuple[Tensor, Tensor] = self.gate(even, odd)
        return gated


@register
class FockModel(ElectronicStateModel):
    """Occupied orbitals as the lowest eigenvectors of a predicted Fock matrix."""

    family = "fock"
    Config = FockConfig

    def __init__(self, level: LevelOfTheory, elements: tuple[int, ...], config: FockConfig) -> None:
        super().__init__(level, elements, config)
        self.guess = config.guess
        lmax = max(2, highest_angular_momentum(level.basis, self.elements))
        width = config.features
        self.backbone = Backbone(width, config.layers, lmax, config.cutoff_bohr, config.nradial)
        self.atom_head = AtomHead(width, lmax)
        self.pair_head = PairHead(width, lmax, config.nradial)
        own = [(z, z) for z in self.elements]
        ordered = [(a, b) for a in self.elements for b in self.elements]
        self.atom_projection = BlocksFromFeatures(width, level.basis, own)
        self.pair_projection = BlocksFromFeatures(width, level.basis, ordered)
        if config.reads_guess:
            nmatrices = nguess_matrices(config.guess)
            # one half for the backbone to start from, which takes even ones, one for the head
            sizes = (2 * width, lmax, level.basis)
            self.atom_reading = FeaturesFromBlocks(*sizes, own, nmatrices, width)
            self.pair_reading = FeaturesFromBlocks(*sizes, ordered, nmatrices, width)

    def correction(self, geometries: Sequence[Geometry]) -> list[Float[Tensor, "batch nao nao"]]:
        """dF_theta(R) (Hartree) of each batch, symmetric, float64."""
        graph = build_graph(geometries)
        basis = self.backbone.pair_basis(graph)
        start, read_atoms, read_pairs = self._read_guess(geometries, graph, basis)
        features = self.backbone(graph, basis, start)
        atoms = self.atom_head(features, read_atoms)
        pairs = self.pair_head(features, graph, basis, read_pairs)
        matrices = []
        atom_start = pair_start = 0
        for geometry in geometries:
            natoms, batch = geometry.molecule.natoms, len(geometry)
            npairs = natoms * (natoms - 1)
            atom_end = atom_start + batch * natoms
            pair_end = pair_start + batch * npairs
            own_atoms = [t[atom_start:atom_end] for t in atoms]
            own_pairs = [t[pair_start:pair_end] for t in pairs]
            half = self._matrix(geometry, own_atoms, own_pairs)
            matrices.append(half + half.transpose(-1, -2))
            atom_start, pair_start = atom_end, pair_end
        return matrices

    def _read_guess(
        self, geometries: Sequence[Geometry], graph: Graph, basis: PairFeatures
    ) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None, tuple[Tensor, Tensor] | None]:
        """Atom features to start from, and even and odd tensors for both heads, from the guess."""
        if not self.config.reads_guess:
            return None, None, None
        matrices = [guess_matrices(geometry).to(basis.radial.dtype) for geometry in geometries]
        molecules = [geometry.molecule for geometry in geometries]
        atoms = self.atom_reading(molecules, matrices, diagonal=True)
        fading = basis.envelope[:, None]
        pairs = [t * fading for t in self.pair_reading(molecules, matrices, diagonal=False)]
        own, messages = atoms[0].chunk(2, -1), pairs[0].chunk(2, -1)
        start = own[0] + graph.sum_by_first(messages[0])
        return start, (own[1], atoms[1]), (messages[1], pairs[1])

    def _matrix(self, geometry: Geometry, atoms: list[Tensor], pairs: list[Tensor]) -> Tensor:
        """Blocks put in place; not yet symmetric."""
        molecule, batch, device = geometry.molecule, len(geometry), geometry.positions.device
        elements = []
        for diagonal, features, projection in (
            (True, atoms, self.atom_projection),
            (False, pairs, self.pair_projection),
        ):
            own = placements(molecule, diagonal)
            rows = rows_by_placement(molecule, batch, diagonal, device)
            sizes = [batch * len(each.sources) for each in own]
            even, odd = (rows.there(t).split(sizes) for t in features)
            for each, *tensors in zip(own, even, odd, strict=True):
                elements.append(projection(each.elements, *tensors).reshape(batch, -1))
        flat = torch.cat(elements, 1).to(geometry.positions.dtype)
        flat = elements_by_placement(molecule, device).back(flat, 1)
        return flat.reshape(batch, molecule.nao, molecule.nao)

    def hamiltonian(self, geometries: Sequence[Geometry]) -> list[Float[Tensor, "batch nao nao"]]:
        """F_guess + S^(1/2) dF S^(1/2) (Hartree), or F_guess + dF, of each batch."""
        matrices = []
        for geometry, correction in zip(geometries, self.correction(geometries), strict=True):
            if self.config.correction_basis == "orthonormal":
                root = geometry.integrals.overlap @ geometry.orthogonaliser  # S X = S^(1/2)
                correction = root @ correction @ root.transpose(-1, -2)
            matrices.append(geometry.guess_fock + correction)
        return matrices

    def forward(self, geometries: Sequence[Geometry]) -> list[ElectronicState]:
        """States of several batches in one evaluation of the network."""
        states = []
        for geometry, correction in zip(geometries, self.correction(geometries), strict=True):
            fock = geometry.guess_fock
            if self.config.correction_basis == "orthonormal":
                fock = geometry.orthogonal(fock) + correction
            else:
                fock = geometry.orthogonal(fock + correction)
            projector, energies, vectors = occupied_projector(fock, geometry.molecule.nocc)
            states.append(ElectronicState.of(geometry, projector, vectors, energies))
        return states
