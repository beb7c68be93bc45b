"""A trainer that gets geometries from a simulation and gives better weights to it.

`InlineTrainer` trains in this process whenever it gets a geometry: the oracle.  `TrainerProcess`
trains in a process of its own, all the time, while the simulation goes on.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ase_srdft.common.errors import SamplingFailed, WorkerFailed
from ase_srdft.learning.trainer_orders import TrainerOrders
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.single_point import molecule_of
from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.parallel.worker_process import WorkerProcess
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import StepRecord
from ase_srdft.training.trainer import Trainer

__all__ = ["SHARE_OF_RATE", "WITHOUT_NEWS", "InlineTrainer", "TrainerProcess", "pretrain"]

#: Of the family's learning rate, which is for a schedule that lowers it.
SHARE_OF_RATE = 0.5
#: Times ``train_steps`` that are trained without a new geometry: beyond that, a simulation
#: that pauses would be overfitted.
WITHOUT_NEWS = 10
#: Training steps after which a start that is still not safe is given up.
LONGEST_PRETRAINING = 5000
#: Steps of pre-training between checks whether the bracket is safe.
_PRETRAINING_CHECK_INTERVAL = 25
#: Geometries that wait for the trainer at most; those of the meantime are left out.
_MOST_WAITING = 32
#: Geometries that a new trainer process is given, if one died.
_REMEMBERED = 256
_PAUSE_SECONDS = 0.02


def pretrain(
    trainer: Trainer, sign_of_life: Callable[[], None] = lambda: None
) -> StepRecord | None:
    """Train on thermal copies until the bracket is safe; a good model needs none of it.

    What follows has no end that the share of the coarse grid could be counted from.  So this is on
    the coarse grid, and what comes after on the level's own, whose energy the dynamics sees and
    whose bracket is to narrow: the minimum on the coarse one is another.

    Args:
        trainer: not yet begun.
        sign_of_life: called before every step.

    Returns:
        What the last step showed.

    Raises:
        SamplingFailed: it does not become so.
    """
    record = None
    limit = min(LONGEST_PRETRAINING, trainer.config.steps)
    trainer.begin()
    while not trainer.sampling.bracket_is_safe():
        if trainer.updater.step >= limit:
            raise SamplingFailed(
                f"after {trainer.updater.step} training steps the bracket is still wider "
                f"than {trainer.config.safe_width_mEh} millihartree: check the structure, "
                "lower the temperature, or train with ase-srdft-train first"
            )
        for _ in range(_PRETRAINING_CHECK_INTERVAL):
            sign_of_life()
            # the schedule of an open-ended run: warm-up, then constant
            record = trainer.train(progress=0.0)
    if trainer.config.coarse_share < 1.0:
        trainer.leave_coarse_grid()
    return record


class InlineTrainer:
    """Training in this process, so many steps for every geometry.

    Args:
        trainer: not yet begun.
        train_steps: for every geometry.
    """

    def __init__(self, trainer: Trainer, train_steps: int) -> None:
        self.trainer = trainer
        self.train_steps = train_steps
        self.last_training: StepRecord | None = None
        self._newest_given = trainer.updater.step

    @property
    def nsteps(self) -> int:
        """Training steps done."""
        return self.trainer.updater.step

    def pretrain(self) -> None:
        """Begin: train until the bracket is safe for dynamics.

        Raises:
            SamplingFailed: it does not become so.
        """
        self.last_training = pretrain(self.trainer)

    def learn_from(self, positions: np.ndarray, molecule: int = 0) -> None:
        """Train with a further geometry (natoms, 3) in Bohr of a molecule of the data set."""
        self.trainer.sampling.add_given(molecule, positions)
        for _ in range(self.train_steps):
            self.last_training = self.trainer.train(progress=0.0)

    def newest(self) -> ElectronicStateModel | None:
        """The newest model; None if there is none newer than the one given last."""
        if self._newest_given == self.nsteps:
            return None
        self._newest_given = self.nsteps
        return self.trainer.averaged_model()

    def stop(self) -> None:
        """Do nothing: there is no process to end."""


class TrainerProcess:
    """Training in a process of its own, while the simulation goes on.

    A process that dies is started again from the newest weights and the latest geometries.

    Args:
        config: of the training; ``config.engine`` says what is done about a process that dies.
        dataset: the molecules.
        model: to start from.
        train_steps: between new weights.
        pretrains: whether the simulation waits for a safe bracket.  Where it does not, it is not
            to be slowed down either: the process takes what time of the processor is left.
    """

    def __init__(
        self,
        config: TrainingConfig,
        dataset: Dataset,
        model: ElectronicStateModel,
        train_steps: int,
        pretrains: bool = True,
    ) -> None:
        self.config = config
        self.pretrains = pretrains
        self.dataset = dataset
        self.train_steps = train_steps
        self.nsteps = 0
        self.nrestarts = 0
        self.last_training: StepRecord | None = None
        self.nleft_out = 0
        self._model = copy.deepcopy(model).double()
        self._recent: deque[tuple[np.ndarray, int]] = deque(maxlen=_REMEMBERED)
        self._nsent = 0
        self._version, self._fresh = 0, False
        self._mailbox: Mailbox | None = Mailbox.create()
        self.process: WorkerProcess | None = None

    def start(self) -> None:
        """Begin, without waiting for anything."""
        self._launch()

    @property
    def has_room(self) -> bool:
        """Whether another geometry would not be left out."""
        waiting = [] if self._mailbox is None else self._mailbox.waiting("geometry")
        return len(waiting) < _MOST_WAITING

    def pretrain(self) -> None:
        """Begin: wait until the bracket is safe for dynamics.

        Raises:
            SamplingFailed: it does not become so.
            WorkerFailed: the process died, or was silent, too often.
        """
        self.start()
        while not self._look():
            time.sleep(_PAUSE_SECONDS)

    def learn_from(self, positions: np.ndarray, molecule: int = 0) -> None:
        """Send a geometry (natoms, 3) in Bohr; left out while too many wait for the trainer."""
        self._recent.append((np.array(positions), molecule))
        if self._mailbox is None:
            return
        if not self.has_room:
            self.nleft_out += 1
            return
        self._send(positions, molecule)

    def newest(self) -> ElectronicStateModel | None:
        """The newest model; None if there is none newer than the one given last.

        Raises:
            SamplingFailed: pre-training does not become safe.
            WorkerFailed: the process died too often.
        """
        self._look()
        fresh, self._fresh = self._fresh, False
        return self._model if fresh else None

    def _look(self) -> bool:
        """Whether there were new weights; they are taken in.  A process that died is replaced."""
        if self._mailbox is None or self.process is None:
            return False
        found = self._mailbox.newest(self._version)
        if found is None:
            trouble = self.process.trouble(self.config.engine.silence_seconds)
            if trouble is not None:
                self._restart(trouble)
            return False
        self._version, weights = found
        self._model.load_state_dict(weights)
        self._note_status()
        self._fresh = self.nsteps > 0  # a good model needed no training
        return True

    def stop(self) -> None:
        """End the process, within seconds; idempotent."""
        if self.process is not None:
            self.process.end()
            self.process = None
        if self._mailbox is not None:
            self._mailbox.remove()
            self._mailbox = None

    def _send(self, positions: np.ndarray, molecule: int) -> None:
        assert self._mailbox is not None
        self._nsent += 1
        tensors = {"positions": torch.as_tensor(positions)}
        self._mailbox.put("geometry", self._nsent, tensors, {"molecule": molecule})

    def _note_status(self) -> None:
        assert self._mailbox is not None
        status = self._mailbox.read("status")
        self.nsteps = status["step"]
        if status["training"] is not None:
            training = status["training"] | {"widths": tuple(status["training"]["widths"])}
            self.last_training = StepRecord(**training)

    def _launch(self) -> None:
        assert self._mailbox is not None
        level = self.config.level
        molecules = [
            molecule_of(self._model, numbers, replace(level, charge=charge or level.charge))
            for numbers, charge in zip(self.dataset.compositions, self.dataset.charges, strict=True)
        ]
        blueprint = SamplerBlueprint.of(
            self._model, molecules, self.config.sampling, True, self.config.carried_bytes
        )
        orders = TrainerOrders(
            config=self.config,
            blueprint=blueprint,
            step=self._version,
            train_steps=self.train_steps,
            pretrains=self.pretrains,
        )
        self._mailbox.write("orders", orders.to_plain())
        start = {f"weights.{name}": t.float() for name, t in self._model.state_dict().items()}
        for index, reference in enumerate(self.dataset.references):
            start[f"reference.{index}"] = torch.as_tensor(reference)
        self._mailbox.put("start", self.nrestarts, start, {})
        self.process = WorkerProcess(
            "trainer", "ase_srdft.learning.background_trainer_main", self._mailbox
        )

    def _restart(self, trouble: str) -> None:
        assert self.process is not None
        assert self._mailbox is not None
        self.process.end()
        words = self.process.last_words()
        failure = self._mailbox.read("failure")
        if failure is not None:
            raise SamplingFailed(failure)
        if self.nrestarts >= self.config.engine.max_restarts:
            raise WorkerFailed(
                f"the trainer {trouble}, after {self.nrestarts} restarts; its last words:\n"
                f"{words or '(none)'}"
            )
        self.nrestarts += 1
        for path in [*self._mailbox.waiting("start"), *self._mailbox.waiting("geometry")]:
            path.unlink(missing_ok=True)
        for positions, molecule in self._recent:
            self._send(positions, molecule)
        self._launch()
