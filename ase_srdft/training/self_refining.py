"""Molecular dynamics that improves its own calculator."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from ase import Atoms
from ase.calculators.calculator import InputError

from ase_srdft.calculator import SRDFTCalculator
from ase_srdft.calculator_input import as_input_error
from ase_srdft.dynamics import OverdampedLangevin
from ase_srdft.errors import SamplingFailed
from ase_srdft.training.config import OptimiserConfig, TrainingConfig
from ase_srdft.training.dataset import Dataset
from ase_srdft.training.learner import StepRecord
from ase_srdft.training.trainer import Trainer
from ase_srdft.units import ANGSTROM_PER_BOHR

__all__ = ["SelfRefiningLangevin"]

#: Training steps after which a start that is still not safe is given up.
_LONGEST_PRETRAINING = 5000


class SelfRefiningLangevin(OverdampedLangevin):
    """Overdamped Langevin dynamics with training steps in between.

    The equations and units are those of :class:`ase_srdft.OverdampedLangevin`.  Every
    ``train_interval`` steps the geometry joins a replay buffer, the model is trained for
    ``train_steps`` steps on the Kohn-Sham energy of geometries from the buffer, and the
    calculator goes on with the averaged weights.  Before the first step, a model whose bracket is
    too wide for dynamics is trained on thermal copies of the structure.  The energy surface
    improves as the run goes, so the energies of early and late frames do not compare; the
    calculator's bracket says how good each is.

    Example::

        atoms.calc = SRDFTCalculator(xc="PBE", basis="6-31g")       # untrained
        dyn = SelfRefiningLangevin(atoms, 1.0 * units.fs, temperature_K=500, rng=0)
        dyn.run(1000)
        lower, upper = atoms.calc.energy_bracket                    # eV

    Args:
        atoms: with an :class:`ase_srdft.SRDFTCalculator`.
        timestep: see :class:`ase_srdft.OverdampedLangevin`.
        temperature_K: in Kelvin.
        train_interval: steps of dynamics between trainings.
        train_steps: training steps at a time.
        trainer_device: where training runs; None for the calculator's device.
        config: further settings of training (level and sampling limits are set from the atoms,
            the calculator and the temperature); None for the defaults, with a learning rate for
            an open-ended run.
        **kwargs: of :class:`ase_srdft.OverdampedLangevin` and ASE's ``MolecularDynamics``.

    Attributes:
        trainer: the training state: buffer, counters, weights.
        last_training: what the latest training step showed (Hartree); None before the first.

    Raises:
        ase.calculators.calculator.InputError: another calculator, or intervals below one.
        SamplingFailed: pre-training does not reach a bracket that is safe for dynamics.
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        temperature_K: float,
        *,
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
        if train_interval < 1 or train_steps < 1:
            raise InputError(
                f"train_interval {train_interval} and train_steps {train_steps}: use at least 1"
            )
        self.train_interval, self.train_steps = train_interval, train_steps
        self.calculator = calculator
        self.last_training: StepRecord | None = None
        base = replace(
            config or TrainingConfig(optimiser=OptimiserConfig(learning_rate=5.0e-3)),
            device=trainer_device or calculator.parameters["device"],
        )
        # before ASE opens a trajectory: this may refuse
        self.trainer = self._new_trainer(atoms, temperature_K, base)
        super().__init__(atoms, timestep, temperature_K, **kwargs)
        self._pretrain()

    def _new_trainer(self, atoms: Atoms, temperature_K: float, base: TrainingConfig) -> Trainer:
        model = copy.deepcopy(self.calculator.model_for(atoms))
        settings = replace(
            base,
            level=model.level,
            self_refine=True,
            sampling=replace(base.sampling, temperature_K=float(temperature_K)),
        )
        with as_input_error():
            return Trainer(settings, Dataset.of([atoms]), model)

    def _pretrain(self) -> None:
        """Train on thermal copies until the bracket is safe; a good model needs none of it."""
        self.trainer.begin()
        while not self.trainer.bracket_is_safe():
            if self.trainer.learner.step >= _LONGEST_PRETRAINING:
                raise SamplingFailed(
                    f"after {self.trainer.learner.step} training steps the bracket is still wider "
                    f"than {self.trainer.config.safe_width_mEh} millihartree: check the structure, "
                    "lower the temperature, or train with ase-srdft-train first"
                )
            self._train(25)

    def _train(self, nsteps: int) -> None:
        for _ in range(nsteps):
            # the schedule of an open-ended run: warm-up, then constant
            self.last_training = self.trainer.train(progress=0.0)
        self.calculator.update_model(self.trainer.averaged_model())

    def step(self) -> None:
        """One step of dynamics, and training where it is due."""
        super().step()
        if (self.nsteps + 1) % self.train_interval == 0:
            positions = self.atoms.positions / ANGSTROM_PER_BOHR
            self.trainer.source.add_sample(0, positions, None)
            self.trainer.counters.nsamples += 1
            self._train(self.train_steps)

    def todict(self) -> dict[str, Any]:
        """What a trajectory file keeps of these settings."""
        return super().todict() | {
            "train_interval": self.train_interval,
            "train_steps": self.train_steps,
        }
