"""The training step: loss, gradient, schedule, average, and weights that have diverged."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.named_arrays import tensors_from_arrays, tensors_to_arrays
from ase_srdft.dft.kernels.library import threads as kernel_threads
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.reference.label_file import Labels
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.events import StepRecord
from ase_srdft.training.losses import EnergyLoss, HamiltonianLoss, Loss

__all__ = [
    "DivergenceGuard",
    "WeightUpdater",
    "mean_bracket",
    "mean_hamiltonian_error",
]

#: A median error (of the bracket, for one) so many times the usual one ...
_DIVERGED = 30.0
#: ... and wider than this (Hartree) is the sign of weights that have diverged.
_UNFIT = 5.0e-3
#: So are recent errors that are so many times the lowest usual ones, ...
_ASTRAY = 5.0
#: ... and where they are so many times those, the weights are not kept to be turned back to.
_DOUBTFUL = 2.0
#: Growth, with every batch, of what counts as the lowest: geometries may get more difficult.
_FORGETTING = 1.002
#: Batches in the running means of what is usual and of what is recent: molecules differ, and one
#: batch of a difficult one says nothing.
_USUAL_BATCHES = 32
_RECENT_BATCHES = 8
#: Batches after which it is known what is usual.
_KNOWN_AFTER = 100
#: Share of a gradient's norm in the usual one.
_NORM_WEIGHT = 0.02
#: Decay of AdamW's running mean of gradients.
_FIRST_MOMENT_DECAY = 0.9
#: Steps between the weights that are kept to be turned back to.
_KEEP_EVERY = 50
#: An error (Hartree) below which all are alike.
_EXACT = 1e-12
#: Unit (Hartree) of the errors that losses are divided by a power of, and the smallest that counts.
_UNIT_ERROR, _SMALLEST_ERROR = 1.0e-3, 1.0e-9
#: The learning rate is halved so often at most.
_SMALLEST_FACTOR = 2.0**-8


@dataclass(kw_only=True)
class DivergenceGuard:
    """Notices weights that have diverged; part of a checkpoint, which calls it ``pace``.

    Means of errors are geometric, as those of different molecules have different sizes.

    Attributes:
        factor: of the learning rate; halved whenever the weights have diverged.
        since: step of the last time, from which the warm-up counts.
        nbatches: taken in so far.
        usual_width: running mean of the batches' median error (Hartree).
        nsettled: batches taken in since the last time.
        recent_width: running mean over few batches since the last time (Hartree).
        lowest_width: the lowest that was usual lately, since the last time (Hartree).
        nnorms: gradients taken in so far.
        usual_norm: running mean of their norms (Hartree).
    """

    factor: float = 1.0
    since: int = 0
    nbatches: int = 0
    usual_width: float = 0.0
    nsettled: int = 0
    recent_width: float = 0.0
    lowest_width: float = math.inf
    nnorms: int = 0
    usual_norm: float = 0.0

    def note_error(self, width: float) -> bool:
        """Take in a batch's median error (Hartree); returns whether the weights have diverged.

        They have where it is far from usual and unfit for dynamics, and where recent errors are
        several times what they have been already.
        """
        known = self.nbatches >= _KNOWN_AFTER
        largest = max(_DIVERGED * self.usual_width, _UNFIT) if known else math.inf
        if not math.isfinite(width) or width > largest:
            return known
        self.nbatches += 1
        self.nsettled += 1
        width = max(width, _EXACT)
        self.usual_width = _mean(self.usual_width, width, self.nbatches, _USUAL_BATCHES)
        self.recent_width = _mean(self.recent_width, width, self.nsettled, _RECENT_BATCHES)
        if self.nsettled >= _USUAL_BATCHES:
            self.lowest_width = min(_FORGETTING * self.lowest_width, self.usual_width)
        # where the rate is as small as it gets, only what is unfit is an error
        settled = self.nsettled >= _KNOWN_AFTER and self.factor > _SMALLEST_FACTOR
        return settled and self.recent_width > _ASTRAY * self.lowest_width

    @property
    def is_in_doubt(self) -> bool:
        """Whether the weights may be on the way to diverge."""
        return self.recent_width > _DOUBTFUL * self.lowest_width

    def turn_back(self, step: int) -> None:
        """The weights are those of before: go on with half the rate, and other gradients."""
        self.factor *= 0.5
        self.since = step
        self.nsettled, self.lowest_width = 0, math.inf
        self.nnorms = 0

    def largest_norm(self, spike: float) -> float:
        """Of a gradient (Hartree): so many times the usual one, once it is known."""
        return spike * self.usual_norm if self.nnorms >= _KNOWN_AFTER else math.inf

    def note_norm(self, norm: float) -> None:
        """Take in the norm of a batch's gradient (Hartree), as far as it was followed."""
        self.nnorms += 1
        weight = max(_NORM_WEIGHT, 1.0 / self.nnorms)
        self.usual_norm += weight * (norm - self.usual_norm)


