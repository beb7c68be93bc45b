"""Settings of sampling: how geometries are made, and where."""

from __future__ import annotations

from dataclasses import dataclass

from ase_srdft.common.checks import require, require_at_least, require_choice, require_positive

__all__ = ["DYNAMICS", "ENGINES", "EngineConfig", "SamplingConfig"]

#: The names of `ase_srdft.sampling.schemes.SCHEMES`, which a command's help need not load.
DYNAMICS = ("overdamped", "metropolis", "langevin")
ENGINES = ("sync", "local", "ray")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How geometries are sampled.

    Attributes:
        temperature_K: temperature of the sampled geometries in Kelvin.  Their distribution is
            exp(-E/kT).
        dynamics: ``overdamped``, ``metropolis`` or ``langevin``.  The first is the scheme of
            Leimkuhler and Matthews; the second accepts or refuses proposals of Euler and Maruyama,
            and each of its samples stands for the steps until its walker's next; the third is
            BAOAB.
        walkers: independent walkers over all molecules.  Those of a molecule advance in one batch.
            Of more than 16 molecules each has one, and so many move at a time: in a round some do,
            in the next one others, from where each was left.
        step_size: dimensionless step of the overdamped schemes, in units of the relaxation
            time that the model Hessian gives to every mode; below 2.
        timestep_fs: time step of ``langevin`` in femtoseconds.
        friction_per_fs: friction of ``langevin`` per femtosecond.
        steps_per_round: sampler steps of a round, all with the same weights; each gives one
            sample a walker at most.
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
        require_choice(self, "dynamics", DYNAMICS)
        require_positive(self, "temperature_K", "step_size", "timestep_fs", "friction_per_fs")
        require_positive(self, "energy_spike")
        require_at_least(1, self, "walkers", "steps_per_round")
        require(self.step_size < 2.0, "step_size", self.step_size, "less than 2, its limit")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where sampling runs, and what is done about trouble there.

    Attributes:
        name: where sampling runs: ``sync``, ``local`` or ``ray``.  The first samples and trains in
            turn, in one process; the samplers of the second are processes of this machine; those
            of the third are actors on the nodes of a Ray cluster.
        samplers: samplers, which share the walkers.  ``sync`` has one.
        sampler_devices: devices of the samplers, in turn; none: the trainer's.
        max_staleness: samples from weights that are more training steps old are refused.
        queue_size: messages of samples that wait for the trainer, of each sampler; a sampler waits
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
        require(self.name in ENGINES, "engine", self.name, " or ".join(ENGINES))
        require_at_least(1, self, "samplers", "queue_size")
        require_at_least(0, self, "max_staleness", "max_restarts")
        require_positive(self, "silence_seconds")
