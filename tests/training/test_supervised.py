"""Training on labels: the held-out error falls, and a restart equals the uninterrupted run."""

import json
import math

import numpy as np
import pytest

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.runs.checkpoint import load_checkpoint, save_checkpoint
from ase_srdft.runs.report.history import read_history
from ase_srdft.runs.run_directory import RunDirectory
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import ValidationCounters
from tests.runs.test_checkpoint import assert_identical, everything
from tests.tools.small_labels import small_labels
from tests.tools.small_training import events_of, rattled, small_trainer

SUPERVISED = {
    "loss": "hamiltonian",
    "self_refine": False,
    "steps": 30,
    "validate_every": 10,
}


def supervised_trainer(labels=None, **changes):
    data = Dataset.of([], labels=labels or small_labels(12))
    return small_trainer(data, **SUPERVISED | changes)


def test_held_out_error_falls_and_with_it_the_bracket():
    trainer = supervised_trainer(steps=150, validate_every=50)
    before = trainer.validator.validate()
    trainer.validator.counters = ValidationCounters()
    validations = [validation for _, validation in events_of(trainer, "validation")]
    assert len(validations) == 3
    assert before.hamiltonian_error > 5e-3
    assert validations[-1].hamiltonian_error < before.hamiltonian_error / 4
    assert validations[-1].bracket_width < before.bracket_width / 4
    assert trainer.counters.nsamples == 0


def test_trains_on_all_but_the_last_frames():
    trainer = supervised_trainer()
    assert len(trainer.buffer.frames) == 8
    held = [trainer.held_out.cache.positions_of(key) for key in trainer.held_out.keys]
    for positions, label in zip(held, small_labels(12).labels[8:], strict=True):
        np.testing.assert_array_equal(positions, label.positions)


def test_training_on_labels_stays_on_the_coarse_grid_which_it_does_not_use():
    trainer = supervised_trainer()
    for _ in trainer.run():
        pass
    assert trainer.progress == 1.0 > trainer.config.coarse_share
    assert trainer.cache.grid_level == COARSE_GRID


def test_frames_choose_among_the_labels():
    frames = rattled(6, stdev=0.05)
    data = Dataset.of([], frames[1:4], small_labels(6))
    assert len(data.frames) == 3
    np.testing.assert_array_equal(data.frames[0][1], small_labels(6).labels[1].positions)
    with pytest.raises(BadInput, match="a geometry of H2O has no label: train on the frames"):
        Dataset.of([], rattled(7, stdev=0.05), small_labels(6))


def test_restart_equals_the_uninterrupted_run(tmp_path):
    whole = supervised_trainer()
    for event in whole.run():
        if event.step == 13 and event.training:
            save_checkpoint(tmp_path, whole)
    resumed = supervised_trainer()
    assert load_checkpoint(tmp_path, resumed)
    assert resumed.updater.step == 13
    for _ in resumed.run():
        pass
    assert_identical(everything(resumed), everything(whole))


def test_a_run_on_other_labels_is_not_gone_on_with(tmp_path):
    save_checkpoint(tmp_path, supervised_trainer())
    with pytest.raises(BadInput, match="holds a run on other structures or frames"):
        load_checkpoint(tmp_path, supervised_trainer(small_labels(11)))


def test_metrics_are_plain_json_with_the_error_of_the_hamiltonian(tmp_path):
    trainer = supervised_trainer()
    directory = RunDirectory(tmp_path, trainer)
    for event in trainer.run():
        directory.record(event)
    directory.finish("steps done")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    training = [r for r in records if r["kind"] == "training"]
    validation = [r for r in records if r["kind"] == "validation"]
    assert training[0]["energy_hartree"] is None
    assert training[0]["hamiltonian_mae_uEh"] > training[-1]["hamiltonian_mae_uEh"] > 0.0
    assert validation[0]["hamiltonian_mae_uEh"] > 0.0
    assert validation[0]["bracket_width_uEh"] > 0.0
    history = read_history(tmp_path)
    assert history.nunreadable == 0
    assert math.isnan(history.training[0].energy_hartree)
    assert "nan" not in (tmp_path / "report.html").read_text().lower().replace("nance", "")
