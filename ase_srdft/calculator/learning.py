"""Whether a calculator learns, and from what."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path

from ase.calculators.calculator import InputError

from ase_srdft.calculator.answer_memory import Answer
from ase_srdft.calculator.model_runner import ModelRunner
from ase_srdft.calculator.parameters import as_ase_error
from ase_srdft.common.errors import NothingLearned
from ase_srdft.common.nuclei import Nuclei
from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.dft.kernels.library import computing_threads
from ase_srdft.learning.learner import Learner, Lesson
from ase_srdft.learning.learning_record import LearningRecord
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.electronic_structure import ElectronicStructure
from ase_srdft.models.model_file import save_model
from ase_srdft.models.shipped_models import UNTRAINED

__all__ = ["Learning"]

#: Brackets (eV) of a model by itself that leave nothing to learn, unless more is promised.
_GOOD_ENOUGH = 1.0e-3


class Learning:
    """Off to begin with; what it learns with ends with it.

    Attributes:
        start: name of the model that it began from.
    """

    def __init__(self) -> None:
        self.start = UNTRAINED
        self._runs: str | None = None
        self._paused = False
        self._learner: Learner | None = None
        self._ending: weakref.finalize[..., Learning] | None = None
        self._before = LearningRecord()

    @property
    def is_on(self) -> bool:
        """Whether geometries are learned from now."""
        return self._runs is not None and not self._paused

    @property
    def record(self) -> LearningRecord:
        """What was learned from so far."""
        return self._before if self._learner is None else self._before + self._learner.record

    @property
    def past(self) -> Learning:
        """For a copy of the model: it knows what was learned, and is off."""
        other = Learning()
        other.start, other._before = self.start, self.record
        return other

    def begin_from(self, model: str) -> None:
        """Have another model, of which nothing was learned here.

        Args:
            model: its name.
        """
        self.close()
        self.start, self._before = model, LearningRecord()

    def switch(self, learn: bool | str) -> None:
        """On, off or to a pause (``learn`` of a calculator)."""
        self._paused = learn == "pause"
        if self._paused:
            return
        runs = "beside" if learn is True else learn or None
        if runs != self._runs:
            self.close()
        self._runs = None if runs is None else str(runs)

    def newest(self) -> ElectronicStateModel | None:
        """New weights; None if there are none, or none are to be taken."""
        return self._learner.newest() if self.is_on and self._learner is not None else None

    def learn_from(
        self, nuclei: Sequence[Nuclei], answers: Sequence[Answer], runner: ModelRunner
    ) -> None:
        """Take in geometries that were answered for.

        Raises:
            InputError: a device that cannot be trained on.
        """
        if not self.is_on or not answers:
            return
        if self._learner is None:
            self._learner = self._new_learner(runner)
        lessons = [
            Lesson(nuclei=each, error=_own_error(state), seconds=runner.seconds / len(answers))
            for each, (_, state, _) in zip(nuclei, answers, strict=True)
        ]
        with as_ase_error(), computing_threads(1):
            self._learner.learn_from(lessons, runner.model)

    def _new_learner(self, runner: ModelRunner) -> Learner:
        assert self._runs is not None
        promised = 0.0 if runner.promise is None else EV_PER_HARTREE * runner.promise.error
        learner = Learner(self._runs, max(_GOOD_ENOUGH, promised), coarse=runner.corrects)
        self._ending = weakref.finalize(self, learner.close)
        return learner

    def save(self, path: str | Path, model: ElectronicStateModel | None) -> None:
        """Write a model with what it learned from.

        Args:
            path: of the file.
            model: to write, if there is one.

        Raises:
            InputError: there is none, or the path cannot be written to.

        Warns:
            NothingLearned: learning is on, and there was no training step yet.
        """
        if model is None:
            raise InputError("there is no model yet: ask for an energy first, or name a model")
        with as_ase_error():
            save_model(path, model, self.record.of_file(model, self.start))
        if self._runs is not None and self.record.nsteps == 0:
            warnings.warn(
                f"nothing was learned yet: {path} has the weights of {self.start}; go on for "
                "longer, or with learn='in_turn'",
                NothingLearned,
                stacklevel=3,
            )

    def close(self) -> None:
        """End the trainer; the next geometry begins another, if learning is on."""
        if self._learner is not None and self._ending is not None:
            self._ending()
            self._before, self._learner = self.record, None


def _own_error(state: ElectronicStructure) -> float:
    """Bracket (eV) of the model by itself."""
    record = state.correction
    width = state.energy - state.energy_lower if record is None else record.start_width
    return EV_PER_HARTREE * width
