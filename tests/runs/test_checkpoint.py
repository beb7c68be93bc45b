"""Restart equals the uninterrupted run, and nothing else is gone on from."""

import copy
import os
from dataclasses import asdict

import h5py
import numpy as np
import pytest

from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.runs import checkpoint
from ase_srdft.runs.checkpoint import CHECKPOINT, load_checkpoint, run_identity, save_checkpoint
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import ValidationCounters
from tests.tools.small_models import ORBITAL_NETWORK
from tests.tools.small_training import (
    HCN,
    HNC,
    events_of,
    peroxide,
    rattled,
    sampling_trainer,
    small_dataset,
    small_trainer,
)

PREVIOUS = "checkpoint.previous.h5"


def run_until(trainer, step):
    """Go on to a step and stop there as a signal does."""
    trainer.stop_requested = False
    for event in trainer.run():
        trainer.stop_requested = event.step >= step
    assert trainer.updater.step == step
    return trainer


def everything(trainer):
    """All that decides how a run goes on, as arrays and plain values."""
    updater, source = trainer.updater, trainer.buffer
    arrays = {f"model.{n}": t for n, t in updater.model.state_dict().items()}
    arrays |= {f"averaged.{n}": t for n, t in updater.averaged.state_dict().items()}
    arrays |= {f"best.{n}": t for n, t in trainer.validator.best.items()}
    arrays |= {f"kept.{n}": t for n, t in updater.rollback_weights.items()}
    for index, entries in updater.optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser.{index}.{n}": t for n, t in entries.items()}
    for state in trainer.sampling.checkpoints:
        arrays |= {f"{state.sampler}.{n}": array for n, array in state.arrays.items()}
    for i, key in enumerate(source.samples):
        arrays[f"sample.{i}"] = trainer.cache.positions_of(key)
    for i, key in enumerate(trainer.held_out.keys):
        arrays[f"validation.{i}"] = trainer.held_out.cache.positions_of(key)
    arrays["widths"] = np.asarray(source.widths)
    arrays["molecule_widths"] = source.brackets.widths
    counters = trainer.to_plain()["counters"]
    plain = {
        "counters": {name: value for name, value in counters.items() if name != "elapsed"},
        "step": updater.step,
        "pace": asdict(updater.guard),
        "pass_left": source.pass_left,
        "carried": source.carried,
        "molecules": [trainer.cache.molecule_of(key) for key in source.samples],
        "held": [trainer.held_out.cache.molecule_of(key) for key in trainer.held_out.keys],
        "samplers": [
            (s.sampler, s.nmessages, s.version, s.rng) for s in trainer.sampling.checkpoints
        ],
        "batch_rng": trainer.batch_rng.bit_generator.state,
        "sampler_rng": trainer.sampling.rng.bit_generator.state,
    }
    return copy.deepcopy(({name: np.asarray(array) for name, array in arrays.items()}, plain))


def assert_identical(first, second):
    (arrays, plain), (others, other_plain) = first, second
    assert sorted(arrays) == sorted(others)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    assert plain == other_plain


def datasets():
    return {
        "water alone": small_dataset(),
        "two molecules": small_dataset("H2O", "H2"),
        "frames": small_dataset(frames=rattled(9)),
        "isomers": Dataset.of([HCN, HNC]),
        "conformers": Dataset.of([peroxide(torsion) for torsion in (90.0, 180.0, -90.0)]),
    }


