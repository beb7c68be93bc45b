"""The one source of configuration; the command line and YAML files derive from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from math import isfinite
from typing import Any, TypeVar

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.level_of_theory import LevelOfTheory

__all__ = [
    "DYNAMICS",
    "ENGINES",
    "LOSSES",
    "EngineConfig",
    "OptimiserConfig",
    "SamplingConfig",
    "SelectionConfig",
    "TrainingConfig",
    "from_plain",
]

DYNAMICS = ("overdamped", "metropolis", "langevin")
ENGINES = ("sync", "local", "ray")
LOSSES = ("energy", "hamiltonian")

_Config = TypeVar("_Config")


#: What both numpy and torch take as a seed.
_SEEDS = 2**63
#: Limits of a run that may be absent.
_OPTIONAL = ("minutes", "target_error_uEh")


def _require(condition: bool, name: str, value: object, what: str) -> None:
    if not condition:
        raise BadInput(f"{name} is {value!r}: use {what}")


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value > 0 and isfinite(value), name, value, "a positive number")


def _require_at_least(lowest: int, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value >= lowest and isfinite(value), name, value, f"at least {lowest}")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How geometries are sampled.

    Attributes:
        temperature_K: of the sampled distribution exp(-E/kT).
        dynamics: ``overdamped`` (Leimkuhler-Matthews), ``metropolis`` (the same proposal,
            accepted or refused) or ``langevin`` (BAOAB).
        walkers: independent walkers over all molecules, advanced in one batch per molecule.
        step_size: dimensionless step of the overdamped schemes, in units of the relaxation
            time that the model Hessian gives to every mode.
        timestep_fs: time step of ``langevin``.
        friction_per_fs: friction of ``langevin``.
        steps_per_round: sampler steps of a chunk, all with the same weights; each gives one
            sample a walker.
        allow_reactions: keep samples whose bonds differ from the given structure's.
        energy_spike: a sample is refused this many standard deviations above the mean thermal
            potential energy, counted from the lowest energy seen.
    """

    temperature_K: float = 500.0
    dynamics: str = "overdamped"
    walkers: int = 4
    step_size: float = 0.3
    timestep_fs: float = 1.0
    friction_per_fs: float = 0.02
    steps_per_round: int = 4
    allow_reactions: bool = False
    energy_spike: float = 8.0

    def __post_init__(self) -> None:
        _require(self.dynamics in DYNAMICS, "dynamics", self.dynamics, " or ".join(DYNAMICS))
        _require_positive(self, "temperature_K", "step_size", "timestep_fs", "friction_per_fs")
        _require_positive(self, "energy_spike")
        _require_at_least(1, self, "walkers", "steps_per_round")
        _require(self.step_size < 2.0, "step_size", self.step_size, "less than 2, its limit")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How the weights are trained.

    Attributes:
        batch_size: geometries a step.
        learning_rate: highest, after the warm-up.
        final_learning_rate: lowest, at the end of the cosine.
        warmup_steps: linear rise.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient (Hartree).
        average_decay: of the exponential average of the weights that is saved and sampled with.
    """

    batch_size: int = 8
    learning_rate: float = 1.0e-2
    final_learning_rate: float = 1.0e-5
    warmup_steps: int = 100
    weight_decay: float = 1.0e-6
    gradient_clip: float = 1.0
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        _require_positive(self, "learning_rate", "gradient_clip")
        _require_at_least(1, self, "batch_size", "warmup_steps")
        _require_at_least(0, self, "final_learning_rate", "weight_decay")
        _require(0 < self.average_decay < 1, "average_decay", self.average_decay, "0 to 1")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where sampling runs, and what is done about trouble there.

    Attributes:
        name: ``sync`` (sampling and training in turn, in one process), ``local`` (samplers are
            processes of this machine) or ``ray`` (actors on the nodes of a Ray cluster).
        samplers: how many there are, besides ``sync``; the walkers are shared out over them.
        sampler_devices: where they compute, in turn; the trainer's device if none is named.
        max_staleness: samples from weights that are more training steps old are refused.
        queue_size: chunks of samples that wait for the trainer, of each sampler; a sampler waits
            while there are so many.
        max_restarts: times that a dead or silent sampler is started again, all together.
        silence_seconds: a sampler that shows no sign of life for so long is taken for dead; more
            than one force call takes.
    """

    name: str = "local"
    samplers: int = 1
    sampler_devices: tuple[str, ...] = ()
    max_staleness: int = 500
    queue_size: int = 2
    max_restarts: int = 5
    silence_seconds: float = 300.0

    def __post_init__(self) -> None:
        _require(self.name in ENGINES, "engine", self.name, " or ".join(ENGINES))
        _require_at_least(1, self, "samplers", "queue_size")
        _require_at_least(0, self, "max_staleness", "max_restarts")
        _require_positive(self, "silence_seconds")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which sampled geometries are trained on most and kept longest.

    Attributes:
        exponent: of the bracket width in the probability of a draw, and whether a full buffer
            lets go of what has a narrow bracket; 0 draws uniformly, first in first out.
        uniform_share: of the probability that is spread evenly, above 0 to 1.
        clip: a bracket counts for at most this many times the median one, at least 1.
    """

    exponent: float = 0.0
    uniform_share: float = 0.5
    clip: float = 10.0

    def __post_init__(self) -> None:
        _require_at_least(0, self, "exponent")
        _require_at_least(1, self, "clip")
        share = self.uniform_share
        _require(0 < share <= 1, "uniform_share", share, "above 0, and 1 at most")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training run.

    Attributes:
        level: level of theory.
        model: family of the electronic-state model.
        model_config: its configuration, plain values.
        loss: ``energy`` of the predicted state, which needs no labels, or ``hamiltonian``: error
            of the predicted Fock matrix against labels, on given frames alone.
        sampling: how geometries are sampled.
        optimiser: how the weights are trained.
        engine: where sampling runs.
        selection: which sampled geometries are trained on most and kept longest.
        self_refine: sample with the model while training; else train on given frames alone.
        data_fraction: share of the given frames that is trained on, evenly spaced over all but
            those held out; one at least.
        frames_share: share of a batch from given frames, where both kinds are there.
        steps: training steps at most.
        minutes: wall-clock limit; the learning rate follows whichever of the two is nearer its
            end, so a run that is limited by time is not reproducible to the bit.
        target_error_uEh: stop when the validated bracket is narrower (microhartree).
        train_steps_per_round: training steps between new weights for the samplers; with the
            engine ``sync`` also between rounds of sampling.
        pretraining_steps: training steps before dynamics may start.
        pretraining_frames: rattled copies to begin with, where no frames are given.
        safe_width_mEh: dynamics starts when the bracket is narrower (millihartree).
        buffer_size: sampled geometries kept; who leaves is for ``selection``.
        memory_gb: of integrals kept with geometries, a fifth of it for those held out.
        validation_frames: frames held out, the last ones given or some of those sampled.
        validate_every: training steps between validations.
        coarse_share: share of the run that trains, and samples, on the coarse grid.  The rest of
            it trains on the level's own grid, as validation does all along, and goes on sampling
            on the coarse one; 0: neither is ever on the coarse grid.  The loss ``hamiltonian``
            needs no grid, and nothing changes for it.
        seed: of everything random.
        device: where training runs.
        threads: of the trainer, over the geometries of a batch; each runs torch's operations on
            its own.  Samplers of the engines ``local`` and ``ray`` have one each.
    """

    level: LevelOfTheory = field(default_factory=LevelOfTheory)
    model: str = "fock"
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
    train_steps_per_round: int = 64
    pretraining_steps: int = 0
    pretraining_frames: int = 64
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
        _require(self.loss in LOSSES, "loss", self.loss, " or ".join(LOSSES))
        alone = self.loss == "energy" or not self.self_refine
        _require(
            alone, "self_refine", True, "False with the loss 'hamiltonian': samples have no label"
        )
        _require_at_least(1, self, "steps", "train_steps_per_round", "pretraining_frames")
        _require_at_least(1, self, "buffer_size", "validation_frames", "validate_every", "threads")
        _require_positive(self, "memory_gb", "safe_width_mEh")
        _require_positive(self, *(n for n in _OPTIONAL if getattr(self, n) is not None))
        enough = f"at least as many as there are samplers ({self.nsamplers})"
        walkers = self.sampling.walkers
        _require(walkers >= self.nsamplers, "sampling.walkers", walkers, enough)
        _require(0 <= self.frames_share <= 1, "frames_share", self.frames_share, "0 to 1")
        fraction = self.data_fraction
        _require(0 < fraction <= 1, "data_fraction", fraction, "above 0, and 1 at most")
        _require(0 <= self.coarse_share <= 1, "coarse_share", self.coarse_share, "0 to 1")
        _require_at_least(0, self, "pretraining_steps")
        _require(0 <= self.seed < _SEEDS, "seed", self.seed, "a whole number from 0 to 2^63 - 1")

    @property
    def nsamplers(self) -> int:
        """How many samplers share the walkers."""
        return 1 if self.engine.name == "sync" else self.engine.samplers

    @property
    def coarse_sampling(self) -> bool:
        """Whether sampling, and training to begin with, is on the coarse grid."""
        return self.coarse_share > 0

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


