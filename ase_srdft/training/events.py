"""What happens in a run, and what is counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ase_srdft.sampling.sampler import SampleBatch
from ase_srdft.sampling.workers.worker_report import WorkerReport
from ase_srdft.training.weight_updater import StepRecord

__all__ = ["Counters", "Event", "Validation"]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Averaged weights on held-out frames, on the level's own grid.

    Attributes:
        energy: mean (Hartree).
        bracket_width: mean (Hartree): the certified error.
        best: whether it is narrower than that of any weights before, on the same geometries.
        hamiltonian_error: mean |dH| of the predicted Fock matrix (Hartree); None without labels.
        largest_width: the widest bracket of them (Hartree).
        widths_of_molecules: mean of each molecule (Hartree); NaN where none is held out.
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


@dataclass(kw_only=True)
class Counters:
    """What has been counted; part of a checkpoint.

    Attributes:
        elapsed: seconds of training before this session.
        nsamples: accepted samples.
        replaced: places of the held-out set where there are samples now, the oldest first.
        sampled_molecules: which molecules gave a sample.
        fruitless: sampling rounds in a row without a sample.
        sampling: whether dynamics has started.
        best_width: mean bracket of the best weights at the last validation (Hartree).
        best_largest_width: their widest bracket there (Hartree).
        set_has_changed: whether other geometries are held out now than then.
        validated_nsampled: samples that were held out then.
        copies_moved_fs: how far (fs) dynamics has moved the rattled copies that are held out.
        met_target_uEh: a target that was met already when the run was started again with it.
        resets: walkers reset and samples refused, by reason.
        validated_step: of the last validation.
        nrestarts: of workers.
    """

    elapsed: float = 0.0
    nsamples: int = 0
    replaced: list[int] = field(default_factory=list)
    sampled_molecules: list[int] = field(default_factory=list)
    fruitless: int = 0
    sampling: bool = False
    best_width: float = math.inf
    best_largest_width: float = math.inf
    set_has_changed: bool = False
    validated_nsampled: int = 0
    copies_moved_fs: float = 0.0
    met_target_uEh: float | None = None
    resets: dict[str, int] = field(default_factory=dict)
    validated_step: int = 0
    nrestarts: int = 0

    @property
    def nheld_out(self) -> int:
        """Samples held out for validation."""
        return len(self.replaced)

    def hold_out(self, place: int) -> None:
        """Note that a sample is held out at this place now."""
        if place in self.replaced:
            self.replaced.remove(place)
        self.replaced.append(place)
        self.set_has_changed = True
