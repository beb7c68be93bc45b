"""What test_ranks runs as each of several ranks: a scenario after the other, and what came of it.

    python -m tests.tools.rank_probe FOLDER

It leaves ``FOLDER/RANK.pickle``: for each scenario its result, or the exception that it raised.
"""

import pickle
import sys
from pathlib import Path

import torch

from ase_srdft.common.errors import BadInput, SamplingFailed
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.runs.checkpoint import load_checkpoint, save_checkpoint
from ase_srdft.training.data.dataset import Dataset
from tests.runs.test_checkpoint import everything
from tests.tools.small_labels import small_labels
from tests.tools.small_training import sampling_trainer, small_dataset, small_trainer

#: Five geometries for two ranks.
TRAINING = {"optimiser": {"batch_size": 5}, "steps": 12, "validate_every": 4}
SAMPLING = TRAINING | {
    "steps": 18,
    "buffer_size": 20,
    "validation_frames": 5,
    "selection": {"exponent": 1.0},
}


def two_molecules():
    return small_dataset("H2O", "H2")


def trained(ranks, folder):
    """Weights before, after, of the average, and records."""
    trainer = small_trainer(two_molecules(), ranks=ranks, **TRAINING)
    before = weights_of(trainer.updater.model)
    events = list(trainer.run())
    return {
        "before": before,
        "after": weights_of(trainer.updater.model),
        "averaged": weights_of(trainer.updater.averaged),
        "training": [event.training for event in events if event.training],
        "validations": [event.validation for event in events if event.validation],
        "prepared": len(trainer.cache._prepared),
    }


def supervised(ranks, folder):
    """Trained on labels."""
    settings = TRAINING | {"loss": "hamiltonian", "self_refine": False}
    trainer = small_trainer(Dataset.of([], labels=small_labels(9)), ranks=ranks, **settings)
    errors = [event.training.hamiltonian_error for event in trainer.run() if event.training]
    return {"after": weights_of(trainer.updater.model), "errors": errors}


def sampled(ranks, folder):
    """All that decides how the run would go on."""
    trainer = sampling_trainer(two_molecules(), ranks=ranks, **SAMPLING)
    for _ in trainer.run():
        pass
    return everything(trainer)


def gone_on(ranks, folder):
    """The same with a restart at step 7, from the lead's checkpoint."""
    trainer = sampling_trainer(two_molecules(), ranks=ranks, **SAMPLING)
    for event in trainer.run():
        trainer.stop_requested = event.step >= 7 and ranks.is_lead
    if ranks.is_lead:
        save_checkpoint(folder, trainer)
    ranks.gather(None)
    trainer = small_trainer(two_molecules(), ranks=ranks, **SAMPLING)
    assert load_checkpoint(folder, trainer)
    assert trainer.updater.step == 7
    for _ in trainer.run():
        pass
    return everything(trainer)


def diverged(ranks, folder):
    """One rank alone has no orbitals."""
    trainer = small_trainer(ranks=ranks)
    trainer.begin()
    if not ranks.is_lead:
        prepare = trainer.cache._prepare

        def spoilt(key):
            geometry = prepare(key)
            geometry.guess_fock.fill_(torch.nan)
            return geometry

        trainer.cache._prepare = spoilt
    trainer.train(0.0)


def no_samples(ranks, folder):
    """The lead's engine gives up."""
    trainer = sampling_trainer(ranks=ranks)

    def fail():
        raise SamplingFailed("of the lead")

    if ranks.is_lead:
        trainer.sampling.pool.pool.collect = fail
    for _ in trainer.run():
        pass


def refused(ranks, folder):
    """The second rank alone refuses its input."""

    def work():
        if ranks.rank == 1:
            raise BadInput("no such file")

    ranks.run_on_all(work)


def differing(ranks, folder):
    ranks.check_same({"seed": ranks.rank}, "settings")


def words(ranks, folder):
    """What the small exchanges give."""
    return {
        "broadcast": ranks.broadcast(f"of {ranks.rank}"),
        "gather": ranks.gather(ranks.rank),
        "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        "sum": ranks.sum(torch.tensor([1.0, float(ranks.rank)]).numpy()).tolist(),
        "joined": [t.tolist() for t in ranks.gather_pairs(_two_lists(ranks))],
        "joined with none": ranks.gather_pairs(None if ranks.is_lead else _two_lists(ranks)),
        "run_on_lead": ranks.run_on_lead(lambda: ranks.rank, lambda result: result + 10),
        "device": ranks.device_name("cuda"),
    }


def _two_lists(ranks):
    own = torch.arange(float(ranks.rank + 1), requires_grad=True)
    return own, 10.0 * own


def weights_of(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


SCENARIOS = (trained, supervised, sampled, gone_on, diverged, no_samples, refused, differing, words)


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    results = {}
    with Ranks.from_environment(timeout_seconds=60.0) as ranks:
        for scenario in SCENARIOS:
            try:
                results[scenario.__name__] = scenario(ranks, folder)
            except (BadInput, SamplingFailed, FloatingPointError) as err:
                results[scenario.__name__] = err
    (folder / f"{ranks.rank}.pickle").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main()
