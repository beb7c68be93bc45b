"""A model at work for a calculator: structures of ASE in, results in ASE's units out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, InputError, SCFError
from torch import Tensor

from ase_srdft.calculator.answer_memory import Answer, AnswerMemory, Key
from ase_srdft.calculator.ase_results import ase_results
from ase_srdft.calculator.parameters import as_ase_error, check_nuclei, own_copy
from ase_srdft.common.devices import torch_device
from ase_srdft.common.elements import hill_formula
from ase_srdft.common.errors import (
    BadInput,
    ReferenceNotConverged,
    UncertainAnswer,
    UnknownElement,
)
from ase_srdft.common.nuclei import Nuclei
from ase_srdft.common.torch_state import seeded, undisturbed
from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.dft.kernels.library import computing_threads
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.certified_single_point import (
    Promise,
    certified_single_point,
    open_certified_single_point,
)
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.electronic_structure import electronic_structures
from ase_srdft.models.model_file import build_model, model_checksum
from ase_srdft.models.open_single_point import OpenSinglePoint, open_single_point
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.models.single_point_result import SinglePointResult, concatenate_single_points
from ase_srdft.parallel.thread_map import ThreadMap

__all__ = ["ModelRunner", "naming"]

_MAX_MOLECULES = 16
#: Atomic numbers and charge.
_Kind = tuple[tuple[int, ...], int]


@contextmanager
def naming(index: int, images: Sequence[Atoms]) -> Iterator[None]:
    """Let an error say which of several images it is about."""
    try:
        yield
    except (CalculationFailed, InputError) as err:
        if len(images) == 1:
            raise
        raise type(err)(f"image {index}: {err}") from None


class ModelRunner:
    """A model on a device, what it answered last, and the tables of the last molecules it met.

    Args:
        model: double precision.
        device: where it goes.
        nthreads: for geometries first, and for the kernels where there are fewer of those.
        promise: what answers are to keep; None for the model's state as it is.
        on_uncertain: of ``ON_UNCERTAIN``, what to do where the model's state does not keep it.

    Attributes:
        version: of the model, which answers carry.
        seconds: that the last evaluation took.
    """

    def __init__(
        self,
        model: ElectronicStateModel,
        device: torch.device,
        nthreads: int = 1,
        promise: Promise | None = None,
        on_uncertain: str = "correct",
    ) -> None:
        self.model = model.to(device)
        self.promise, self.on_uncertain = promise, on_uncertain
        self.device = device
        self.threads = ThreadMap(nthreads)
        self.version, self.seconds = 0, 0.0
        self.memory = AnswerMemory()
        self._molecules: dict[_Kind, Molecule] = {}
        self._without_model: set[tuple[int, ...]] = set()
        self._checksum: str | None = None

    @undisturbed
    def __reduce__(self) -> tuple[Any, ...]:
        # weights and how to build around them, no objects of other libraries: those need
        # not be importable where this is read, and the tables are made anew when needed
        own = self.model
        weights = {name: tensor.cpu().clone() for name, tensor in own.state_dict().items()}
        blueprint = (own.family, own.default_level, own.elements, asdict(own.config))
        kept = (self.promise, self.on_uncertain)
        rest = (own.level, str(self.device), self.threads.nthreads, *kept)
        return _restored, (blueprint, weights, *rest)

    @property
    def corrects(self) -> bool:
        """Whether answers are corrected, so that they need not begin with the model's state."""
        return self.promise is not None and self.on_uncertain == "correct"

    def check(self, nuclei: Nuclei, trained: bool) -> None:
        """Refuse nuclei that cannot be answered for; warn where it has to be without the model.

        Args:
            nuclei: the molecule.
            trained: whether the model is; the state of one that is not is the guess's anyway.

        Raises:
            BadInput: a charge that the model does not know, or an element where nothing corrects.

        Warns:
            UnknownElement: once for each composition.
        """
        check_nuclei(nuclei, self.model, known=not self.corrects)
        unknown = self.model.unknown_elements(nuclei.numbers)
        if trained and unknown and nuclei.numbers not in self._without_model:
            self._molecule(nuclei)  # which may not exist at this level
            self._without_model.add(nuclei.numbers)
            warnings.warn(
                f"the model does not know {', '.join(unknown)}: {hill_formula(nuclei.numbers)} is "
                "answered from the guess, as well as ever, but more slowly; train the model with "
                "structures that contain these elements",
                UnknownElement,
                stacklevel=2,
            )

    @property
    def checksum(self) -> str:
        """Of the model, with the weights it has now."""
        if self._checksum is None:
            self._checksum = model_checksum(self.model)
        return self._checksum

    def fits(self, model: ElectronicStateModel) -> bool:
        """Whether a model differs from this one by its weights alone."""
        own = self.model
        return type(model) is type(own) and all(
            getattr(model, name) == getattr(own, name) for name in ("level", "elements", "config")
        )

    def take_weights(self, model: ElectronicStateModel) -> None:
        """Go on with the weights of a model that `fits`.

        What the old ones answered is forgotten, unless it keeps a promise whatever the weights:
        corrected states, and graphs through them, know nothing of the model.
        """
        if not self.corrects:
            self.memory.forget()
        self._checksum = None
        self.model.load_state_dict(model.state_dict())

    def answer(self, atoms: Atoms, nuclei: Nuclei, forces: bool) -> Answer:
        """The answer for one structure, computed once while it is remembered.

        Args:
            atoms: the structure; its masses set the origin of an ion's dipole.
            nuclei: its own.
            forces: whether they are wanted.

        Raises:
            InputError: as `evaluate`.
            CalculationFailed: likewise.

        Warns:
            DegenerateState: an energy of such a state.
        """
        key = _key(atoms, nuclei)
        known = self.memory.answer(key, forces)
        if known is not None:
            return known
        started, kept = time.perf_counter(), self.memory.take_graph(key)
        with self._failing(), computing_threads(self.threads.share(1)):
            if kept is None:
                graph = forces or self.memory.keeps_graphs
                kept = self._opened(*self._asked([nuclei]), graph)
            evaluation = kept.with_forces() if forces else kept.result
        if key not in self.memory:  # else it was said of the energy
            self._check(evaluation)
        (answer,) = self._answers([atoms], evaluation)
        self.seconds = time.perf_counter() - started
        if evaluation.degeneracy(0) is None:
            self.memory.keep(key, answer, None if forces or not kept.has_graph else kept)
        return answer

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
        started = time.perf_counter()
        groups: dict[_Kind, list[int]] = {}
        for index, each in enumerate(nuclei):
            groups.setdefault((each.numbers, each.charge), []).append(index)
        answers: dict[int, Answer] = {}
        for members in groups.values():
            for start in range(0, len(members), batch_size):
                batch = members[start : start + batch_size]
                found = self._together(images, nuclei, batch, forces)
                answers.update(zip(batch, found, strict=True))
        self.seconds = time.perf_counter() - started
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
        model, molecule, positions = self._asked(nuclei)
        pieces = self.threads.slices(len(images))

        def work(piece: slice) -> SinglePointResult:
            with computing_threads(self.threads.share(len(pieces))):
                if self._corrected_to is None:
                    return single_point(model, molecule, positions[piece], forces)
                return certified_single_point(
                    model, molecule, positions[piece], self._corrected_to, forces
                )

        with self._failing():
            evaluation = concatenate_single_points(self.threads.map(work, pieces))
        self._check(evaluation)
        return self._answers(images, evaluation)

    def knows(self, atoms: Atoms, nuclei: Nuclei) -> bool:
        """Whether this geometry was answered for before: its version is settled."""
        return _key(atoms, nuclei) in self.memory

    def _answers(self, images: Sequence[Atoms], evaluation: SinglePointResult) -> list[Answer]:
        """Results, electrons and version of each geometry of an evaluation."""
        states = electronic_structures(evaluation)
        return [
            (ase_results(atoms, evaluation, index, state), state, self.version)
            for index, (atoms, state) in enumerate(zip(images, states, strict=True))
        ]

    @property
    def _corrected_to(self) -> Promise | None:
        """The promise that states are corrected to keep."""
        return self.promise if self.corrects else None

    def _opened(
        self, model: ElectronicStateModel, molecule: Molecule, positions: Tensor, graph: bool
    ) -> OpenSinglePoint:
        if self._corrected_to is None:
            return open_single_point(model, molecule, positions, graph)
        return open_certified_single_point(model, molecule, positions, self._corrected_to, graph)

    def _check(self, evaluation: SinglePointResult) -> None:
        """Say, or refuse, that a state does not keep the promise."""
        if self.promise is None:
            return
        width = EV_PER_HARTREE * float(evaluation.bracket.width.max())
        allowed = EV_PER_HARTREE * self.promise.error
        if width <= allowed:
            return
        formula = evaluation.geometry.molecule.formula
        if self.on_uncertain == "correct":
            message = (
                f"the SCF of {formula} has an occupied orbital above an empty one, so its bracket "
                f"of {width:.2g} eV (max_error={allowed:.2g} eV) is no measure of its error: "
                "closed shells may be no description of this geometry"
            )
        else:
            message = (
                f"the energy of {formula} may be {width:.2g} eV above the SCF, more than "
                f"max_error={allowed:.2g} eV: on_uncertain='correct' corrects it"
            )
        if self.on_uncertain == "raise":
            raise CalculationFailed(message)
        warnings.warn(message, UncertainAnswer, stacklevel=2)

    def _asked(self, nuclei: Sequence[Nuclei]) -> tuple[ElectronicStateModel, Molecule, Tensor]:
        """Whom to ask, about which molecule, and where its nuclei are (Bohr)."""
        bohr = np.stack([each.positions for each in nuclei])
        positions = torch.as_tensor(bohr, device=self.device)
        return self.model, self._molecule(nuclei[0]), positions

    @staticmethod
    @contextmanager
    def _failing() -> Iterator[None]:
        """Turn what can go wrong in an evaluation into ASE's error."""
        try:
            yield
        except ReferenceNotConverged as err:
            raise SCFError(str(err)) from None
        except BadInput as err:
            raise CalculationFailed(str(err)) from None
        except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as err:  # type: ignore[attr-defined]
            said = " ".join(str(err).split())
            raise CalculationFailed(
                f"an eigenvalue problem broke down ({said}): check the geometry and the model"
            ) from err

    def _molecule(self, nuclei: Nuclei) -> Molecule:
        kind = (nuclei.numbers, nuclei.charge)
        if kind not in self._molecules:
            level = replace(self.model.level, charge=nuclei.charge)
            with as_ase_error():
                known = not self.corrects
                molecule = molecule_of(self.model, nuclei.numbers, level, known)
                _ = molecule.provider  # an unknown auxiliary basis shows here
            if len(self._molecules) >= _MAX_MOLECULES:
                self._molecules.pop(next(iter(self._molecules)))
            self._molecules[kind] = molecule
        return self._molecules[kind]


@undisturbed
def _restored(
    blueprint: tuple[Any, ...],
    weights: dict[str, Tensor],
    level: LevelOfTheory,
    device: str,
    *settings: Any,
) -> ModelRunner:
    with seeded():
        model = own_copy(build_model(*blueprint))
    model.load_state_dict(weights)
    return ModelRunner(model.at_level(level), torch_device(device), *settings)


def _key(atoms: Atoms, nuclei: Nuclei) -> Key:
    """What an answer depends on, apart from the model; masses matter to the dipole of an ion."""
    masses = atoms.get_masses().tobytes() if nuclei.charge else b""
    return nuclei.numbers, nuclei.charge, atoms.positions.tobytes(), masses
