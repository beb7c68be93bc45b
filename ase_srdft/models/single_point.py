"""A model at given nuclei, in one call; the forces themselves are in `open_single_point`."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.open_single_point import open_single_point
from ase_srdft.models.single_point_result import SinglePointResult

__all__ = ["molecule_of", "single_point"]


def molecule_of(
    model: ElectronicStateModel,
    numbers: tuple[int, ...],
    level: LevelOfTheory | None = None,
    known: bool = True,
) -> Molecule:
    """The molecule with what the model starts from.

    Args:
        model: whose guess it is to have.
        numbers: atomic numbers.
        level: of theory, with the molecule's charge; None for the model's own.
        known: whether the model must know all of its elements; else the guess may have to do.

    Raises:
        BadInput: an element the model does not know, an open shell, or a level that the model's
            weights do not belong to.
    """
    level = level or model.level
    if known:
        model.check_elements(numbers)
    model.check_level(level)
    return Molecule(
        numbers=numbers,
        level=level,
        guess=model.guess,
        potential_basis=model.potential_basis,
    )


def single_point(
    model: ElectronicStateModel,
    molecule: Molecule,
    positions: Float[Tensor, "batch natoms 3"],
    forces: bool = True,
    grid_level: int | None = None,
) -> SinglePointResult:
    """Evaluate a model with fresh integrals.

    Args:
        model: gives the state.
        molecule: from :func:`molecule_of`.
        positions: nuclei (Bohr), float64, on the model's device.
        forces: whether to differentiate.
        grid_level: another grid than the level of theory's.

    Raises:
        BadInput: positions that are not finite, or atoms on top of each other.
    """
    opened = open_single_point(model, molecule, positions, forces, grid_level)
    return opened.with_forces() if forces else opened.result
