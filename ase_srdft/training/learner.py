"""The energy minimisation step: one Fock build gives loss, gradient and error estimate."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ase_srdft.dft.certificate import energy_bracket
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.geometry import Geometry, select
from ase_srdft.models.state import ElectronicStateModel
from ase_srdft.parallel import Workers
from ase_srdft.training.config import OptimiserConfig

__all__ = ["Learner", "StepRecord", "mean_bracket"]


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What one training step showed.

    Attributes:
        energy: mean E over the batch (Hartree).
        bracket_width: mean width over the batch, on the training grid (Hartree).
        gradient_norm: before clipping (Hartree).
        learning_rate: used.
    """

    energy: float
    bracket_width: float
    gradient_norm: float
    learning_rate: float


class Learner:
    """Weights, their average, and the optimiser.

    The loss is the mean Kohn-Sham energy of the predicted states, ``E[R, f_theta(R)]``: no
    labels.  ``averaged`` is the exponential average of the weights, for everything but training.

    Args:
        model: trained in place, in single precision.
        config: of the optimiser.
        workers: threads over the geometries of a batch.
    """

    def __init__(
        self, model: ElectronicStateModel, config: OptimiserConfig, workers: Workers
    ) -> None:
        self.workers = workers
        self.model = model.float().requires_grad_(True)
        self.config = config
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then a cosine over the run; ``progress`` from 0 to 1."""
        highest, lowest = self.config.learning_rate, self.config.final_learning_rate
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        warmup = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return warmup * (lowest + (highest - lowest) * cosine)

    def update(self, batches: Sequence[Geometry], progress: float) -> StepRecord:
        """One step on a batch, given as one geometry batch for each molecule in it.

        Raises:
            FloatingPointError: the weights have gone astray: no orbitals, or no finite gradient.
        """
        rate = self.learning_rate(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        try:
            total, widths = _energies_and_widths(self.model, batches, self.workers)
        except torch.linalg.LinAlgError as err:  # type: ignore[attr-defined]
            raise FloatingPointError(self._astray("Fock matrix", rate)) from err
        energy = total.mean()
        self.optimiser.zero_grad(set_to_none=True)
        energy.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        if not bool(torch.isfinite(norm)):
            raise FloatingPointError(self._astray("gradient", rate))
        self.optimiser.step()
        self.step += 1
        self._average()
        return StepRecord(
            energy=float(energy.detach()),
            bracket_width=float(widths.mean()),
            gradient_norm=float(norm),
            learning_rate=rate,
        )

    def _astray(self, what: str, rate: float) -> str:
        return (
            f"the {what} of step {self.step} is not finite: lower the learning rate ({rate:.1e}) "
            "or the temperature"
        )

    @torch.no_grad()
    def _average(self) -> None:
        # early on, average over the steps there have been
        decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
        averaged: list[Tensor] = list(self.averaged.parameters())
        torch._foreach_lerp_(averaged, list(self.model.parameters()), 1.0 - decay)


def _energies_and_widths(
    model: ElectronicStateModel, batches: Sequence[Geometry], workers: Workers
) -> tuple[Tensor, Tensor]:
    """E, differentiable by the weights, and bracket widths of all geometries, in order."""
    pieces = [
        (select(geometry, piece), state.density_matrix[piece])
        for geometry, state in zip(batches, model(batches), strict=True)
        for piece in workers.slices(len(geometry))
    ]
    grad = torch.is_grad_enabled()  # threads do not inherit it

    def work(piece: tuple[Geometry, Tensor]) -> tuple[Tensor, Tensor]:
        geometry, density_matrix = piece
        with torch.set_grad_enabled(grad):
            terms, fock = kohn_sham(geometry, density_matrix)
        energy = terms.total
        bracket = energy_bracket(geometry, energy.detach(), density_matrix.detach(), fock)
        return energy, bracket.width

    results = workers.map(work, pieces)
    return torch.cat([r[0] for r in results]), torch.cat([r[1] for r in results])


@torch.no_grad()
def mean_bracket(
    model: ElectronicStateModel, batches: Sequence[Geometry], workers: Workers
) -> tuple[float, float]:
    """Mean energy and mean bracket width of a model on prepared geometries (Hartree)."""
    energies, widths = _energies_and_widths(model, batches, workers)
    return float(energies.mean()), float(widths.mean())
