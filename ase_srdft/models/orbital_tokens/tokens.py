"""Atomic orbitals as tokens: what the families without rotation symmetry share.

A token is a linear map of its atom's scalars and vectors plus an embedding of the shell (element
and number of the shell), times an embedding of the component (l, m): sums of all three would span
few dimensions, and matrices made of them be all but singular.  The component's embedding and the
three axes of the vectors single out directions in space: such a model knows rotations only by
training (``frame``), unlike the Fock family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.checks import require, require_at_least, require_choice, require_positive
from ase_srdft.dft.basis.element_basis import element_basis
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.models.layers.atom_graph import Graph, build_graph
from ase_srdft.models.layers.schnetpack_shim import schnetpack_modules
from ase_srdft.models.layers.so3net import SmoothCutoff
from ase_srdft.models.orbital_tokens.rotated_axes import Frame, random_rotations
from ase_srdft.models.orbital_tokens.torchmd_net import AtomFeatures, EquivariantTransformer

__all__ = ["OrbitalNetworkConfig", "OrbitalTokens"]

FRAMES = ("none", "random")


@dataclass(frozen=True, kw_only=True)
class OrbitalNetworkConfig:
    """A backbone on atoms and a transformer on orbitals.

    The defaults are those of arXiv:2506.01225, table 3: 6 + 6 layers, 256 channels, 8 heads, 8.4
    million weights.  The last fixes ``mlp_features``, which the paper leaves open.

    Attributes:
        features: channels of atoms and orbitals.
        layers: of the backbone.
        orbital_layers: of the transformer.
        heads: of the attention in both.
        mlp_features: hidden channels of the transformer's perceptrons.
        cutoff_bohr: range of the backbone's messages (Bohr).
        nradial: its radial basis functions.
        backbone: ``et`` (TorchMD-NET's equivariant transformer) or ``painn``.
        frame: ``none`` (the axes the positions are given in) or ``random`` (in training every
            geometry is seen in axes drawn anew, which needs no new integrals; in use as ``none``).
    """

    features: int = 256
    layers: int = 6
    orbital_layers: int = 6
    heads: int = 8
    mlp_features: int = 512
    cutoff_bohr: float = 12.0
    nradial: int = 64
    backbone: str = "et"
    frame: str = "none"

    def __post_init__(self) -> None:
        require_positive(self, "features", "layers", "orbital_layers", "heads", "mlp_features")
        require_positive(self, "cutoff_bohr")
        require_at_least(2, self, "nradial")  # which have a width
        multiple = self.features % self.heads == 0
        require(multiple, "features", self.features, f"a multiple of the {self.heads} heads")
        require_choice(self, "backbone", BACKBONES)
        require_choice(self, "frame", FRAMES)


class _PaiNN(nn.Module):
    """schnetpack's PaiNN (arXiv:2102.03150) over complete graphs."""

    def __init__(self, config: OrbitalNetworkConfig) -> None:
        super().__init__()
        snn, representation = schnetpack_modules()
        cutoff_bohr = config.cutoff_bohr
        self.keys = representation.painn.properties
        self.net: Any = representation.PaiNN(
            n_atom_basis=config.features,
            n_interactions=config.layers,
            radial_basis=snn.GaussianRBF(n_rbf=config.nradial, cutoff=cutoff_bohr, start=0.8),
            cutoff_fn=SmoothCutoff(cutoff_bohr),
        )

    def forward(self, graph: Graph) -> AtomFeatures:
        keys = self.keys
        inputs = {
            keys.Z: graph.numbers,
            keys.Rij: graph.vectors.to(self.net.embedding.weight.dtype),
            keys.idx_i: graph.first,
            keys.idx_j: graph.second,
        }
        outputs = self.net(inputs)
        return outputs["scalar_representation"], outputs["vector_representation"]


def _equivariant_transformer(config: OrbitalNetworkConfig) -> nn.Module:
    return EquivariantTransformer(
        config.features, config.layers, config.heads, config.cutoff_bohr, config.nradial
    )


#: What makes each backbone.
BACKBONES: dict[str, Callable[[OrbitalNetworkConfig], nn.Module]] = {
    "et": _equivariant_transformer,
    "painn": _PaiNN,
}


class OrbitalTokens(nn.Module):
    """Tokens of all orbitals of a batch.

    Args:
        basis: names the shells of every element.
        elements: atomic numbers.
        config: of the network.
    """

    ndrawn: Tensor

    def __init__(self, basis: str, elements: tuple[int, ...], config: OrbitalNetworkConfig) -> None:
        super().__init__()
        self.basis, self.elements = basis, elements
        width = config.features
        self.backbone = BACKBONES[config.backbone](config)
        self.mixing = nn.Linear(4 * width, width)
        self.shells = nn.Embedding(len(self._shell_index), width)
        highest = max(angular for _, _, angular in self._shell_index)
        self.components = nn.Embedding((highest + 1) ** 2, width)
        self.random = config.frame == "random"
        if self.random:
            # how many batches have been turned: a run that goes on draws what it would have drawn
            self.register_buffer("ndrawn", torch.zeros((), dtype=torch.long))

    @cached_property
    def _shell_index(self) -> dict[tuple[int, int, int], int]:
        """A number for every (element, shell, l)."""
        shells = [
            (number, shell, angular)
            for number in self.elements
            for shell, angular in enumerate(element_basis(self.basis, number).angular_momenta)
        ]
        return {shell: index for index, shell in enumerate(shells)}

    def _indices(self, molecule: Molecule, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Atom, shell and component of every orbital, PySCF's order."""
        rows = [
            (atom, self._shell_index[number, shell, angular], angular**2 + component)
            for atom, number in enumerate(molecule.numbers)
            for shell, angular in enumerate(element_basis(self.basis, number).angular_momenta)
            for component in range(2 * angular + 1)
        ]
        atoms, shells, components = torch.tensor(rows, device=device).unbind(1)
        return atoms, shells, components

    def _frame(self, geometry: Geometry) -> Frame:
        trained = self.training and self.mixing.weight.requires_grad
        if not (self.random and trained):
            return Frame()
        self.ndrawn += 1
        rotations = random_rotations(len(geometry), int(self.ndrawn))
        return Frame.of(geometry.molecule, rotations.to(geometry.positions))

    def forward(
        self, geometries: Sequence[Geometry]
    ) -> list[tuple[Float[Tensor, "batch nao c"], Frame]]:
        """Tokens of several batches and the axes that they are written in."""
        scalars, vectors = self.backbone(build_graph(geometries))
        results = []
        start = 0
        for geometry in geometries:
            batch, natoms = geometry.positions.shape[:2]
            end = start + batch * natoms
            frame = self._frame(geometry)
            own_vectors = frame.vectors(vectors[start:end].unflatten(0, (batch, natoms)))
            own_scalars = scalars[start:end].unflatten(0, (batch, natoms))
            atoms, shells, components = self._indices(geometry.molecule, own_scalars.device)
            mixed = self.mixing(torch.cat([own_scalars, own_vectors.flatten(-2)], -1))
            tokens = (mixed[:, atoms] + self.shells(shells)) * self.components(components)
            results.append((tokens, frame))
            start = end
        return results