def _mean(mean: float, value: float, count: int, nbatches: int) -> float:
    """Running geometric mean, after the value that makes it ``count`` values."""
    return value if count == 1 else mean * (value / mean) ** max(1.0 / nbatches, 1.0 / count)


class WeightUpdater:
    """Weights, their average, and the optimiser.

    The loss is a mean over the geometries of a batch.  ``averaged`` is the exponential average of
    the weights, for everything but training.

    Args:
        model: trained in place, in single precision.
        config: of the optimiser.
        threads: threads over the geometries of a batch.
        ranks: that each get a share of every batch; None for this process alone.
        loss: None for the Kohn-Sham energy of the predicted states.
        fine_tuning: whether the weights are good already, and want a smaller learning rate.

    Attributes:
        highest_rate: the highest learning rate: that of the configuration, or of the model.

    Raises:
        BadInput: a loss that the model's family has no prediction for.
    """

    def __init__(
        self,
        model: ElectronicStateModel,
        config: OptimiserConfig,
        threads: ThreadMap,
        ranks: Ranks | None = None,
        loss: Loss | None = None,
        fine_tuning: bool = False,
    ) -> None:
        self.threads = threads
        self.loss: Loss = loss or EnergyLoss()
        self.ranks = ranks or Ranks.single()
        self.model = model.float().requires_grad_(True)
        self._module = self.loss.predictor(self.model)
        self.config = config
        rate = config.learning_rate
        own = model.fine_tuning_rate if fine_tuning else model.learning_rate
        self.highest_rate = own if rate is None else rate
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.highest_rate,
            betas=(_FIRST_MOMENT_DECAY, config.second_moment_decay),
            weight_decay=config.weight_decay,
        )
        self.step = 0
        self.guard = DivergenceGuard()
        self.rollback_weights = copy.deepcopy(self.averaged.state_dict())

    @cached_property
    def _parallel(self) -> torch.nn.Module:
        # made at the first step, where all ranks come together
        return self.ranks.parallel(self._module)

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then a cosine over the run; ``progress`` from 0 to 1.

        Half of that for every time that the weights diverged, with a warm-up after each.
        """
        highest, lowest = self.highest_rate, self.config.final_learning_rate
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        warmup = min(1.0, (self.step - self.guard.since + 1) / self.config.warmup_steps)
        return self.guard.factor * warmup * (lowest + (highest - lowest) * cosine)

    def keep_rate(self, rate: float) -> None:
        """Go on with the highest learning rate of an earlier session, unless one is asked for."""
        if self.config.learning_rate is None:
            self.highest_rate = rate

    def update(self, batches: Sequence[Geometry], progress: float) -> StepRecord:
        """One step on a batch, given as one geometry batch for each molecule in it.

        Of several ranks each gives its share, one geometry at least, and learns from the whole.

        Raises:
            FloatingPointError: the weights have diverged: no orbitals, or no finite gradient.
            RankLost: another rank has ended.
        """
        rate = self.learning_rate(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        own, error = None, None
        try:
            own = self.loss.losses_of(self._parallel, batches, self.threads)
        except torch.linalg.LinAlgError as err:  # type: ignore[attr-defined]
            error = err
        whole = self.ranks.gather_pairs(own)
        if own is None or whole is None:
            raise FloatingPointError(self._divergence("Fock matrix", rate)) from error
        losses, errors = whole
        median = float(errors.median())
        diverged = self.guard.note_error(median)
        # gradients are averaged over ranks, whose shares may be of different size; the ranks wait
        # for each other's, wanted or not
        weight = self.ranks.size * len(own[0]) / len(losses)
        self.optimiser.zero_grad(set_to_none=True)
        with self.ranks.waiting(), kernel_threads(self.threads.nthreads):
            (weight * self._scaled(*own).mean()).backward()
        norm = self._roll_back(rate) if diverged else self._descend(rate)
        return replace(
            self.loss.record(losses, errors),
            gradient_norm=norm,
            learning_rate=rate,
            rolled_back=diverged,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Weights and optimiser, as a checkpoint names them."""
        arrays = tensors_to_arrays("weights/model/", self.model.state_dict())
        arrays |= tensors_to_arrays("weights/averaged/", self.averaged.state_dict())
        arrays |= tensors_to_arrays("weights/kept/", self.rollback_weights)
        for index, values in self.optimiser.state_dict()["state"].items():
            tensors = {name: torch.as_tensor(value) for name, value in values.items()}
            arrays |= tensors_to_arrays(f"optimiser/{index}/", tensors)
        return arrays

    def to_plain(self) -> dict[str, Any]:
        """Step and guard: plain values, as a checkpoint names them."""
        return {"step": self.step, "pace": asdict(self.guard)}

    def from_arrays(self, arrays: dict[str, np.ndarray], plain: dict[str, Any]) -> None:
        """Go on where :meth:`to_arrays` and :meth:`to_plain` left off."""
        self.model.load_state_dict(tensors_from_arrays("weights/model/", arrays))
        self.averaged.load_state_dict(tensors_from_arrays("weights/averaged/", arrays))
        self.rollback_weights = tensors_from_arrays("weights/kept/", arrays)
        full = self.optimiser.state_dict()
        full["state"] = {}
        for name, tensor in tensors_from_arrays("optimiser/", arrays).items():
            index, entry = name.split("/", 1)
            full["state"].setdefault(int(index), {})[entry] = tensor
        self.optimiser.load_state_dict(full)
        self.step, self.guard = plain["step"], DivergenceGuard(**plain["pace"])

    def _scaled(
        self, losses: Float[Tensor, " ngeometries"], errors: Float[Tensor, " ngeometries"]
    ) -> Float[Tensor, " ngeometries"]:
        """Losses over a power of their errors in mEh; only the gradient is of use."""
        scale = errors.clamp_min(_SMALLEST_ERROR) / _UNIT_ERROR
        return losses / scale**self.config.error_exponent

    def _descend(self, rate: float) -> float:
        """Change the weights along their gradient; returns its norm."""
        largest, spike = self.config.gradient_clip, self.config.gradient_spike
        if spike is not None:
            largest = min(largest, self.guard.largest_norm(spike))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), largest)
        if not bool(torch.isfinite(norm)):
            raise FloatingPointError(self._divergence("gradient", rate))
        self.guard.note_norm(min(float(norm), largest))
        self.optimiser.step()
        self.step += 1
        self._average()
        if self.step % _KEEP_EVERY == 0 and not self.guard.is_in_doubt:
            self.rollback_weights = copy.deepcopy(self.averaged.state_dict())
        return float(norm)

    def _roll_back(self, rate: float) -> float:
        """Go on from weights of before, more slowly; what the optimiser has gathered is void."""
        if self.guard.factor <= _SMALLEST_FACTOR:
            raise FloatingPointError(
                f"the weights diverged again at step {self.step}, with a learning rate of "
                f"{rate:.1e}: lower the temperature, or look at the structures"
            )
        self.model.load_state_dict(self.rollback_weights)
        self.averaged.load_state_dict(self.rollback_weights)
        self.optimiser.state.clear()
        self.step += 1
        self.guard.turn_back(self.step)
        return 0.0

    def _divergence(self, what: str, rate: float) -> str:
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


@torch.no_grad()
def mean_bracket(
    model: ElectronicStateModel, batches: Sequence[Geometry], threads: ThreadMap
) -> tuple[float, float]:
    """Mean energy and mean bracket width of a model on prepared geometries (Hartree)."""
    energies, widths = EnergyLoss().losses_of(model, batches, threads)
    return float(energies.mean()), float(widths.mean())


@torch.no_grad()
def mean_hamiltonian_error(
    model: ElectronicStateModel, batches: Sequence[Geometry], labels: Labels, threads: ThreadMap
) -> float:
    """Mean |dH| of a model's predicted Fock matrices on prepared geometries (Hartree)."""
    loss = HamiltonianLoss(labels)
    return float(loss.losses_of(loss.predictor(model), batches, threads)[1].mean())
