"""A model at work for a calculator: structures of ASE in, results in ASE's units out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, InputError
from torch import Tensor

from ase_srdft.calculator.parameters import as_ase_error, own_copy
from ase_srdft.common.devices import torch_device
from ase_srdft.common.errors import BadInput, DegenerateState
from ase_srdft.common.nuclei import Nuclei
from ase_srdft.common.torch_state import seeded, undisturbed
from ase_srdft.common.units import (
    ANGSTROM_PER_BOHR,
    E_ANGSTROM_PER_ATOMIC_DIPOLE,
    EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
    EV_PER_HARTREE,
)
from ase_srdft.dft.dipole_moment import dipole_moment
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.electronic_structure import ElectronicStructure, electronic_structures
from ase_srdft.models.model_file import build_model
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.models.single_point_result import SinglePointResult

__all__ = ["Answer", "ModelRunner", "naming"]

#: The results under ASE's names and in its units, and the electrons in atomic ones.
Answer = tuple[dict[str, Any], ElectronicStructure]

_MAX_MOLECULES = 16


@contextmanager
def naming(index: int, images: Sequence[Atoms]) -> Iterator[None]:
    """Let an error say which of several images it is about."""
    try:
        yield
    except (CalculationFailed, InputError) as err:
        if len(images) == 1:
            raise
        raise type(err)(f"image {index}: {err}") from err


class ModelRunner:
    """A model on a device, and the tables of the last molecules it met.

    Args:
        model: double precision.
        device: where it goes.
    """

    def __init__(self, model: ElectronicStateModel, device: torch.device) -> None:
        self.model = model.to(device)
        self.device = device
        self._molecules: dict[tuple[int, ...], Molecule] = {}

    @undisturbed
    def __reduce__(self) -> tuple[Any, ...]:
        # weights and how to build around them, no objects of other libraries: those need
        # not be importable where this is read, and the tables are made anew when needed
        own = self.model
        weights = {name: tensor.cpu().clone() for name, tensor in own.state_dict().items()}
        blueprint = (own.family, own.level, own.elements, asdict(own.config))
        return _restored, (blueprint, weights, str(self.device))

    def fits(self, model: ElectronicStateModel) -> bool:
        """Whether a model differs from this one by its weights alone."""
        own = self.model
        return type(model) is type(own) and all(
            getattr(model, name) == getattr(own, name) for name in ("level", "elements", "config")
        )

    def evaluate(
        self, images: Sequence[Atoms], nuclei: Sequence[Nuclei], forces: bool, batch_size: int
    ) -> list[Answer]:
        """Answers for structures of any composition, in order; those of one are batched.

        Args:
            images: the structures; their masses set the origin of an ion's dipole.
            nuclei: of each image.
            forces: whether to compute them.
            batch_size: how many at once.

        Raises:
            InputError: an open shell, an unknown basis, or a ``batch_size`` below one.
            CalculationFailed: atoms too close together, forces where the frontier orbitals are
                degenerate, or a result that is not finite.

        Warns:
            DegenerateState: an energy of such a state.
        """
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size}: use at least 1")
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, each in enumerate(nuclei):
            groups.setdefault(each.numbers, []).append(index)
        answers: dict[int, Answer] = {}
        for members in groups.values():
            for start in range(0, len(members), batch_size):
                batch = members[start : start + batch_size]
                found = self._together(images, nuclei, batch, forces)
                answers.update(zip(batch, found, strict=True))
        return [answers[index] for index in range(len(images))]

    def _together(
        self,
        images: Sequence[Atoms],
        nuclei: Sequence[Nuclei],
        batch: Sequence[int],
        forces: bool,
    ) -> list[Answer]:
        """Answers for images of one composition; one by one where not all have an answer."""
        try:
            return self._batch([images[i] for i in batch], [nuclei[i] for i in batch], forces)
        except CalculationFailed:
            answers = []
            for index in batch:
                with naming(index, images):
                    answers += self._batch([images[index]], [nuclei[index]], forces)
            return answers

    def _batch(
        self, images: Sequence[Atoms], nuclei: Sequence[Nuclei], forces: bool
    ) -> list[Answer]:
        molecule = self._molecule(nuclei[0].numbers)
        bohr = np.stack([each.positions for each in nuclei])
        positions = torch.as_tensor(bohr, device=self.device)
        try:
            evaluation = single_point(self.model, molecule, positions, forces)
        except (BadInput, torch.linalg.LinAlgError) as err:  # type: ignore[attr-defined]
            raise CalculationFailed(str(err)) from err
        states = electronic_structures(evaluation)
        return [
            (_results(atoms, evaluation, index, state), state)
            for index, (atoms, state) in enumerate(zip(images, states, strict=True))
        ]

    def _molecule(self, numbers: tuple[int, ...]) -> Molecule:
        if numbers not in self._molecules:
            with as_ase_error():
                molecule = molecule_of(self.model, numbers)
                _ = molecule.provider  # an unknown auxiliary basis shows here
            if len(self._molecules) >= _MAX_MOLECULES:
                self._molecules.pop(next(iter(self._molecules)))
            self._molecules[numbers] = molecule
        return self._molecules[numbers]


@undisturbed
def _restored(blueprint: tuple[Any, ...], weights: dict[str, Tensor], device: str) -> ModelRunner:
    with seeded():
        model = own_copy(build_model(*blueprint))
    model.load_state_dict(weights)
    return ModelRunner(model, torch_device(device))


def _results(
    atoms: Atoms, evaluation: SinglePointResult, index: int, state: ElectronicStructure
) -> dict[str, Any]:
    molecule = evaluation.geometry.molecule
    # the origin matters for ions only
    centre = atoms.get_center_of_mass() if molecule.level.charge else atoms.positions.mean(axis=0)
    positions = (atoms.positions - centre) / ANGSTROM_PER_BOHR
    moment = dipole_moment(molecule, positions, state.density_matrix)
    energy = state.energy * EV_PER_HARTREE
    results: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "dipole": moment * E_ANGSTROM_PER_ATOMIC_DIPOLE,
    }
    if evaluation.forces is not None:
        atomic = evaluation.forces[index].cpu().numpy()
        results["forces"] = atomic * EV_PER_ANGSTROM_PER_ATOMIC_FORCE
    degeneracy = evaluation.degeneracy(index)
    if degeneracy is not None and evaluation.forces is not None:
        raise CalculationFailed(
            f"no forces: {degeneracy}; distort the structure, or ask for the energy alone"
        )
    if degeneracy is not None:
        warnings.warn(
            f"an energy that hangs on rounding: {degeneracy}; it is an upper bound of the SCF "
            "energy, but nothing to compare with its neighbours",
            DegenerateState,
            stacklevel=2,
        )
    broken = [name for name, value in results.items() if not np.isfinite(value).all()]
    if broken:
        raise CalculationFailed(
            f"the {broken[0]} of {atoms.get_chemical_formula()} is not finite: check the geometry "
            "and the model"
        )
    return results