def from_plain(cls: type[_Config], values: object, where: str = "") -> _Config:
    """A configuration from plain nested values; what is not given keeps its default.

    Raises:
        BadInput: unknown name, wrong type, or a value that the class refuses.
    """
    if not isinstance(values, dict):
        raise BadInput(f"{where or 'the configuration'} is {values!r}: use name: value pairs")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    prepared: dict[str, Any] = {}
    for name, value in values.items():
        label = f"{where}.{name}" if where else str(name)
        if name not in known:
            raise BadInput(f"unknown setting {label!r}: use one of {', '.join(known)}")
        factory: Any = known[name].default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            prepared[name] = from_plain(factory, value, label)
        else:
            prepared[name] = _checked(known[name].type, value, label)
    return cls(**prepared)


def _checked(annotation: Any, value: Any, label: str) -> Any:
    """A leaf value of the annotated type; whole numbers will do for floats."""
    if str(annotation).startswith("tuple") and isinstance(value, (list, tuple)):
        return tuple(_checked("str", entry, f"an entry of {label}") for entry in value)
    kinds: dict[str, type | tuple[type, ...]] = {
        "int": int,
        "float": (int, float),
        "str": str,
        "bool": bool,
        "dict": dict,
        "tuple": (list, tuple),
        "None": type(None),
    }
    parts = [part.strip().split("[")[0] for part in str(annotation).split("|")]
    allowed = tuple(kinds[part] for part in parts)
    flat = tuple(k for kind in allowed for k in (kind if isinstance(kind, tuple) else (kind,)))
    if not isinstance(value, flat) or (isinstance(value, bool) and bool not in flat):
        raise BadInput(f"{label} is {value!r}: use {' or '.join(parts)}")
    return float(value) if "float" in parts and isinstance(value, int) else value
