"""What happens in a run, and what is counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ase_srdft.sampling.sample import SampleBatch
from ase_srdft.sampling.workers.worker_report import WorkerReport

__all__ = [
    "Counters",
    "Event",
    "LevelWidths",
    "SamplingCounters",
    "StepRecord",
    "Validation",
    "ValidationCounters",
]


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What one training step showed, of the whole batch on every rank.

    Attributes:
        energy: mean E over the batch (Hartree); NaN where the loss is another.
        bracket_width: mean width over the batch, on the grid of this step (Hartree); likewise.
        widths: of each geometry, in the order of the batches given, those of the first rank first
            (Hartree); likewise.
        hamiltonian_error: mean |dH| over the batch (Hartree); None without labels.
        gradient_norm: before clipping (Hartree).
        learning_rate: used.
        rolled_back: whether the weights had diverged and were put back instead.
    """

    energy: float
    bracket_width: float
    widths: tuple[float, ...]
    hamiltonian_error: float | None = None
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    rolled_back: bool = False


@dataclass(frozen=True, kw_only=True)
class LevelWidths:
    """Brackets at one level of theory.

    Attributes:
        level: functional/basis.
        ngeometries: how many of its molecules' geometries are held out.
        bracket_width: mean (Hartree).
        largest_width: the widest (Hartree).
    """

    level: str
    ngeometries: int
    bracket_width: float
    largest_width: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Averaged weights on held-out geometries, on the level's own grid.

    Attributes:
        energy: mean (Hartree).
        bracket_width: mean (Hartree): the certified error.
        best: whether it is narrower than that of any weights before, on the same geometries.
        hamiltonian_error: mean |dH| of the predicted Fock matrix (Hartree); None without labels.
        largest_width: the widest bracket of them (Hartree).
        widths_of_molecules: mean of each molecule (Hartree); NaN where none is held out.
        worst: names of the molecules with the widest means, and these (Hartree), the worst first;
            empty where there is one molecule, at one level of theory.
        of_levels: what it is at each level of theory; empty where there is one.
        best_width: mean of the best weights so far (Hartree), on these geometries.
        best_largest_width: the widest bracket of the best weights (Hartree), likewise.
        ngeometries: how many there are.
        nsampled: how many of them dynamics has sampled.
        nframes: how many of them are given frames; the rest are rattled copies of structures.
    """

    energy: float
    bracket_width: float
    best: bool
    hamiltonian_error: float | None = None
    largest_width: float = math.nan
    widths_of_molecules: tuple[float, ...] = ()
    worst: tuple[tuple[str, float], ...] = ()
    of_levels: tuple[LevelWidths, ...] = ()
    best_width: float = math.nan
    best_largest_width: float = math.nan
    ngeometries: int = 0
    nsampled: int = 0
    nframes: int = 0


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
    sampling: SampleBatch | None = None
    validation: Validation | None = None
    worker: WorkerReport | None = None


@dataclass(frozen=True, kw_only=True)
class SamplingCounters:
    """What is counted of sampling.

    Attributes:
        nsamples: accepted samples.
        sampled_molecules: which molecules gave a sample.
        fruitless: sampling rounds in a row without a sample.
        sampling: whether dynamics has started.
        resets: walkers reset and samples refused, by reason.
        nrestarts: of workers.
    """

    nsamples: int = 0
    sampled_molecules: list[int] = field(default_factory=list)
    fruitless: int = 0
    sampling: bool = False
    resets: dict[str, int] = field(default_factory=dict)
    nrestarts: int = 0


@dataclass(frozen=True, kw_only=True)
class ValidationCounters:
    """What is noted of validations.

    Attributes:
        best_width: mean bracket of the best weights at the last validation (Hartree).
        best_largest_width: their widest bracket there (Hartree).
        best_widths: their bracket at each geometry there (Hartree).
        worst_molecules: those with the widest mean bracket of the best weights there, the worst
            first.
        worst_widths: these means (Hartree).
        validated_nsampled: samples that were held out then.
        copies_moved_fs: how far (fs) dynamics has moved the rattled copies that are held out.
        met_target_uEh: a target that was met already when the run was started again with it.
        met_worst_target_uEh: the target of the worst molecule beside it, if there was one.
        validated_step: of the last validation.
    """

    best_width: float = math.inf
    best_largest_width: float = math.inf
    best_widths: list[float] = field(default_factory=list)
    worst_molecules: list[int] = field(default_factory=list)
    worst_widths: list[float] = field(default_factory=list)
    validated_nsampled: int = 0
    copies_moved_fs: float = 0.0
    met_target_uEh: float | None = None
    met_worst_target_uEh: float | None = None
    validated_step: int = 0


@dataclass(frozen=True, kw_only=True)
class Counters(SamplingCounters, ValidationCounters):
    """All that is counted, as a checkpoint keeps it: a copy of what the parts of a trainer own.

    Attributes:
        elapsed: seconds of training before this session.
        replaced: places of the held-out set where there are samples now, the oldest first.
        set_has_changed: whether other geometries are held out now than at the last validation.
    """

    elapsed: float = 0.0
    replaced: list[int] = field(default_factory=list)
    set_has_changed: bool = False

    @property
    def nheld_out(self) -> int:
        """Samples held out for validation."""
        return len(self.replaced)

    @property
    def of_sampling(self) -> SamplingCounters:
        """Those of sampling."""
        names = [field.name for field in fields(SamplingCounters)]
        return SamplingCounters(**{name: getattr(self, name) for name in names})

    @property
    def of_validation(self) -> ValidationCounters:
        """Those of validations."""
        names = [field.name for field in fields(ValidationCounters)]
        return ValidationCounters(**{name: getattr(self, name) for name in names})

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Counters:
        """The counters of a checkpoint; in that of an older version some are missing."""
        counters = cls(**plain)
        if "validated_nsampled" not in plain and math.isfinite(counters.best_width):
            # then a sample that was held out made the best width void
            counters = replace(counters, validated_nsampled=counters.nheld_out)
        return counters
