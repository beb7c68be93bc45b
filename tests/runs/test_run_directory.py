"""What a run leaves behind, what a resumed one finds, and what is never overwritten."""

import json
import os

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree

from ase_srdft.calculator.model_card import model_card
from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.common.charges import total_charge
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.settings import from_plain
from ase_srdft.common.source_commit import source_commit
from ase_srdft.common.structures import read_frames
from ase_srdft.dft.kernels.library import description
from ase_srdft.models.model_file import load_model
from ase_srdft.runs import checkpoint, run_directory
from ase_srdft.runs.checkpoint import Checkpoints, load_checkpoint
from ase_srdft.runs.run_directory import RunDirectory
from ase_srdft.runs.training_record import training_record
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.version import __version__
from tests.tools.small_training import (
    HCN,
    HNC,
    peroxide,
    rattled,
    sampling_trainer,
    small_dataset,
    small_trainer,
)

FILES = [
    "checkpoint.h5",
    "config.yaml",
    "metrics.jsonl",
    "model.srdft",
    "report.html",
    "samples.traj",
]
#: Rounds of four samples at steps 0, 8, 16, 24 and validations at 10, 20, 30.
SETTINGS = {"steps": 30, "validate_every": 10}


def record_all(directory, trainer):
    for event in trainer.run():
        directory.record(event)
    directory.finish("steps done")


def metrics_of(path, kind=None):
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if kind in (None, r.get("kind"))]


def without_times(records):
    times = ("elapsed_s", "steps_per_s")
    return [{k: v for k, v in r.items() if k not in times} for r in records]


def contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


