"""What happens in a run, and what is counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ase_srdft.training.engine import WorkerReport
from ase_srdft.training.learner import StepRecord
from ase_srdft.training.sampler import SamplingRound

__all__ = ["Counters", "Event", "Validation"]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Averaged weights on held-out frames, on the level's own grid.

    Attributes:
        energy: mean (Hartree).
        bracket_width: mean (Hartree): the certified error.
        best: whether it is the narrowest so far.
        hamiltonian_error: mean |dH| of the predicted Fock matrix (Hartree); None without labels.
    """

    energy: float
    bracket_width: float
    best: bool
    hamiltonian_error: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """Something that happened at a step; exactly one of the last four fields is set.

    Attributes:
        step: training steps done.
        elapsed: seconds of training, earlier sessions included.
        progress: share of the run that is done, 0 to 1.
        nsamples: geometries sampled so far.
        training: a training step.
        sampling: a sampling round.
        validation: a validation.
        worker: a worker that was started again.
    """

    step: int
    elapsed: float
    progress: float
    nsamples: int
    training: StepRecord | None = None
    sampling: SamplingRound | None = None
    validation: Validation | None = None
    worker: WorkerReport | None = None


@dataclass(kw_only=True)
class Counters:
    """What has been counted; part of a checkpoint.

    Attributes:
        elapsed: seconds of training before this session.
        nsamples: accepted samples.
        replaced: places of the held-out set where a sample has replaced a rattled copy.
        fruitless: sampling rounds in a row without a sample.
        sampling: whether dynamics has started.
        best_width: narrowest validated bracket (Hartree).
        resets: walkers reset and samples refused, by reason.
        validated_step: of the last validation.
        nrestarts: of workers.
    """

    elapsed: float = 0.0
    nsamples: int = 0
    replaced: list[int] = field(default_factory=list)
    fruitless: int = 0
    sampling: bool = False
    best_width: float = math.inf
    resets: dict[str, int] = field(default_factory=dict)
    validated_step: int = 0
    nrestarts: int = 0

    @property
    def nheld_out(self) -> int:
        """Samples held out for validation."""
        return len(self.replaced)
