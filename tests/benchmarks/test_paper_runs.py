"""``benchmarks/paper/runs.py``: the commands of runs, what is done once, and what is refused."""

import importlib
import sys
from pathlib import Path

import pytest
import runs as paper
from runs import Run, Settings

from ase_srdft.cli import evaluate, train
from ase_srdft.reference.label_file import write_labels
from tests.tools.small_labels import small_labels

FIXED = {"molecule": "ethanol", "model": "fock", "nframes": 340}
SUPERVISED = FIXED | {"model": "supervised"}


def settings(folder, **changes):
    return Settings(**{"output": folder, "data": folder / "data", "minutes": 10.0} | changes)


def after(words, flag):
    return words[words.index(flag) + 1]


@pytest.fixture
def executed(monkeypatch):
    """Commands are not run but listed, by folder and log; codes may be given for them."""
    done, codes = [], {}

    def execute(command, log):
        what = (log.parent.name, log.stem)
        done.append(what)
        code = codes.get(what, 0)
        if code == 0 and "--json" in command:
            Path(after(command, "--json")).touch()
        if code == 0 and log.stem.endswith("labels"):
            Path(after(command, "-o")).touch()
        return code

    monkeypatch.setattr(paper, "execute", execute)
    monkeypatch.setattr(paper, "label_minutes", lambda settings, run: 4.0 * run.supervised)
    execute.done, execute.codes = done, codes
    return execute


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nframes": 25, "model": "qpt"},
        {"nframes": 25, "model": "potential"},
        {"nframes": 0, "self_refine": True, "model": "fine-tuned"},
        {"nframes": 250, "model": "supervised"},
        {"self_refine": True},
        {"nframes": 0, "self_refine": True, "steps": 50},
        {"structure": Path("own.xyz")},
    ],
)
def test_the_command_is_one_that_the_program_takes(tmp_path, changes):
    run = Run(**FIXED | changes)
    words = paper.train_command(settings(tmp_path, train_arguments=("--batch-size", "4")), run)
    assert words[1:3] == ["-m", "ase_srdft.cli.train"]
    options = train._parser().parse_args(words[3:])
    assert getattr(options, "optimiser.batch_size") == 4
    assert (options.minutes, options.threads, options.steps) == (10.0, 1, run.steps)
    assert (options.self_refine is not False) is run.self_refine
    given = run.nframes == 0 or run.structure is not None
    assert bool(options.structures) is run.has_structure is given
    assert bool(options.data) is (run.nframes > 0 and not run.supervised)
    assert (options.loss == "hamiltonian") is (options.labels is not None) is run.supervised
    assert (options.start_from == "organics") is (run.model == "fine-tuned")


def test_frames_are_a_share_of_those_before_the_held_out_ones(tmp_path):
    words = paper.train_command(settings(tmp_path), Run(**FIXED | {"nframes": 34}))
    assert float(after(words, "--data-fraction")) == pytest.approx(0.1)
    assert after(words, "--validation-frames") == "60"


@pytest.mark.parametrize(
    ("molecule", "basis"),
    [("ethanol", "6-31g"), ("malonaldehyde", "6-31g"), ("uracil", "sto-3g")],
)
def test_the_levels_are_those_of_the_paper(tmp_path, molecule, basis):
    words = paper.train_command(settings(tmp_path), Run(**FIXED | {"molecule": molecule}))
    assert (after(words, "--xc"), after(words, "--basis")) == ("PBE", basis)


def test_labels_are_paid_for_where_they_count(tmp_path):
    labels = small_labels(3)
    write_labels(tmp_path / "ethanol-labels.h5", [labels])
    run = Run(**SUPERVISED | {"nframes": 100})
    seconds = [label.seconds for label in labels.labels]
    expected = 100 * sum(seconds) / len(seconds) / 60.0
    assert expected > 0.0
    assert paper.label_minutes(settings(tmp_path), run) == pytest.approx(expected)
    assert paper.label_minutes(settings(tmp_path), Run(**FIXED)) == 0.0
    words = paper.train_command(settings(tmp_path, labels_count=True), run)
    assert float(after(words, "--minutes")) == pytest.approx(10.0 - expected)


