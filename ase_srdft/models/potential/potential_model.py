"""The potential family: F_theta(R) = F_guess(R) + sum_Q u_Q (mn|Q), occupied orbitals by aufbau.

u_Q are the coefficients of a potential in auxiliary functions on the atoms, of l up to 2, made
from rotation-equivariant features; zero at initialisation.  No basis set is in the weights: they
are asked at any.  The network is given the nuclei and what the guess knows of the electrons: the
Coulomb potential and the fitted density of the changes that its aufbau state brings
(:func:`ase_srdft.dft.guess_fock.guess_changes`), and the fraction of exact exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.checks import require_at_least, require_positive
from ase_srdft.common.errors import BadInput
from ase_srdft.dft.fitted_density import potential_matrix
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel, register
from ase_srdft.models.layers.atom_graph import build_graph
from ase_srdft.models.layers.atom_head import AtomHead
from ase_srdft.models.layers.so3net import Backbone
from ase_srdft.models.layers.spherical_tensors import component_slice
from ase_srdft.models.potential.auxiliary_layout import (
    ATOM_LMAX,
    AuxiliaryLayout,
    auxiliary_layout,
    functions_per_momentum,
)

__all__ = ["PotentialConfig", "PotentialModel"]

#: Brings what is read to order one.
_READING_SCALE = 3.0
#: Densities that each guess is made of, so many changes are read.
_NCHANGES = {"companion": 2, "roothaan": 2, "minao": 1}


@dataclass(frozen=True, kw_only=True)
class PotentialConfig:
    """Configuration of the potential family.

    Attributes:
        features: channels of the backbone and the head.
        layers: interaction layers.
        cutoff_bohr: range of messages (Bohr).
        nradial: radial basis functions.
        guess: guess Fock matrix, ``companion``, ``roothaan`` or ``minao``.
    """

    features: int = 64
    layers: int = 3
    cutoff_bohr: float = 12.0
    nradial: int = 24
    guess: str = "companion"

    def __post_init__(self) -> None:
        if self.guess not in _NCHANGES:
            raise BadInput(
                f"guess {self.guess!r}: the family 'potential' starts from {', '.join(_NCHANGES)}"
            )
        require_positive(self, "features", "layers", "cutoff_bohr")
        require_at_least(2, self, "nradial")  # which have a width


class ElementLinear(nn.Module):
    """A linear map of the channels for each l and element, no matter the component.

    Args:
        nelements: of the model.
        inputs: channels.
        outputs: channels.
        zero: whether it begins with zeros.
    """

    def __init__(self, nelements: int, inputs: int, outputs: int, zero: bool = False) -> None:
        super().__init__()
        shape = (ATOM_LMAX + 1, nelements, inputs, outputs)
        start = torch.zeros(shape) if zero else torch.randn(shape) / inputs**0.5
        self.weight = nn.Parameter(start)

    def forward(
        self,
        x: Float[Tensor, "natoms ncomponents inputs"],
        elements: Float[Tensor, "natoms nelements"],
    ) -> Float[Tensor, "natoms ncomponents outputs"]:
        """Each atom by the weights of its element.

        Args:
            x: tensors.
            elements: which element each atom is, as a row of the unit matrix.
        """
        nelements, inputs, outputs = self.weight.shape[1:]
        mapped = []
        for angular in range(ATOM_LMAX + 1):
            own = x[:, component_slice(angular)]
            if inputs < outputs:  # spread the smaller side over the elements
                spread = own[:, :, None] * elements[:, None, :, None]
                mapped.append(spread.flatten(2) @ self.weight[angular].flatten(0, 1))
            else:
                every = own @ self.weight[angular].transpose(0, 1).flatten(1)
                every = every.unflatten(2, (nelements, outputs))
                mapped.append((every * elements[:, None, :, None]).sum(2))
        return torch.cat(mapped, 1)


@register
class PotentialModel(ElectronicStateModel):
    """Occupied orbitals as the lowest eigenvectors of a guess in a predicted potential."""

    family = "potential"
    Config = PotentialConfig
    potential_basis = "def2-universal-jfit"
    level_free = True

    def __init__(
        self, level: LevelOfTheory, elements: tuple[int, ...], config: PotentialConfig
    ) -> None:
        super().__init__(level, elements, config)
        self.guess = config.guess
        features, nelements = config.features, len(self.elements)
        self.width = functions_per_momentum(self.potential_basis, self.elements)
        self.backbone = Backbone(
            features, config.layers, ATOM_LMAX, config.cutoff_bohr, config.nradial
        )
        self.head = AtomHead(features, ATOM_LMAX)
        nread = 2 * _NCHANGES[config.guess] * self.width
        # one half for the backbone to start from, one for the head
        self.reading = ElementLinear(nelements, nread, 2 * features)
        self.writing = ElementLinear(nelements, features, self.width, zero=True)
        self.exchange = nn.Parameter(torch.zeros(nelements, 2 * features))

    def with_elements(self, elements: tuple[int, ...]) -> PotentialModel:
        """A model of the same weights that knows other elements besides; theirs are random."""
        other = PotentialModel(self.level, tuple({*self.elements, *elements}), self.config)
        other = other.to(self.exchange)
        rows = [other.elements.index(number) for number in self.elements]
        own, theirs = self.state_dict(), other.state_dict()
        for name, dim in (("reading.weight", 1), ("writing.weight", 1), ("exchange", 0)):
            grown = theirs[name]
            fits = [slice(size) for size in own[name].shape]
            fits[dim] = rows  # type: ignore[call-overload]
            grown[tuple(fits)] = own[name]
            own[name] = grown
        other.load_state_dict(own)
        return other

    def coefficients(self, geometries: Sequence[Geometry]) -> list[Float[Tensor, "batch naux"]]:
        """u_theta(R) (Hartree) of each batch, float64."""
        graph = build_graph(geometries)
        basis = self.backbone.pair_basis(graph)
        dtype = basis.radial.dtype
        layouts = [self._layout(geometry) for geometry in geometries]
        elements = torch.cat(
            [own.elements.repeat(len(g), 1) for own, g in zip(layouts, geometries, strict=True)]
        ).to(dtype)
        read = self.reading(self._readings(geometries, layouts).to(dtype), elements)
        read = read + self._exact_exchange(geometries, elements)
        start, beside = read.chunk(2, -1)
        features = self.backbone(graph, basis, start)
        tensors, _ = self.head(features, (beside, torch.zeros_like(beside)))
        written = self.writing(tensors, elements).to(torch.float64)
        sizes = [len(geometry) * geometry.molecule.natoms for geometry in geometries]
        return [
            layout.coefficients(own.unflatten(0, (len(geometry), -1)))
            for layout, own, geometry in zip(layouts, written.split(sizes), geometries, strict=True)
        ]

    def _layout(self, geometry: Geometry) -> AuxiliaryLayout:
        device = geometry.positions.device
        return auxiliary_layout(geometry.molecule, self.elements, self.width, device)

    def _readings(
        self, geometries: Sequence[Geometry], layouts: Sequence[AuxiliaryLayout]
    ) -> Float[Tensor, "natoms ncomponents channels"]:
        """What the guess knows, atom by atom."""
        readings = []
        for geometry, layout in zip(geometries, layouts, strict=True):
            assert geometry.guess_changes is not None
            readings.append(layout.read(_READING_SCALE * geometry.guess_changes).flatten(0, 1))
        return torch.cat(readings)

    def _exact_exchange(
        self, geometries: Sequence[Geometry], elements: Tensor
    ) -> Float[Tensor, "natoms ncomponents channels"]:
        """What the fraction of exact exchange adds to what is read, to its scalars."""
        fractions = torch.cat(
            [
                elements.new_full(
                    (len(g) * g.molecule.natoms, 1), g.molecule.level.functional.exact_exchange
                )
                for g in geometries
            ]
        )
        scalars = (fractions * (elements @ self.exchange))[:, None]
        return nn.functional.pad(scalars, (0, 0, 0, (ATOM_LMAX + 1) ** 2 - 1))

    def hamiltonian(self, geometries: Sequence[Geometry]) -> list[Float[Tensor, "batch nao nao"]]:
        """F_guess + sum_Q u_Q (mn|Q) (Hartree) of each batch."""
        return [
            geometry.guess_fock + potential_matrix(geometry.integrals, coefficients)
            for geometry, coefficients in zip(
                geometries, self.coefficients(geometries), strict=True
            )
        ]

    def forward(self, geometries: Sequence[Geometry]) -> list[ElectronicState]:
        """States of several batches in one evaluation of the network."""
        every = zip(geometries, self.hamiltonian(geometries), strict=True)
        return [ElectronicState.aufbau(geometry, fock) for geometry, fock in every]
