"""Training runs of seconds: water in STO-3G on the coarsest grid, a network of a few features."""

from ase import Atoms
from ase.build import molecule

from ase_srdft.common.settings import from_plain
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.trainer import Trainer

PLAIN = {
    "level": {"xc": "LDA", "basis": "sto-3g", "grid_level": 0},
    "model_config": {"features": 8, "layers": 1, "nradial": 8},
    "sampling": {"walkers": 2, "steps_per_round": 2},
    "optimiser": {"batch_size": 4, "warmup_steps": 5, "average_decay": 0.9},
    "pretraining_frames": 8,
    "validation_frames": 4,
    "validate_every": 20,
    "train_steps_per_round": 8,
    "steps": 20,
    "engine": {"name": "sync"},
}


#: Two isomers whose atoms are listed in the same order.
HCN = Atoms("HCN", positions=[[0.0, 0.0, -1.067], [0.0, 0.0, 0.0], [0.0, 0.0, 1.153]])
HNC = Atoms("HCN", positions=[[0.0, 0.0, -0.995], [0.0, 0.0, 1.169], [0.0, 0.0, 0.0]])


def peroxide(torsion_degrees):
    """Hydrogen peroxide, whose conformers have the same bonds."""
    atoms = molecule("H2O2")
    atoms.set_dihedral(2, 0, 1, 3, torsion_degrees, indices=[3])
    return atoms


def plain_with(changes):
    """The plain values of a small run with some of them changed, nested ones by their own."""
    plain = {k: dict(v) if isinstance(v, dict) else v for k, v in PLAIN.items()}
    for name, value in changes.items():
        if isinstance(value, dict):
            plain[name] = plain.get(name, {}) | value
        else:
            plain[name] = value
    return plain


def small_config(**changes):
    return from_plain(TrainingConfig, plain_with(changes))


def small_dataset(*names, frames=()):
    """Structures by name (water if none is given) and frames."""
    return Dataset.of([molecule(name) for name in names or ("H2O",)], frames)


def small_trainer(dataset=None, ranks=None, may_publish=None, **changes):
    return Trainer(
        small_config(**changes), dataset or small_dataset(), ranks=ranks, may_publish=may_publish
    )


def rattled(nframes, name="H2O", stdev=0.02):
    """Frames of a molecule, each displaced at random (Angstrom)."""
    frames = []
    for seed in range(nframes):
        atoms = molecule(name)
        atoms.rattle(stdev, seed=seed)
        frames.append(atoms)
    return frames


def events_of(trainer, kind):
    """Run to the end; the records of one kind with the step each came at."""
    return [(e.step, getattr(e, kind)) for e in trainer.run() if getattr(e, kind) is not None]


def sampling_trainer(dataset=None, ranks=None, **changes):
    """A trainer that samples from its first step on, whatever the bracket."""
    trainer = small_trainer(dataset, ranks, **changes)
    trainer.begin()
    trainer.sampling.place_walkers()
    return trainer