def weights_of(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its folder, its trainer and its events."""
    path = tmp_path_factory.mktemp("run") / "new" / "folder"
    trainer = sampling_trainer(**SETTINGS)
    directory = RunDirectory(path, trainer)
    events = []
    for event in trainer.run():
        events.append(event)
        directory.record(event)
    directory.finish("steps done")
    return path, trainer, events


def samples_in(events):
    return [s for event in events if event.sampling for s in event.sampling.samples]


# What there is after a run


def test_all_files_and_no_others(run):
    path, _, _ = run
    assert sorted(p.name for p in path.iterdir()) == FILES


def test_samples_open_in_ase_with_energies_and_forces(run):
    path, _, events = run
    frames = ase.io.read(path / "samples.traj", ":")
    samples = samples_in(events)
    assert len(frames) == len(samples) >= 12
    for atoms, sample in zip(frames, samples, strict=True):
        assert str(atoms.symbols) == "OH2"
        np.testing.assert_allclose(atoms.positions, sample.positions * Bohr, rtol=1e-12)
        assert isinstance(atoms.calc, SinglePointCalculator)
        energy = atoms.get_potential_energy()
        assert -2100.0 < energy < -2000.0
        assert energy == pytest.approx(sample.energy * Hartree, rel=1e-12)
        assert atoms.get_potential_energy(force_consistent=True) == energy
        assert np.abs(atoms.get_forces()).max() > 0.01
        np.testing.assert_allclose(atoms.get_forces(), sample.forces * Hartree / Bohr, rtol=1e-12)
        assert atoms.info["srdft_error"] == pytest.approx(sample.bracket_width * Hartree)
        assert atoms.info["srdft_level"] == "LDA/sto-3g"
        assert atoms.info["srdft_model"] == f"potential v{sample.weights_version}"


def test_samples_state_the_charge_of_the_run(tmp_path):
    """So that the samples of an ion are not read as those of the neutral molecule."""
    ion = Dataset.of([nuclei_of(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), -1)])
    trainer = sampling_trainer(ion, steps=9, level={"charge": -1})
    record_all(RunDirectory(tmp_path, trainer), trainer)
    frames = read_frames(tmp_path / "samples.traj")
    assert len(frames) > 2
    assert {total_charge(atoms, None, None) for atoms in frames} == {-1}
    with pytest.raises(BadInput, match="charge=0"):
        nuclei_of(frames[0], 0)


def test_metrics(run):
    path, trainer, events = run
    records = metrics_of(path)
    kinds = [r["kind"] for r in records]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert [kinds.count(k) for k in ("start", "training", "sampling", "validation", "end")] == [
        1,
        2,
        4,
        3,
        1,
    ]
    start = records[0]
    assert start["molecules"] == ["H2O"]
    assert start["level"].startswith("LDA/sto-3g")
    assert start["nparameters"] == sum(p.numel() for p in trainer.updater.model.parameters())
    assert (start["step"], start["nframes"]) == (0, 0)
    for event, record in zip(
        [e for e in events if e.sampling], metrics_of(path, "sampling"), strict=True
    ):
        assert record["step"] == event.step
        assert record["energies_hartree"] == [s.energy for s in event.sampling.samples]
        assert record["acceptance"] == event.sampling.acceptance
        assert record["resets"] == dict(event.sampling.resets)
    validation = metrics_of(path, "validation")[-1]
    last = next(e for e in reversed(events) if e.validation).validation
    assert validation["energy_hartree"] == last.energy
    assert validation["bracket_width_uEh"] == pytest.approx(last.bracket_width * 1e6)
    assert validation["bracket_width_max_uEh"] == pytest.approx(last.largest_width * 1e6)
    assert validation["bracket_width_max_uEh"] > 1.1 * validation["bracket_width_uEh"]
    assert validation["nvalidation"] == 4
    assert validation["nsampled"] == trainer.counters.nheld_out
    assert records[-1]["reason"] == "steps done"
    assert records[-1]["best_bracket_width_uEh"] == pytest.approx(trainer.counters.best_width * 1e6)


def test_the_end_tells_the_maximum_and_nothing_of_a_target_that_was_not_set(run):
    path, trainer, _ = run
    (end,) = metrics_of(path, "end")
    largest = trainer.counters.best_largest_width
    assert end["best_bracket_width_max_uEh"] == pytest.approx(largest * 1e6)
    assert end["best_bracket_width_max_uEh"] > 1.1 * end["best_bracket_width_uEh"]
    assert (end["nvalidation"], end["nframes"]) == (4, 0)
    assert "target_reached" not in end
    assert load_model(path / "model.srdft").training["bracket_width_max_uEh"] == pytest.approx(
        largest * 1e6
    )


@pytest.mark.parametrize(("target", "reached"), [(1e9, True), (1e-9, False)])
def test_the_end_says_whether_the_target_was_reached(target, reached, tmp_path):
    data = small_dataset(frames=rattled(4))
    trainer = small_trainer(data, self_refine=False, steps=2, target_error_uEh=target)
    record_all(RunDirectory(tmp_path, trainer), trainer)
    (end,) = metrics_of(tmp_path, "end")
    assert (end["target_error_uEh"], end["target_reached"]) == (target, reached)


def test_the_end_knows_the_target_of_the_worst_molecule(tmp_path):
    data = small_dataset(frames=rattled(4))
    trainer = small_trainer(data, self_refine=False, steps=2, target_worst_error_uEh=1e9)
    record_all(RunDirectory(tmp_path, trainer), trainer)
    (end,) = metrics_of(tmp_path, "end")
    assert (end["target_worst_error_uEh"], end["target_reached"]) == (1e9, True)
    assert "target_error_uEh" not in end


def test_molecules_are_told_apart(tmp_path):
    trainer = small_trainer(Dataset.of([HCN, HNC, peroxide(90.0), peroxide(180.0)]), steps=2)
    record_all(RunDirectory(tmp_path, trainer), trainer)
    (start,) = metrics_of(tmp_path, "start")
    assert start["molecules"] == ["CHN (isomer 1)", "CHN (isomer 2)", "H2O2"]
    assert start["nstructures"] == [1, 1, 2]
    assert (start["computing"], start["threads"]) == (description(), 1)
    assert start["notes"] == ["4 structures are given: 4 walkers instead of 2"]
    (validation,) = metrics_of(tmp_path, "validation")
    assert len(validation["molecule_widths_uEh"]) == 3
    assert min(validation["molecule_widths_uEh"]) > 0.0
    (end,) = metrics_of(tmp_path, "end")
    worst = max(validation["molecule_widths_uEh"])
    for record in (validation, end):
        assert len(record["worst"]) == 3
        assert record["worst"][0]["bracket_width_uEh"] == pytest.approx(worst)
        assert record["worst"][0]["molecule"] in start["molecules"]
    assert "levels" not in validation
    assert "(isomer 2)" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_limits_of_the_session_are_written_down(tmp_path):
    trainer = small_trainer(steps=2)
    record_all(RunDirectory(tmp_path, trainer), trainer)
    again = small_trainer(steps=3, target_error_uEh=5.0)
    record_all(RunDirectory(tmp_path, again), again)
    plain = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (plain["steps"], plain["target_error_uEh"]) == (3, 5.0)


def test_training_is_logged_as_averages(run):
    path, _, events = run
    records = [e.training for e in events if e.training]
    first, last = metrics_of(path, "training")
    assert (first["step"], last["step"]) == (20, 30)
    for logged, own in ((first, records[:20]), (last, records[20:])):
        assert logged["energy_hartree"] == pytest.approx(np.mean([r.energy for r in own]))
        width = 1e6 * np.mean([r.bracket_width for r in own])
        assert logged["bracket_width_uEh"] == pytest.approx(width)
        assert logged["learning_rate"] == own[-1].learning_rate
        assert logged["steps_per_s"] > 0


def test_model_is_the_best_and_tells_how_it_was_made(run):
    path, trainer, _ = run
    loaded = load_model(path / "model.srdft")
    torch.testing.assert_close(
        weights_of(loaded.model), weights_of(trainer.best_model()), rtol=0, atol=0
    )
    assert loaded.model.level == trainer.config.level
    record = loaded.training
    assert from_plain(TrainingConfig, record["config"]) == trainer.config
    assert record["molecules"] == ["H2O"]
    assert record["bracket_width_uEh"] == pytest.approx(1e6 * trainer.counters.best_width)
    widths = record["bracket_widths_uEh"]
    assert len(widths) == record["nvalidation"] > 1
    assert np.mean(widths) == pytest.approx(record["bracket_width_uEh"], rel=1e-3)
    assert max(widths) == pytest.approx(record["bracket_width_max_uEh"], rel=1e-3)
    assert 0 < record["steps"] <= 30
    assert (record["nframes"], record["nvalidation"]) == (0, len(trainer.held_out))
    assert (record["version"], record["commit"]) == (__version__, source_commit())
    atoms = ase.io.read(path / "samples.traj", 0)
    atoms.calc = SRDFTCalculator(path / "model.srdft")
    lower, upper = atoms.calc.energy_bracket if atoms.get_potential_energy() else (0, 0)
    assert lower < upper < 0.0


def test_the_card_of_a_run_of_one_molecule_has_its_structure(run):
    path, trainer, _ = run
    card = model_card(path / "model.srdft")
    assert card.structure.numbers.tolist() == [8, 1, 1]
    reference = trainer.dataset.references[0] * Bohr
    np.testing.assert_allclose(card.structure.positions, reference, rtol=1e-8)
    assert card.levels == (trainer.config.level,)
    assert card.bracket_width_uEh < card.bracket_width_max_uEh
    assert "not recorded" not in str(card).replace("commit not recorded", "")


@pytest.mark.parametrize(
    ("dataset", "changes", "charge"),
    [
        (Dataset.of([HCN]), {}, 0),
        (Dataset.of([HCN]), {"model": "potential", "levels": ["LDA/sto-3g", "PBE/sto-3g"]}, 0),
        (Dataset.of([nuclei_of(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), -1)]), {}, -1),
        (Dataset.of([HCN, HNC]), {}, None),
        (Dataset.of([HCN]), {"sampling": {"allow_reactions": True}}, None),
    ],
)
def test_the_structure_of_one_molecule_is_recorded(dataset, changes, charge):
    if charge == -1:
        changes = changes | {"level": {"charge": -1}}
    structure = training_record(small_trainer(dataset, **changes))["structure"]
    assert (None if structure is None else structure["charge"]) == charge


def test_settings_are_written_as_they_can_be_read(run):
    path, trainer, _ = run
    plain = yaml.safe_load((path / "config.yaml").read_text())
    assert from_plain(TrainingConfig, plain) == trainer.config


def test_report_is_one_page_without_network(run):
    page = (run[0] / "report.html").read_text()
    assert "<svg" in page
    assert "H2O" in page
    assert "src=" not in page
    assert "href=" not in page.replace('href="#', "")


def test_frames_alone_leave_no_samples(tmp_path):
    trainer = small_trainer(small_dataset(frames=rattled(4)), self_refine=False, steps=3)
    record_all(RunDirectory(tmp_path, trainer), trainer)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f for f in FILES if f != "samples.traj"]
    assert metrics_of(tmp_path, "start")[0]["nframes"] == 2


def test_interrupted_before_any_validation_the_model_is_that_of_now(tmp_path):
    trainer = small_trainer(validate_every=1000)
    untrained = weights_of(trainer.averaged_model())
    directory = RunDirectory(tmp_path, trainer)
    for event in trainer.run():
        directory.record(event)
        trainer.stop_requested = event.step == 6
    directory.finish("interrupted")
    found = weights_of(load_model(tmp_path / "model.srdft").model)
    assert torch.equal(found, weights_of(trainer.averaged_model()))
    assert float((found - untrained).abs().max()) > 1e-3
    end = metrics_of(tmp_path, "end")[0]
    assert (end["step"], end["reason"], end["best_bracket_width_uEh"]) == (6, "interrupted", None)


def test_a_run_that_goes_on_and_ends_before_any_validation_leaves_the_model_of_its_end(tmp_path):
    left = []
    for nsteps in (3, 5):
        trainer = small_trainer(validate_every=1000)
        directory = RunDirectory(tmp_path, trainer)
        trainer.begin()
        while trainer.updater.step < nsteps:
            trainer.train(0.0)
        directory.finish("interrupted")
        loaded = load_model(tmp_path / "model.srdft")
        assert loaded.training["steps"] == nsteps
        assert loaded.training["bracket_width_uEh"] is None
        assert torch.equal(weights_of(loaded.model), weights_of(trainer.averaged_model()))
        left.append(weights_of(loaded.model))
    assert not torch.equal(*left)


# Going on


def test_finished_run_goes_on_where_it_stopped(tmp_path):
    trainer = small_trainer(steps=4)
    record_all(RunDirectory(tmp_path, trainer), trainer)
    again = small_trainer(steps=6)
    directory = RunDirectory(tmp_path, again)
    assert directory.resumed
    record_all(directory, again)
    assert again.updater.step == 6
    assert [r["step"] for r in metrics_of(tmp_path, "start")] == [0, 4]
    assert [r["step"] for r in metrics_of(tmp_path, "end")] == [6]  # only one end
    assert [r["step"] for r in metrics_of(tmp_path, "training")] == [4, 6]


class Crash(Exception):
    pass


def crashing_run(path, trainer, until):
    """Record events until one at which the process dies."""
    directory = RunDirectory(path, trainer)
    for event in trainer.run():
        directory.record(event)
        if until(event):
            directory.close()  # as the system does
            return
    raise AssertionError("the run ended first")


CRASHES = {
    "after a round": lambda e: e.sampling and e.step == 16,
    "after the step that follows": lambda e: e.training and e.step == 17,
    "before a validation": lambda e: e.training and e.step == 20,
    "after it": lambda e: e.validation and e.step == 20,
    "before a round": lambda e: e.training and e.step == 24,
}


@pytest.mark.parametrize(
    ("until", "share"),
    [
        *(
            pytest.param(until, 1e9, id=name, marks=[pytest.mark.slow] * (name != "after a round"))
            for name, until in CRASHES.items()
        ),
        pytest.param(CRASHES["before a round"], 1e-9, id="before any checkpoint but the first"),
    ],
)
def test_a_killed_run_ends_like_an_uninterrupted_one(until, share, run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SHARE_OF_TIME", share)
    path, whole, events = run
    crashing_run(tmp_path, sampling_trainer(**SETTINGS), until)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "training", "st')  # the pen fell

    trainer = small_trainer(**SETTINGS)
    directory = RunDirectory(tmp_path, trainer)
    assert directory.resumed
    if (tmp_path / "samples.traj").exists():
        assert len(ase.io.read(tmp_path / "samples.traj", ":")) == trainer.counters.nsamples
    steps = [r["step"] for r in metrics_of(tmp_path)]
    assert max(steps) <= trainer.updater.step
    record_all(directory, trainer)

    assert torch.equal(weights_of(trainer.updater.model), weights_of(whole.updater.model))
    assert torch.equal(weights_of(trainer.best_model()), weights_of(whole.best_model()))
    frames, expected = (ase.io.read(p / "samples.traj", ":") for p in (tmp_path, path))
    assert len(frames) == len(expected) == len(samples_in(events))
    for one, other in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    for kind in ("sampling", "validation", "end"):
        found = without_times(metrics_of(tmp_path, kind))
        assert found == without_times(metrics_of(path, kind)), kind
    found = load_model(tmp_path / "model.srdft").model
    assert torch.equal(weights_of(found), weights_of(load_model(path / "model.srdft").model))
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES


def test_metrics_that_are_no_text_are_left_out(tmp_path):
    trainer = small_trainer(steps=2)
    record_all(RunDirectory(tmp_path, trainer), trainer)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00\n[1]\n{}\n17\n")
    RunDirectory(tmp_path, small_trainer(steps=2)).close()
    kinds = [r.get("kind") for r in metrics_of(tmp_path)]
    assert kinds == ["start", "validation", "training", None, "start"]


@pytest.mark.parametrize("keep", [0, 20, 300, -10])
def test_damaged_samples_are_refused_in_one_line(keep, run, tmp_path):
    for name, content in contents(run[0]).items():
        (tmp_path / name).write_bytes(content)
    samples = tmp_path / "samples.traj"
    os.truncate(samples, keep if keep >= 0 else samples.stat().st_size + keep)
    damaged = samples.read_bytes()
    with pytest.raises(DamagedFile) as caught:
        RunDirectory(tmp_path, small_trainer(**SETTINGS))
    assert str(caught.value).startswith(f"{samples} is damaged (")
    assert len(str(caught.value).splitlines()) == 1
    assert samples.read_bytes() == damaged
    samples.unlink()  # as the message says
    assert RunDirectory(tmp_path, small_trainer(**SETTINGS)).resumed


# Never overwritten


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3}, "seed was 0 and is 3"),
        ({"level": {"basis": "6-31g"}}, "level.basis was 'sto-3g' and is '6-31g'"),
    ],
)
def test_a_run_with_other_settings_is_left_as_it_is(changes, message, run):
    path, _, _ = run
    before = contents(path)
    with pytest.raises(BadInput) as caught:
        RunDirectory(path, small_trainer(**SETTINGS | changes))
    assert message in str(caught.value)
    assert contents(path) == before


def test_a_run_on_other_data_is_left_as_it_is(run):
    path, _, _ = run
    before = contents(path)
    with pytest.raises(BadInput, match="other structures or frames"):
        RunDirectory(path, small_trainer(small_dataset("H2"), **SETTINGS))
    assert contents(path) == before


@pytest.mark.parametrize("name", FILES[1:])
def test_files_without_a_checkpoint_are_left_as_they_are(name, tmp_path):
    (tmp_path / name).write_text("precious")
    with pytest.raises(BadInput, match=rf"holds {name}, but no checkpoint to go on from: choose"):
        RunDirectory(tmp_path, small_trainer())
    assert contents(tmp_path) == {name: b"precious"}


@pytest.mark.parametrize("name", ["model.srdft", "samples.traj", "report.html"])
def test_results_whose_checkpoint_was_removed_are_left_as_they_are(name, run, tmp_path):
    for kept in ("config.yaml", "metrics.jsonl", name):
        (tmp_path / kept).write_bytes((run[0] / kept).read_bytes())
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=f"holds {name}, but no checkpoint"):
        RunDirectory(tmp_path, small_trainer(**SETTINGS))
    assert contents(tmp_path) == before


def test_an_unfinished_start_is_begun_again(tmp_path):
    RunDirectory(tmp_path, small_trainer()).close()
    (tmp_path / "checkpoint.h5").unlink()
    directory = RunDirectory(tmp_path, small_trainer())
    assert not directory.resumed
    assert [r["kind"] for r in metrics_of(tmp_path)] == ["start"]


def test_other_files_are_nobodys_business(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunDirectory(tmp_path, small_trainer())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way(tmp_path):
    path = tmp_path / "run"
    path.write_text("mine")
    for wanted in (path, path / "below"):
        with pytest.raises(BadInput, match="cannot write to the directory"):
            RunDirectory(wanted, small_trainer())
    assert contents(tmp_path) == {"run": b"mine"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BadInput, match="cannot write to the directory"):
            RunDirectory(tmp_path, small_trainer())
        assert contents(tmp_path) == {}
    finally:
        tmp_path.chmod(0o700)


def test_two_molecules_share_a_directory(tmp_path):
    trainer = sampling_trainer(
        small_dataset("H2O", "H2"), steps=9, sampling={"allow_reactions": True}
    )
    record_all(RunDirectory(tmp_path, trainer), trainer)
    frames = ase.io.read(tmp_path / "samples.traj", ":")
    assert {str(atoms.symbols) for atoms in frames} == {"OH2", "H2"}
    assert metrics_of(tmp_path, "start")[0]["molecules"] == ["H2O", "H2"]
    assert {m for r in metrics_of(tmp_path, "sampling") for m in r["molecules"]} == {0, 1}


def test_two_runs_at_once_in_one_directory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "_PATIENCE_SECONDS", 0.3)
    first = RunDirectory(tmp_path, small_trainer())
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=r"another run is at work in .*: let it end, or choose"):
        RunDirectory(tmp_path, small_trainer())
    assert contents(tmp_path) == before
    first.close()
    assert RunDirectory(tmp_path, small_trainer()).resumed


def test_files_by_links_to_another_disk(tmp_path):
    """Made by the user before the run: each stays a link, and the run goes on through it."""
    run, store = tmp_path / "run", tmp_path / "store"
    run.mkdir()
    store.mkdir()
    for name in FILES:
        (run / name).symlink_to(store / f"my-{name}")
    trainer = sampling_trainer(**SETTINGS)
    directory = RunDirectory(run, trainer)
    for event in trainer.run():
        directory.record(event)
        trainer.stop_requested = event.step >= 16
    directory.finish("interrupted")
    record_all(RunDirectory(run, resumed := sampling_trainer(**SETTINGS)), resumed)
    assert sorted(p.name for p in run.iterdir()) == sorted(FILES)
    assert all(path.is_symlink() for path in run.iterdir())
    assert sorted(p.name for p in store.iterdir()) == sorted(f"my-{name}" for name in FILES)
    assert not any(path.is_symlink() for path in store.iterdir())
    assert metrics_of(run)[-1]["step"] == 30
    assert len(ase.io.read(run / "samples.traj", ":")) == resumed.counters.nsamples > 0
    torch.testing.assert_close(
        weights_of(load_model(run / "model.srdft").model),
        weights_of(resumed.best_model()),
        rtol=1e-6,
        atol=1e-7,
    )


def test_the_checkpoint_before_is_found_beside_the_file_that_a_link_leads_to(tmp_path):
    run, store = tmp_path / "run", tmp_path / "store"
    run.mkdir()
    store.mkdir()
    (run / "checkpoint.h5").symlink_to(store / "mine.h5")
    trainer = small_trainer(**SETTINGS)
    RunDirectory(run, trainer).close()
    (store / "mine.h5").rename(store / "mine.previous.h5")  # killed while the next was written
    directory = RunDirectory(run, small_trainer(**SETTINGS))
    assert directory.resumed
    directory.close()
    assert (run / "checkpoint.h5").is_symlink()
    assert [p.name for p in store.iterdir()] == ["mine.h5"]


# Weights for other processes


LOCAL = {"engine": {"name": "local"}}


def test_where_weights_leave_the_process_the_directory_needs_the_checkpoints(tmp_path):
    with pytest.raises(BadInput, match="engine 'local' without checkpoints"):
        RunDirectory(tmp_path / "run", sampling_trainer(**LOCAL))
    assert not (tmp_path / "run").exists()


class QuietPool:
    """Nothing samples; which weights were published, and what the checkpoint held then."""

    def __init__(self, path):
        self.path = path
        self.published = []

    def start(self, checkpoints):
        pass

    def publish(self, version, weights):
        again = sampling_trainer(**LOCAL)
        assert load_checkpoint(self.path, again)
        self.published.append((version, again.updater.step))

    def collect(self):
        return []

    reports = collect

    def stop(self):
        pass


@pytest.mark.parametrize(("share", "versions"), [(1e9, [0, 8, 16]), (1e-9, [0])])
def test_weights_are_published_once_a_checkpoint_holds_them(share, versions, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SHARE_OF_TIME", share)
    checkpoints = Checkpoints(tmp_path)
    trainer = sampling_trainer(**LOCAL, may_publish=checkpoints.save_if_due)
    trainer.sampling.pool = QuietPool(tmp_path)
    record_all(RunDirectory(tmp_path, trainer, checkpoints), trainer)
    assert trainer.updater.step == 20
    assert trainer.sampling.pool.published == [(version, version) for version in versions]