def slow(*values):
    """A case of the slow suite."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("begun", "data", "dynamics", "at"),
    [
        slow(small_trainer, "water alone", "overdamped", 33),  # it samples from step 56 on
        slow(sampling_trainer, "water alone", "overdamped", 18),
        slow(sampling_trainer, "water alone", "langevin", 16),
        (sampling_trainer, "water alone", "metropolis", 19),
        (sampling_trainer, "two molecules", "overdamped", 15),
        (sampling_trainer, "frames", "overdamped", 18),
        slow(sampling_trainer, "isomers", "overdamped", 17),
        slow(sampling_trainer, "conformers", "langevin", 17),
    ],
)
def test_restart_equals_the_uninterrupted_run(begun, data, dynamics, at, tmp_path):
    settings = {
        "steps": 60 if begun is small_trainer else 30,
        "safe_width_mEh": 1e3,
        "sampling": {"dynamics": dynamics},
        "frames_share": 0.3,
    }
    if data == "two molecules":  # and a buffer that overflows
        settings |= {"selection": {"exponent": 1.0}, "buffer_size": 18}
    whole = begun(datasets()[data], **settings)
    for event in whole.run():
        if event.step == at and event.training:
            save_checkpoint(tmp_path, whole)
            halfway = everything(whole)
    assert whole.counters.nsamples > 0
    resumed = small_trainer(datasets()[data], **settings)
    assert load_checkpoint(tmp_path, resumed)
    assert_identical(everything(resumed), halfway)
    assert resumed.counters.elapsed > 0.0
    for _ in resumed.run():
        pass
    assert_identical(everything(resumed), everything(whole))
    final = everything(whole)[0]
    changed = [n for n, array in halfway[0].items() if not np.array_equal(array, final[n])]
    assert len(changed) > 20


def test_restart_with_molecules_that_take_turns(tmp_path, monkeypatch):
    monkeypatch.setattr("ase_srdft.training.data.starts._MOST_WITH_A_WALKER", 1)
    monkeypatch.setattr("ase_srdft.common.named_arrays._MOST_ALONE", 4)
    settings = {"steps": 26, "sampling": {"walkers": 1}, "train_steps_per_round": 5}
    whole = sampling_trainer(datasets()["two molecules"], **settings)
    assert whole.notes[0].startswith("2 molecules are given: dynamics goes from one to the next")
    for event in whole.run():
        if event.step == 11 and event.training:
            save_checkpoint(tmp_path, whole)
    assert whole.counters.sampled_molecules == [0, 1]
    resumed = small_trainer(datasets()["two molecules"], **settings)
    assert load_checkpoint(tmp_path, resumed)
    seen = [{s.molecule for s in r.samples} for _, r in events_of(resumed, "sampling")]
    assert [len(molecules) for molecules in seen] == [1, 1, 1]
    assert seen[0] != seen[1] != seen[2]
    assert_identical(everything(resumed), everything(whole))


@pytest.mark.parametrize("family", ["coefficient", "qpt"])
def test_restart_draws_the_axes_that_it_would_have_drawn(family, tmp_path):
    settings = {"model": family, "model_config": ORBITAL_NETWORK | {"frame": "random"}}
    settings |= {"self_refine": False, "steps": 6}

    def trainer():
        return small_trainer(small_dataset(frames=rattled(9)), **settings)

    whole = trainer()
    for event in whole.run():
        if event.step == 3 and event.training:
            save_checkpoint(tmp_path, whole)
    resumed = trainer()
    assert load_checkpoint(tmp_path, resumed)
    assert int(resumed.updater.model.tokens.ndrawn) == 3
    for _ in resumed.run():
        pass
    assert int(whole.updater.model.tokens.ndrawn) == 6
    assert_identical(everything(resumed), everything(whole))


def test_a_checkpoint_before_the_first_step(tmp_path):
    first = small_trainer(steps=3)
    save_checkpoint(tmp_path, first)
    second = small_trainer(steps=3)
    assert load_checkpoint(tmp_path, second)
    assert_identical(everything(run_until(second, 3)), everything(run_until(first, 3)))


def test_no_checkpoint(tmp_path):
    trainer = small_trainer()
    assert not load_checkpoint(tmp_path, trainer)
    assert trainer.updater.step == 0
    assert list(tmp_path.iterdir()) == []


def test_time_adds_up(tmp_path):
    first = small_trainer()
    first.elapsed_before = 1000.0
    run_until(first, 2)
    save_checkpoint(tmp_path, first)
    second = small_trainer()
    load_checkpoint(tmp_path, second)
    assert second.elapsed > 1000.0
    assert second.elapsed - 1000.0 < 500.0


def test_the_learning_rate_of_a_checkpoint_stays(tmp_path):
    save_checkpoint(tmp_path, small_trainer(optimiser={"learning_rate": 4e-3}))
    second = small_trainer()
    assert second.config.optimiser.learning_rate == 1e-2
    assert load_checkpoint(tmp_path, second)
    assert second.config.optimiser.learning_rate == 4e-3
    second.begin()
    assert second.train(0.0).learning_rate == pytest.approx(4e-3 / 5)


# Whose checkpoint it is


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, "seed was 0 and is 5"),
        ({"level": {"xc": "PBE"}}, "level.xc was 'LDA' and is 'PBE'"),
        ({"level": {"density_fitting": False}}, "level.density_fitting was True and is False"),
        ({"sampling": {"temperature_K": 300.0}}, "sampling.temperature_K was 500.0 and is 300.0"),
        ({"optimiser": {"batch_size": 3}}, "optimiser.batch_size was 4 and is 3"),
        ({"optimiser": {"learning_rate": 0.5}}, "optimiser.learning_rate was 0.01 and is 0.5"),
        ({"model_config": {"features": 4}}, "model_config.features was 8 and is 4"),
        ({"model_config": {"guess": "minao"}}, "model_config.guess was None and is 'minao'"),
        ({"validate_every": 7, "seed": 1}, "seed was 0 and is 1; validate_every was 20 and is 7"),
    ],
)
def test_other_settings_are_refused_by_name(changes, message, tmp_path):
    save_checkpoint(tmp_path, small_trainer())
    other = small_trainer(**changes)
    before = everything(other)[0]
    with pytest.raises(BadInput) as caught:
        load_checkpoint(tmp_path, other)
    assert f"{tmp_path} holds a run with other settings ({message}): use the same" in str(
        caught.value
    )
    for name, array in everything(other)[0].items():  # and nothing is half-loaded
        np.testing.assert_array_equal(array, before[name])


def test_a_run_of_before_there_was_a_setting_goes_on(tmp_path, monkeypatch):
    trainer = small_trainer()
    trainer.begin()
    trainer.train(0.0)
    identity = run_identity(trainer)
    for name in ("levels", "start_from", "coarse_share"):
        del identity["settings"][name]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "run_identity", lambda _: identity)
        save_checkpoint(tmp_path, trainer)
    again = small_trainer()
    assert load_checkpoint(tmp_path, again)
    assert again.updater.step == 1
    with pytest.raises(BadInput, match=r"coarse_share was 0\.7 and is 0\.5"):
        load_checkpoint(tmp_path, small_trainer(coarse_share=0.5))


def test_a_run_at_several_levels_of_0_2_goes_on(tmp_path, monkeypatch):
    """Its settings had a level of their own beside them, which nothing was trained at."""
    small = {"model": "potential", "model_config": {"features": 8, "layers": 1}}
    levels = {"levels": ("LDA/sto-3g", "PBE/sto-3g")}
    trainer = small_trainer(small_dataset("H2"), **small, **levels)
    identity = run_identity(trainer)
    identity["settings"]["level"] |= {"xc": "B3LYP", "basis": "def2-svp"}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "run_identity", lambda _: identity)
        save_checkpoint(tmp_path, trainer)
    assert load_checkpoint(tmp_path, small_trainer(small_dataset("H2"), **small, **levels))
    other = small_trainer(small_dataset("H2"), **small, levels=("LDA/sto-3g",))
    with pytest.raises(BadInput, match=r"with other settings \(levels was"):
        load_checkpoint(tmp_path, other)


def test_other_data_are_refused(tmp_path):
    save_checkpoint(tmp_path, small_trainer(small_dataset(frames=rattled(4))))
    for data in (small_dataset(), small_dataset(frames=rattled(5)), small_dataset("H2O", "H2")):
        with pytest.raises(BadInput, match="holds a run on other structures or frames"):
            load_checkpoint(tmp_path, small_trainer(data))
    assert load_checkpoint(tmp_path, small_trainer(small_dataset(frames=rattled(4))))


def test_limits_and_the_machine_may_change(tmp_path):
    save_checkpoint(tmp_path, run_until(small_trainer(), 2))
    changes = {
        "steps": 50,
        "minutes": 3.0,
        "target_error_uEh": 7.0,
        "threads": 2,
        "scope": "water alone",
        "memory_gb": 1.0,
    }
    other = small_trainer(**changes)
    assert load_checkpoint(tmp_path, other)
    assert (other.updater.step, other.config.steps) == (2, 50)


def test_a_new_target_that_is_met_already_is_reached_at_once(tmp_path):
    trainer = run_until(small_trainer(steps=30), 20)
    trainer.stop_requested = False
    width = 1e6 * trainer.validator.validate().bracket_width
    assert width > 0.0
    save_checkpoint(tmp_path, trainer)
    for target, reached in ((1.1 * width, True), (0.9 * width, False)):
        again = small_trainer(steps=30, target_error_uEh=target)
        assert load_checkpoint(tmp_path, again)
        assert again.target_is_reached is reached
        steps = [event.step for event in again.run() if event.training]
        assert len(steps) == (0 if reached else 10)
    # and once more, as the command may be given again
    again = small_trainer(steps=30, target_error_uEh=1.1 * width)
    load_checkpoint(tmp_path, again)
    save_checkpoint(tmp_path, again)
    third = small_trainer(steps=30, target_error_uEh=1.1 * width)
    load_checkpoint(tmp_path, third)
    assert third.target_is_reached


def test_a_restart_with_the_same_target_waits_for_dynamics_as_before(tmp_path):
    trainer = run_until(small_trainer(steps=30, target_error_uEh=1e9), 20)
    trainer.stop_requested = False
    assert trainer.validator.validate().bracket_width > 0.0
    save_checkpoint(tmp_path, trainer)
    again = small_trainer(steps=30, target_error_uEh=1e9)
    load_checkpoint(tmp_path, again)
    assert not again.target_is_reached
    assert len([event for event in again.run() if event.training]) == 10


def test_counters_of_an_older_version(tmp_path, monkeypatch):
    """What they did not count is as if the best width was that of the present set, as it was."""
    trainer = small_trainer()
    trainer.begin()
    trainer.held_out.replaced = [0, 1, 2, 3]
    trainer.validator.counters = ValidationCounters(best_width=1e-5)
    new = ("best_largest_width", "set_has_changed", "validated_nsampled", "met_target_uEh")
    plain = trainer.to_plain()
    for name in (*new, "copies_moved_fs"):
        del plain["counters"][name]
    monkeypatch.setattr(trainer, "to_plain", lambda: plain)
    save_checkpoint(tmp_path, trainer)
    again = small_trainer(target_error_uEh=20.0)
    assert load_checkpoint(tmp_path, again)
    assert again.counters.validated_nsampled == 4
    assert again.target_is_reached


def test_identity_is_plain_and_leaves_the_limits_out():
    trainer = small_trainer(steps=5)
    identity = run_identity(trainer)
    assert identity == run_identity(small_trainer(steps=9, minutes=1.0))
    assert identity != run_identity(small_trainer(seed=1))
    assert identity["settings"]["sampling"]["walkers"] == 2
    assert identity["data"] == trainer.dataset.fingerprint


# Damage


@pytest.fixture(scope="module")
def checkpointed():
    return run_until(small_trainer(), 2)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(bytes(content))


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = {
    "emptied": lambda path: os.truncate(path, 0),
    "truncated": truncate,
    "overwritten": lambda path: path.write_text("not a checkpoint"),
    "a weight altered": lambda path: flip(path, -100),
    "first byte altered": lambda path: flip(path, 0),
    "record altered": lambda path: path.write_bytes(
        path.read_bytes().replace(b'"nsamples": 0', b'"nsamples": 1')
    ),
    "of another version": lambda path: path.write_bytes(
        path.read_bytes().replace(b"ase_srdft checkpoint 2", b"ase_srdft checkpoint 9")
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_the_previous_checkpoint_taken(damage, checkpointed, tmp_path):
    save_checkpoint(tmp_path, checkpointed)
    good = (tmp_path / CHECKPOINT).read_bytes()
    damage(tmp_path / CHECKPOINT)
    assert (tmp_path / CHECKPOINT).read_bytes() != good

    trainer = small_trainer()
    with pytest.raises(DamagedFile, match=r"damaged checkpoint: .*: restore it, or train in"):
        load_checkpoint(tmp_path, trainer)
    assert trainer.updater.step == 0

    (tmp_path / PREVIOUS).write_bytes(good)
    assert load_checkpoint(tmp_path, trainer)
    assert_identical(everything(trainer), everything(checkpointed))

    damage(tmp_path / PREVIOUS)
    with pytest.raises(DamagedFile) as caught:
        load_checkpoint(tmp_path, small_trainer())
    assert CHECKPOINT in str(caught.value)
    assert PREVIOUS in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_any_altered_byte_is_noticed(checkpointed, tmp_path):
    save_checkpoint(tmp_path, checkpointed)
    path = tmp_path / CHECKPOINT
    good = path.read_bytes()
    for position in np.random.default_rng(0).integers(len(good), size=40):
        flip(path, int(position))
        with pytest.raises(DamagedFile):
            load_checkpoint(tmp_path, small_trainer())
        path.write_bytes(good)
    assert load_checkpoint(tmp_path, small_trainer())


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    checkpointed, tmp_path, monkeypatch
):
    save_checkpoint(tmp_path, small_trainer())

    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("ase_srdft.runs.checkpoint.write_atomically", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, checkpointed)
    trainer = small_trainer()
    assert load_checkpoint(tmp_path, trainer)
    assert trainer.updater.step == 0


def test_only_one_file_remains(checkpointed, tmp_path):
    for _ in range(2):
        save_checkpoint(tmp_path, checkpointed)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    with h5py.File(tmp_path / CHECKPOINT) as file:  # for any reader of HDF5
        assert {"buffer", "optimiser", "record", "validation", "weights"} == set(file)
        assert file["buffer/positions"].dtype == np.float64
        assert len(file["buffer/molecule"]) == len(checkpointed.buffer.samples) > 0
