"""What a calculator learns with: geometries that were asked for in, better weights out."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ase_srdft.common.elements import hill_formula
from ase_srdft.common.errors import LearningStopped, SamplingFailed, WorkerFailed
from ase_srdft.common.nuclei import Nuclei
from ase_srdft.learning.background_trainer import SHARE_OF_RATE, TrainerProcess
from ase_srdft.learning.bounded_trainer import BoundedTrainer
from ase_srdft.learning.learning_record import LearningRecord
from ase_srdft.learning.offers import Offer, Offers
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.sampling.config import EngineConfig
from ase_srdft.training.config import OptimiserConfig, SelectionConfig, TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.trainer import Trainer

__all__ = ["Learner", "Lesson"]

#: Training steps between new weights.
_TRAIN_STEPS = 8
#: Molecules that one trainer knows at most, and geometries that a new one is told of.
_MOST_MOLECULES, _REMEMBERED = 16, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """A geometry that a calculator has answered for.

    Attributes:
        nuclei: it.
        error: bracket of the model by itself (eV).
        seconds: that the answer took.
    """

    nuclei: Nuclei
    error: float
    seconds: float


class Learner:
    """Offers geometries to a trainer that begins with the first one worth it.

    It knows the molecules that were asked about.  With a further one it begins anew, from the
    newest weights.  A trainer that fails is given up with a warning: the answers do not need it.

    Args:
        runs: "beside" the driver, in a process of its own, or "in_turn" with it.
        good_enough: brackets (eV) that leave nothing to learn.
        coarse: whether the model is asked on the coarse grid; else on the level's own.
    """

    def __init__(self, runs: str, good_enough: float, coarse: bool) -> None:
        self.runs, self.coarse = runs, coarse
        self.offers = Offers(good_enough)
        self.trainer: BoundedTrainer | TrainerProcess | None = None
        self._molecules: list[Nuclei] = []
        self._taught: list[Offer] = []
        self._ngeometries = self._nsteps_before = 0
        self._given_up = False
        self._process = os.getpid()

    @property
    def record(self) -> LearningRecord:
        """What was learned from so far."""
        nsteps = 0 if self.trainer is None else self.trainer.nsteps
        return LearningRecord(
            molecules=tuple(hill_formula(each.numbers) for each in self._molecules),
            ngeometries=self._ngeometries,
            nsteps=self._nsteps_before + nsteps,
        )

    @property
    def is_mine(self) -> bool:
        """Whether this is the process that learns, and not a fork of it."""
        return self._process == os.getpid()

    def learn_from(self, lessons: Sequence[Lesson], model: ElectronicStateModel) -> None:
        """Take geometries in, and train if it is this process that does.

        Args:
            lessons: what was answered.
            model: that answered.

        Warns:
            LearningStopped: the trainer has failed.
        """
        if self._given_up or not self.is_mine:
            return
        known = [each for each in lessons if not set(each.nuclei.numbers) - set(model.elements)]
        good = [each for each in known if self.offers.consider(each.nuclei, each.error)]
        try:
            if self._know(each.nuclei for each in good) or (good and self.trainer is None):
                self._begin(model)
            self._teach()
            if isinstance(self.trainer, BoundedTrainer):
                wide = [each for each in lessons if each.error > self.offers.good_enough]
                self.trainer.work(sum(each.seconds for each in wide))  # a good model may rest
        except (FloatingPointError, SamplingFailed, WorkerFailed) as err:
            self._give_up(err)

    def newest(self) -> ElectronicStateModel | None:
        """The newest model; None if there is none newer than the one given last.

        Warns:
            LearningStopped: the trainer has failed.
        """
        if self.trainer is None or not self.is_mine:
            return None
        try:
            return self.trainer.newest()
        except (SamplingFailed, WorkerFailed) as err:
            self._give_up(err)
            return None

    def close(self) -> None:
        """End the trainer; idempotent.  A fork leaves it to the process that it came from."""
        if self.trainer is not None and self.is_mine:
            self._nsteps_before += self.trainer.nsteps
            self.trainer.stop()
            self.trainer = None

    def _give_up(self, error: Exception) -> None:
        self._given_up = True
        self.close()
        warnings.warn(
            f"the calculator learns no more ({error}); its answers keep their promise, "
            "and come as fast as they do now",
            LearningStopped,
            stacklevel=2,
        )

    def _know(self, every: Iterable[Nuclei]) -> bool:
        """Note the molecules; whether there is a new one."""
        news = False
        for nuclei in every:
            if self._index(nuclei) is None and len(self._molecules) < _MOST_MOLECULES:
                self._molecules.append(nuclei)
                news = True
        return news

    def _index(self, nuclei: Nuclei) -> int | None:
        """Which of the molecules it is; None if it is none of them."""
        kinds = [(each.numbers, each.charge) for each in self._molecules]
        kind = (nuclei.numbers, nuclei.charge)
        return kinds.index(kind) if kind in kinds else None

    def _begin(self, model: ElectronicStateModel) -> None:
        """A trainer for the molecules, from these weights; it is told what an earlier one was."""
        self.close()
        model = copy.deepcopy(model)
        device = str(next(model.parameters()).device)
        config = _settings(model, device, self.coarse)
        dataset = Dataset(
            compositions=tuple(each.numbers for each in self._molecules),
            charges=tuple(each.charge for each in self._molecules),
            references=tuple(each.positions for each in self._molecules),
            frames=(),
        )
        if self.runs == "in_turn":
            self.trainer = BoundedTrainer(Trainer(config, dataset, model), _TRAIN_STEPS)
        else:
            self.trainer = TrainerProcess(config, dataset, model, _TRAIN_STEPS, pretrains=False)
        self.trainer.start()
        for offer in self._taught:
            self._tell(offer)

    def _teach(self) -> None:
        """Give the trainer the widest of those that wait, as many as it has room for."""
        while self.trainer is not None and self.trainer.has_room:
            offer = self.offers.widest()
            if offer is None:
                return
            if self._tell(offer):
                self._ngeometries += 1
                self._taught = [*self._taught, offer][-_REMEMBERED:]

    def _tell(self, offer: Offer) -> bool:
        index = self._index(offer.nuclei)
        if self.trainer is None or index is None:
            return False
        self.trainer.learn_from(offer.nuclei.positions, index)
        return True


def _settings(model: ElectronicStateModel, device: str, coarse: bool) -> TrainingConfig:
    """Of training that has no end, and that nothing waits for."""
    # the molecules have charges of their own
    level = replace(model.level, charge=0) if model.level_free else model.level
    return TrainingConfig(
        level=level,
        optimiser=OptimiserConfig(learning_rate=SHARE_OF_RATE * model.learning_rate),
        selection=SelectionConfig(exponent=1.0),
        # the driver does the sampling
        engine=EngineConfig(name="sync"),
        pretraining_frames=16,
        validation_frames=1,
        memory_gb=1.0,
        coarse_share=1.0 if coarse else 0.0,
        device=device,
    )
