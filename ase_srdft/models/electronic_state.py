"""What every electronic-state model returns, and the families found by name."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.common.errors import BadInput
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector

__all__ = ["FAMILIES", "ElectronicState", "ElectronicStateModel", "family", "register"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ElectronicState:
    """Occupied orbitals of a batch of geometries of one molecule.

    Attributes:
        density_matrix: P, spin-summed, differentiable in the weights and the nuclei.
        mo_coeff: orbitals in columns, the occupied ones first; C^T S C = 1; detached.
        mo_energy: the model's orbital energies (Hartree); detached; None where it predicts
            orbitals without a Hamiltonian.
    """

    density_matrix: Float[Tensor, "batch nao nao"]
    mo_coeff: Float[Tensor, "batch nao nao"]
    mo_energy: Float[Tensor, "batch nao"] | None

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        projector: Float[Tensor, "batch nao nao"],
        orbitals: Float[Tensor, "batch nao nao"],
        mo_energy: Float[Tensor, "batch nao"] | None = None,
    ) -> ElectronicState:
        """From the occupied projector and the orbitals in Loewdin's basis."""
        return cls(
            density_matrix=geometry.density_matrix(projector),
            mo_coeff=geometry.orthogonaliser.detach() @ orbitals,
            mo_energy=mo_energy,
        )

    @classmethod
    def aufbau(cls, geometry: Geometry, fock: Float[Tensor, "batch nao nao"]) -> ElectronicState:
        """The lowest eigenvectors of a Fock matrix (Hartree, atomic-orbital basis)."""
        orthogonal, nocc = geometry.orthogonal(fock), geometry.molecule.nocc
        projector, energies, vectors = occupied_projector(orthogonal, nocc)
        return cls.of(geometry, projector, vectors, energies)


#: Of the family's learning rate, for weights that are good already, which the whole may undo.
_FINE_TUNING_SHARE = 0.125


class ElectronicStateModel(nn.Module):
    """A family of maps from nuclei to orthonormal occupied orbitals.

    Subclasses set ``family`` and ``Config`` (a frozen dataclass with plain values) and are
    registered by :func:`register`.

    Attributes:
        level: of theory, that it is asked at.
        default_level: that it is asked at where none is named; the one it was made for.
        guess: what :class:`ase_srdft.dft.molecule.Molecule` shall prepare for it.
        learning_rate: the highest, that suits fresh weights of the family; training takes it where
            none is asked for (`OptimiserConfig.learning_rate`).
        potential_basis: auxiliary basis that it expands a potential in; None if it predicts none.
        level_free: whether its weights belong to no level of theory: it is trained at some, and
            can be asked at any.

    Args:
        level: level of theory; of a level-free model the one that it is asked at by default.
        elements: atomic numbers it knows, sorted.
        config: the family's configuration.
    """

    family: ClassVar[str]
    Config: ClassVar[type]
    learning_rate: ClassVar[float] = 1.0e-2
    potential_basis: ClassVar[str | None] = None
    level_free: ClassVar[bool] = False
    guess: str

    def __init__(self, level: LevelOfTheory, elements: tuple[int, ...], config: Any) -> None:
        super().__init__()
        self.level = self.default_level = level
        self.elements = tuple(sorted(set(elements)))
        self.config = config

    @property
    def fine_tuning_rate(self) -> float:
        """The highest learning rate for weights that are good already."""
        return _FINE_TUNING_SHARE * self.learning_rate

    def forward(self, geometries: Sequence[Geometry]) -> list[ElectronicState]:
        """States of several batches, each of its own molecule, in one evaluation."""
        raise NotImplementedError

    def hamiltonian(self, geometries: Sequence[Geometry]) -> list[Float[Tensor, "batch nao nao"]]:
        """The predicted Fock matrix (Hartree) of each batch, in the atomic-orbital basis.

        Differentiable in the weights.

        Raises:
            BadInput: the family predicts orbitals without one.
        """
        raise BadInput(
            f"the family {self.family!r} predicts no Hamiltonian: use one that does ('potential' "
            "or 'fock'), or the loss 'energy'"
        )

    @property
    def predicts_hamiltonian(self) -> bool:
        """Whether there is a :meth:`hamiltonian`."""
        return type(self).hamiltonian is not ElectronicStateModel.hamiltonian

    def at_level(self, level: LevelOfTheory) -> ElectronicStateModel:
        """The same weights, asked at another level of theory.

        Raises:
            BadInput: the weights do not belong to it.
        """
        self.check_level(level)
        other = copy.copy(self)
        other.level = level
        return other

    def check_level(self, level: LevelOfTheory) -> None:
        """Refuse a level of theory that the weights do not belong to; grids are free.

        Raises:
            BadInput: naming both levels.
        """
        if self.level_free or replace(level, grid_level=self.level.grid_level) == self.level:
            return
        raise BadInput(
            f"the level of theory {level} with charge {level.charge}, but the model was trained "
            f"at {self.level} with charge {self.level.charge}, and its family {self.family!r} is "
            "tied to functional, basis, density fitting and charge: use another model, or train one"
        )

    def with_elements(self, elements: tuple[int, ...]) -> ElectronicStateModel:
        """A model of the same weights that knows other elements besides; theirs are random.

        Raises:
            BadInput: the family cannot.
        """
        self.check_elements(elements)
        return self

    def check_elements(self, numbers: tuple[int, ...]) -> None:
        """Refuse a molecule with elements that the model does not know.

        Raises:
            BadInput: naming the elements on both sides.
        """
        unknown = self.unknown_elements(numbers)
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.elements)
            raise BadInput(
                f"the model does not know {', '.join(unknown)}: it knows {known}; "
                "train one with structures that contain these elements"
            )

    def unknown_elements(self, numbers: tuple[int, ...]) -> list[str]:
        """Symbols of the elements of a molecule that the model does not know."""
        return [chemical_symbols[z] for z in sorted(set(numbers) - set(self.elements))]


#: Families that come with the package, each in the module of its name.
FAMILIES = {
    "fock": "ase_srdft.models.fock.fock_model",
    "potential": "ase_srdft.models.potential.potential_model",
    "coefficient": "ase_srdft.models.orbital_tokens.coefficient_model",
    "qpt": "ase_srdft.models.orbital_tokens.qpt_model",
}
_FAMILIES: dict[str, type[ElectronicStateModel]] = {}


def register(cls: type[ElectronicStateModel]) -> type[ElectronicStateModel]:
    """Class decorator: make a family known by its name."""
    _FAMILIES[cls.family] = cls
    return cls


def family(name: str) -> type[ElectronicStateModel]:
    """The class of a family.

    Raises:
        BadInput: no such family.
    """
    if name in FAMILIES:
        import_module(FAMILIES[name])  # registers itself
    if name not in _FAMILIES:
        known = ", ".join(sorted({*FAMILIES, *_FAMILIES}))
        raise BadInput(f"unknown model family {name!r}: use one of {known}")
    return _FAMILIES[name]