def test_the_evaluation_is_one_that_the_program_takes(tmp_path):
    words = paper.evaluate_command(settings(tmp_path), Run(**FIXED))
    options = evaluate._parser().parse_args(words[3:])
    assert (options.last, options.json) == (60, settings(tmp_path).evaluation(Run(**FIXED)))


def test_every_run_is_trained_and_evaluated_once(tmp_path, executed):
    runs = [Run(**FIXED), Run(**FIXED | {"nframes": 25}, self_refine=True)]
    assert paper.make(settings(tmp_path), runs) == 0
    names = ("ethanol-fock-340-fixed", "ethanol-fock-25-refining")
    assert executed.done == [(name, what) for name in names for what in ("train", "evaluate")]
    executed.done.clear()
    assert paper.make(settings(tmp_path), runs) == 0
    assert executed.done == []


def test_a_run_that_fails_goes_on_the_next_time_and_does_not_stop_the_others(tmp_path, executed):
    name = "ethanol-fock-340-fixed"
    runs = [Run(**FIXED), Run(**FIXED | {"molecule": "uracil"})]
    executed.codes[name, "train"] = 75
    assert paper.make(settings(tmp_path), runs) == 75
    other = [("uracil-fock-340-fixed", what) for what in ("train", "evaluate")]
    assert executed.done == [(name, "train"), *other]
    executed.codes.clear()
    executed.done.clear()
    assert paper.make(settings(tmp_path), runs) == 0
    assert executed.done == [(name, "train"), (name, "evaluate")]


@pytest.mark.parametrize("changes", [{"seed": 1}, {"minutes": 20.0}])
def test_a_run_of_another_command_is_not_taken_for_this_one(tmp_path, executed, capsys, changes):
    assert paper.make(settings(tmp_path), [Run(**FIXED)]) == 0
    executed.done.clear()
    assert paper.make(settings(tmp_path, **changes), [Run(**FIXED)]) == 2
    assert executed.done == []
    assert "command.txt" in capsys.readouterr().out


def test_labels_are_made_once_for_all_supervised_runs_of_a_molecule(tmp_path, executed):
    runs = [Run(**FIXED), Run(**SUPERVISED), Run(**SUPERVISED | {"nframes": 25})]
    assert paper.make(settings(tmp_path), runs) == 0
    assert executed.done[0] == (tmp_path.name, "ethanol-labels")
    assert len(executed.done) == 1 + 2 * len(runs)


def test_without_labels_only_the_supervised_run_is_left_out(tmp_path, executed):
    executed.codes[tmp_path.name, "ethanol-labels"] = 1
    assert paper.make(settings(tmp_path), [Run(**SUPERVISED), Run(**FIXED)]) == 1
    names = {name for name, _ in executed.done}
    assert names == {tmp_path.name, "ethanol-fock-340-fixed"}


def test_a_command_gets_one_thread_and_its_words_are_kept(tmp_path):
    program = "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit(3)"
    log = tmp_path / "train.log"
    assert paper.execute([sys.executable, "-c", program], log) == 3
    assert log.read_text() == "1\n"


@pytest.mark.parametrize(
    "changes",
    [{"nframes": 0}, {"nframes": 341}, {"model": "supervised", "self_refine": True}],
)
def test_runs_that_cannot_be_are_refused(changes):
    with pytest.raises(paper.RunError):
        Run(**FIXED | changes)


@pytest.mark.parametrize(
    "script", ["table1", "figure2", "figure3", "figure4", "equal_time", "shipped_models"]
)
def test_a_missing_folder_of_frames_is_exit_code_2(tmp_path, capsys, script):
    module = importlib.import_module(script)
    with pytest.raises(SystemExit) as end:
        module.main(["--data", str(tmp_path / "absent"), "--output", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "absent" in capsys.readouterr().err.splitlines()[-1]
