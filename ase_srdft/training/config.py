"""The settings of a training run; the flags of the command and their help are made from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ase_srdft.common.checks import require, require_at_least, require_choice, require_positive
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.sampling.config import EngineConfig, SamplingConfig

__all__ = [
    "FRESH_FAMILY",
    "LOSSES",
    "MEMORY_OVERHEAD_GB",
    "OptimiserConfig",
    "SelectionConfig",
    "TrainingConfig",
]

LOSSES = ("energy", "hamiltonian")
#: Of a model that begins with nothing: the one that learns fastest.
FRESH_FAMILY = "potential"

#: The process of a run is larger than its ``memory_gb`` by so much at most, on the CPU.
MEMORY_OVERHEAD_GB = 1.0

#: What both numpy and torch take as a seed.
_SEEDS = 2**63
#: Limits of a run that may be absent.
_OPTIONAL = ("minutes", "target_error_uEh", "target_worst_error_uEh")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How the weights are trained.

    Attributes:
        batch_size: geometries a training step.
        learning_rate: highest learning rate, after the warm-up.  Where none is given, it is that of
            the checkpoint that a run goes on from, or of the model's family, an eighth of it for
            weights to start from.
        final_learning_rate: lowest learning rate, at the end of the cosine.
        warmup_steps: training steps of the linear warm-up.
        weight_decay: weight decay of AdamW.
        gradient_clip: largest norm of the gradient of the scaled loss (Hartree, see
            ``error_exponent``).
        gradient_spike: largest norm of the gradient in multiples of the usual one, a running mean;
            none: gradients are followed as they are, and weights that they lead astray are noticed
            and put back, which they may not be where they go there in short steps.
        second_moment_decay: decay, 0 to 1, of AdamW's running mean of squared gradients.  What is
            rare in a batch, such as an element, has a small one when it comes, and its weights
            change by up to 3.2 times the learning rate, step after step; by once that with 0.99,
            which is noisier otherwise.
        average_decay: decay, 0 to 1, of the exponential average of the weights that is saved and
            sampled with.
        error_exponent: power of a geometry's error (mEh) that its loss is divided by, 0 to 1.
            Energies whose bracket is their error: with 0 the mean error is made smaller, which a
            few large ones rule; with 0.5 the mean of its roots, which are linear in the error of
            the state; with 1 that of its logarithms.
    """

    batch_size: int = 8
    learning_rate: float | None = None
    final_learning_rate: float = 1.0e-5
    warmup_steps: int = 100
    weight_decay: float = 1.0e-6
    gradient_clip: float = 1.0
    gradient_spike: float | None = None
    second_moment_decay: float = 0.999
    average_decay: float = 0.998
    error_exponent: float = 0.0

    def __post_init__(self) -> None:
        given = (n for n in ("learning_rate", "gradient_spike") if getattr(self, n) is not None)
        require_positive(self, "gradient_clip", *given)
        require_at_least(1, self, "batch_size", "warmup_steps")
        require_at_least(0, self, "final_learning_rate", "weight_decay")
        for name in ("average_decay", "second_moment_decay"):
            value = getattr(self, name)
            require(0 < value < 1, name, value, "0 to 1")
        require(0 <= self.error_exponent <= 1, "error_exponent", self.error_exponent, "0 to 1")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which sampled geometries are trained on most and kept longest.

    Attributes:
        exponent: exponent of the bracket width in the probability of a draw; above 0, a full
            buffer also drops what has a narrow bracket; 0 draws uniformly, first in first out.
        uniform_share: share of the probability that is spread evenly, above 0 to 1.
        clip: a bracket counts for at most this many times the median one, at least 1.
        molecule_exponent: exponent of a molecule's bracket in the probability of a draw, where
            there are several molecules or levels of theory; 0 draws from all alike.  It is the
            running mean of the brackets that training steps find at the molecule's geometries, at
            its level, per electron.
    """

    exponent: float = 0.0
    uniform_share: float = 0.5
    clip: float = 10.0
    molecule_exponent: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(0, self, "exponent", "molecule_exponent")
        require_at_least(1, self, "clip")
        share = self.uniform_share
        require(0 < share <= 1, "uniform_share", share, "above 0, and 1 at most")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training run.

    Attributes:
        level: level of theory; where there are ``levels``, the first of them.
        levels: several levels of theory in one run, as functional/basis, such as PBE/def2-svp;
            what else there is to a level is that of ``level``.  For the family ``potential``
            alone, whose models belong to no level.
        model: family of models: ``potential``, ``fock``, ``coefficient`` or ``qpt``.
        start_from: file of a model, or name of one that ships, to go on from the weights of: for
            other molecules, and for other elements and levels where the family allows it.  What the
            command is not told of ``level`` is as there; from Python ``level`` is to be given.
        scope: what the molecules are, in a sentence, for those who read the model's card
            (`ase_srdft.model_card`); where there are many, their names do not say it.
        model_config: settings of the model's family, such as ``features`` and ``layers``.
        loss: ``energy``, which needs no labels, or ``hamiltonian``, which does.  The first is the
            Kohn-Sham energy of the predicted state; the second is the error of the predicted Fock
            matrix against labels, on given frames alone.
        sampling: how geometries are sampled.
        optimiser: how the weights are trained.
        engine: where sampling runs.
        selection: which sampled geometries are trained on most and kept longest.
        self_refine: sample with the model while training; else train on given frames alone.
        data_fraction: share of the given frames that is trained on, above 0 to 1.  They are
            evenly spaced over all but those held out; one at least.
        frames_share: share of given frames in a batch, 0 to 1, where there are samples too.
        steps: training steps at most.
        minutes: wall-clock limit in minutes.  The learning rate follows whichever of ``steps``
            and ``minutes`` is nearer its end, so a run that is limited by time is not
            reproducible to the bit.
        target_error_uEh: stop when the certified error is smaller (microhartree).  It is the mean
            width of the bracket over the geometries held out.
        target_worst_error_uEh: stop when that of every molecule, at every level of theory, is
            smaller (microhartree); with ``target_error_uEh`` when both are.  A geometry of each
            is then held out, whatever ``validation_frames`` says.
        train_steps_per_round: training steps between new weights for the samplers.  With the
            engine ``sync`` also between rounds of sampling; with the others, samplers do one round
            after the other.
        pretraining_steps: training steps before dynamics may start.
        pretraining_frames: rattled copies to begin with, where no frames are given.
        conformers: structures of a molecule that the command is given by SMILES, at most, which
            differ in their torsions.  Its rattled copies are of one after the other, and dynamics
            goes round them.
        safe_width_mEh: dynamics starts when the bracket is narrower (millihartree).
        buffer_size: sampled geometries kept; ``selection`` decides which one is dropped.
        memory_gb: gigabytes for integrals: those kept with geometries, and what a batch takes while
            it is at work.  A fifth is for those held out.  The trainer's process is larger than
            that by 1 GB at most, half of it libraries.  Samplers of the engines ``local`` and
            ``ray`` have processes of their own, each with up to a quarter of it for messages, half
            a gigabyte of libraries, and the integrals of its walkers twice.
        validation_frames: geometries held out.  They are the last frames given, or copies of the
            structures until samples take their places.  Of more molecules (each at a level of
            theory) than that, some are drawn, and the certified error says nothing of the others.
        validate_every: training steps between validations.
        coarse_share: share of the run that trains, and samples, on the coarse grid, 0 to 1.  The
            rest trains on the level's own grid, as validation does all along, and goes on sampling
            on the coarse one; 0: neither is ever on the coarse grid.  The loss ``hamiltonian``
            needs no grid, and nothing changes for it.
        seed: seed of everything random.
        device: where training runs: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: threads of the trainer.  They share the geometries of a batch, and each runs
            torch's operations on its own; where there are fewer geometries, compiled kernels have
            several each.  Samplers of the engines ``local`` and ``ray`` have one each.
    """

    level: LevelOfTheory = field(default_factory=LevelOfTheory)
    levels: tuple[str, ...] = ()
    model: str = FRESH_FAMILY
    start_from: str | None = None
    scope: str | None = None
    model_config: dict[str, Any] = field(default_factory=dict)
    loss: str = "energy"
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    self_refine: bool = True
    data_fraction: float = 1.0
    frames_share: float = 0.5
    steps: int = 10_000
    minutes: float | None = None
    target_error_uEh: float | None = None
    target_worst_error_uEh: float | None = None
    train_steps_per_round: int = 64
    pretraining_steps: int = 0
    pretraining_frames: int = 64
    conformers: int = 4
    safe_width_mEh: float = 5.0
    buffer_size: int = 2048
    memory_gb: float = 4.0
    validation_frames: int = 16
    validate_every: int = 250
    coarse_share: float = 0.7
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        for name in self.levels:
            xc, _, basis = name.partition("/")
            require(bool(xc and basis), "levels", name, "functional/basis, such as PBE/def2-svp")
        object.__setattr__(self, "level", self.all_levels[0])
        distinct = len(set(self.all_levels)) == len(self.all_levels)
        require(distinct, "levels", list(self.levels), "each level once")
        require_choice(self, "loss", LOSSES)
        alone = self.loss == "energy" or not self.self_refine
        require(
            alone, "self_refine", True, "False with the loss 'hamiltonian': samples have no label"
        )
        require_at_least(1, self, "steps", "train_steps_per_round", "pretraining_frames")
        require_at_least(1, self, "conformers")
        require_at_least(1, self, "buffer_size", "validation_frames", "validate_every", "threads")
        require_positive(self, "memory_gb", "safe_width_mEh")
        require_positive(self, *(n for n in _OPTIONAL if getattr(self, n) is not None))
        enough = f"at least as many as there are samplers ({self.nsamplers})"
        walkers = self.sampling.walkers
        require(walkers >= self.nsamplers, "sampling.walkers", walkers, enough)
        require(0 <= self.frames_share <= 1, "frames_share", self.frames_share, "0 to 1")
        fraction = self.data_fraction
        require(0 < fraction <= 1, "data_fraction", fraction, "above 0, and 1 at most")
        require(0 <= self.coarse_share <= 1, "coarse_share", self.coarse_share, "0 to 1")
        require_at_least(0, self, "pretraining_steps")
        require(0 <= self.seed < _SEEDS, "seed", self.seed, "a whole number from 0 to 2^63 - 1")

    @property
    def all_levels(self) -> tuple[LevelOfTheory, ...]:
        """The levels of theory of the run."""
        if not self.levels:
            return (self.level,)
        named = [name.partition("/") for name in self.levels]
        return tuple(replace(self.level, xc=xc, basis=basis) for xc, _, basis in named)

    @property
    def nsamplers(self) -> int:
        """How many samplers share the walkers."""
        return 1 if self.engine.name == "sync" else self.engine.samplers

    @property
    def coarse_sampling(self) -> bool:
        """Whether sampling, and training to begin with, is on the coarse grid."""
        return self.coarse_share > 0

    @property
    def carried_bytes(self) -> int:
        """Memory of the integrals that the samples of a message bring along.

        They are there four times at once where a message is made: in the samples, joined, and
        twice in the file's bytes.
        """
        return int(self.memory_gb * 1e9 / 16)

    @property
    def sampler_cores(self) -> int:
        """How many cores of this machine samplers take."""
        beside = self.self_refine and self.engine.name == "local"
        on_cpu = "cpu" in (self.engine.sampler_devices or (self.device,))
        return self.engine.samplers if beside and on_cpu else 0

    def to_plain(self) -> dict[str, Any]:
        """Plain nested values, for YAML and JSON."""

        def plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
            return {n: list(value) if isinstance(value, tuple) else value for n, value in items}

        return asdict(self, dict_factory=plain)
