"""Molecular dynamics that improves its own calculator."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import InputError

from ase_srdft.calculator.parameters import as_ase_error
from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.common.torch_state import plain_state, undisturbed
from ase_srdft.dynamics.overdamped_langevin import OverdampedLangevin
from ase_srdft.dynamics.refinement_log import RefinementLog
from ase_srdft.learning.background_trainer import SHARE_OF_RATE, InlineTrainer, TrainerProcess
from ase_srdft.learning.learning_record import LearningRecord
from ase_srdft.models.model_file import save_model
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import StepRecord
from ase_srdft.training.trainer import Trainer

__all__ = ["SelfRefiningLangevin"]

_TRAINER_RUNS = ("beside", "in_turn")
#: Values of the former argument ``engine``, and what they are called now.
_OLD_ENGINES = {"local": "beside", "sync": "in_turn"}


class SelfRefiningLangevin(OverdampedLangevin):
    """Overdamped Langevin dynamics beside a trainer that improves its calculator.

    The equations and units are those of :class:`ase_srdft.OverdampedLangevin`.  Every
    ``train_interval`` steps the geometry joins a replay buffer; a trainer lowers the Kohn-Sham
    energy of geometries from that buffer, and the calculator goes on with the averaged weights.
    Before the first step, a model whose bracket is too wide for dynamics is trained on thermal
    copies of the structure, on the coarse grid; beside the dynamics, training is on the level's own
    grid (with ``coarse_share`` 1 it stays on the coarse one, with 0 it never is).  A calculator
    that corrects its states gives the SCF's energies from the first step on, faster as the model
    improves.  With ``max_error=None`` the energy surface itself improves, so the energies of early
    and late frames do not compare; the calculator's bracket says how good each is.

    With ``trainer_runs="beside"`` the trainer is a process of its own, on ``trainer_device``, and
    works while the dynamics goes on; the calculator takes new weights as they come, between two
    steps.  With "in_turn" it works in this process, ``train_steps`` steps for every geometry:
    slower, and reproducible by its seed.  The trainer ends with the ``with`` block, with `close`,
    or with the program; dynamics can go on after that, with the last weights.  `save` writes the
    model to a file that a calculator, and so another run, goes on from.

    ``logfile`` gets the step, the energy, both brackets, the path to the answer and the training
    steps (`ase_srdft.dynamics.refinement_log`) instead of a temperature that is always zero.

    Example::

        atoms.calc = SRDFTCalculator(xc="PBE", basis="6-31g")
        with SelfRefiningLangevin(atoms, 1.0 * units.fs, temperature_K=500, rng=0) as dyn:
            dyn.run(1000)
        print(atoms.calc.certificate.start_error)                   # eV, of the model alone

    Args:
        atoms: with an :class:`ase_srdft.SRDFTCalculator`.
        timestep: see :class:`ase_srdft.OverdampedLangevin`.
        temperature_K: in Kelvin.
        trainer_runs: "beside" the dynamics, in a process of its own, or "in_turn" with it.
        train_interval: steps of dynamics between geometries for the trainer.
        train_steps: training steps between new weights.
        trainer_device: where training runs; None for the calculator's device.
        config: further settings of training (level and sampling limits are set from the atoms,
            the calculator and the temperature); None for the defaults.  Where it names no
            learning rate, it is half that of the model's family: there is no end to lower it for.
        **kwargs: of :class:`ase_srdft.OverdampedLangevin` and ASE's ``MolecularDynamics``.

    Attributes:
        background_trainer: the trainer (`ase_srdft.learning.background_trainer`).
        ngeometries: of the run, that joined the buffer.

    Raises:
        ase.calculators.calculator.InputError: another calculator, another ``trainer_runs``,
            the former argument ``engine``, intervals below one, or a calculator that learns by
            itself.
        SamplingFailed: pre-training does not reach a bracket that is safe for dynamics.
        WorkerFailed: by any step: the trainer's process died too often.
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        temperature_K: float,
        *,
        trainer_runs: str = "beside",
        train_interval: int = 10,
        train_steps: int = 8,
        trainer_device: str | None = None,
        config: TrainingConfig | None = None,
        **kwargs: Any,
    ) -> None:
        calculator = atoms.calc
        if not isinstance(calculator, SRDFTCalculator):
            raise InputError(
                f"the atoms' calculator is {type(calculator).__name__}: self-refining dynamics "
                "needs an SRDFTCalculator, whose model it trains"
            )
        if calculator.parameters["learn"] is not False:
            raise InputError(
                f"the calculator learns by itself (learn={calculator.parameters['learn']!r}): use "
                "ase_srdft.OverdampedLangevin, or a calculator with learn=False"
            )
        if "engine" in kwargs:
            raise InputError(_instead_of_engine(kwargs["engine"]))
        if trainer_runs not in _TRAINER_RUNS:
            choices = " or ".join(map(repr, _TRAINER_RUNS))
            raise InputError(f"trainer_runs is {trainer_runs!r}: use {choices}")
        if train_interval < 1 or train_steps < 1:
            raise InputError(
                f"train_interval {train_interval} and train_steps {train_steps}: use at least 1"
            )
        self.trainer_runs = trainer_runs
        self.train_interval, self.train_steps = train_interval, train_steps
        self.calculator, self.ngeometries = calculator, 0
        self._start: str = calculator.parameters["model"]
        base = replace(
            config or TrainingConfig(),
            device=trainer_device or calculator.parameters["device"],
        )
        # before ASE opens a trajectory: this may refuse
        self.background_trainer = self._new_background_trainer(atoms, temperature_K, base)
        self._ending = weakref.finalize(self, self.background_trainer.stop)
        try:
            logfile = kwargs.pop("logfile", None)
            super().__init__(atoms, timestep, temperature_K, **kwargs)
            if logfile:
                log = self.closelater(RefinementLog(self, logfile))
                self.attach(log, kwargs.get("loginterval", 1))
            with plain_state():
                self.background_trainer.pretrain()
            self._take_new_weights()
        except BaseException:
            self.close()
            raise

    @undisturbed
    def _new_background_trainer(
        self, atoms: Atoms, temperature_K: float, base: TrainingConfig
    ) -> InlineTrainer | TrainerProcess:
        nuclei = self.calculator.nuclei_for(atoms)
        model = copy.deepcopy(self.calculator.model_for(atoms))
        rate = base.optimiser.learning_rate
        rate = SHARE_OF_RATE * model.learning_rate if rate is None else rate
        settings = replace(
            base,
            level=model.level,
            self_refine=True,
            optimiser=replace(base.optimiser, learning_rate=rate),
            sampling=replace(base.sampling, temperature_K=float(temperature_K)),
            # the sampling is done here, by the dynamics
            engine=replace(base.engine, name="sync"),
        )
        dataset = Dataset.of([nuclei])
        with as_ase_error():
            trainer = Trainer(settings, dataset, model)
        if self.trainer_runs == "in_turn":
            return InlineTrainer(trainer, self.train_steps)
        return TrainerProcess(settings, dataset, model, self.train_steps)

    def __enter__(self) -> SelfRefiningLangevin:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the trainer; idempotent."""
        self._ending()

    def save(self, path: str | Path) -> None:
        """Write the calculator's model to a file, with what it learned from (`SRDFTCalculator`).

        Raises:
            InputError: the file cannot be written.
        """
        model = self.calculator.model_for(self.atoms)
        record = LearningRecord(
            molecules=(self.atoms.get_chemical_formula(),),
            ngeometries=self.ngeometries,
            nsteps=self.background_trainer.nsteps,
        )
        with as_ase_error():
            save_model(path, model, record.of_file(model, self._start))

    @property
    def last_training(self) -> StepRecord | None:
        """What the latest training step known here showed; None before the first."""
        return self.background_trainer.last_training

    def step(self) -> None:
        """One step of dynamics; a geometry for the trainer and its new weights where due."""
        super().step()
        if not self._ending.alive:
            return
        if (self.nsteps + 1) % self.train_interval == 0:
            nuclei = self.calculator.nuclei_for(self.atoms)
            self.ngeometries += 1
            with plain_state():
                self.background_trainer.learn_from(nuclei.positions)
        self._take_new_weights()

    @undisturbed
    def _take_new_weights(self) -> None:
        model = self.background_trainer.newest()
        if model is not None:
            self.calculator.update_model(model)

    def todict(self) -> dict[str, Any]:
        """What a trajectory file keeps of these settings."""
        return super().todict() | {
            "trainer_runs": self.trainer_runs,
            "train_interval": self.train_interval,
            "train_steps": self.train_steps,
        }


def _instead_of_engine(engine: object) -> str:
    """What to give instead of the argument ``engine``, which named where training runs."""
    new = _OLD_ENGINES.get(str(engine))
    advice = f"trainer_runs={new!r}" if new else "trainer_runs='beside' or 'in_turn'"
    return f"engine={engine!r} is no longer an argument: use {advice}"
