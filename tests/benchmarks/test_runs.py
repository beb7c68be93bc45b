"""``benchmarks/runs.py`` and ``benchmarks/campaign_options.py``: commands and refused input."""

import pytest

from ase_srdft.cli import evaluate, train
from tests.tools.campaigns import benchmark, campaign, write_labels

ONE_STRUCTURE = {"nframes": 0, "self_refine": True}


def run_of(**settings):
    return benchmark("runs").Run(
        **{"molecule": "ethanol", "model": "fock", "nframes": 340} | settings
    )


def command(tmp_path, run, **changes):
    return benchmark("runs").train_command(campaign(tmp_path, **changes), run)


def after(words, flag):
    return words[words.index(flag) + 1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"nframes": 25, "model": "qpt"},
        {"nframes": 250, "model": "supervised"},
        {"self_refine": True},
        ONE_STRUCTURE,
    ],
)
def test_the_command_is_one_that_the_program_takes(tmp_path, settings):
    words = command(tmp_path, run_of(**settings), train_arguments=("--batch-size", "4"))
    assert words[1:3] == ["-m", "ase_srdft.cli.train"]
    options = train._parser().parse_args(words[3:])
    assert getattr(options, "optimiser.batch_size") == 4
    assert (options.minutes, options.threads) == (10.0, 1)
    assert (options.self_refine is not False) is settings.get("self_refine", False)
    assert bool(options.structures) is (settings.get("nframes") == 0)
    supervised = settings.get("model") == "supervised"
    assert (options.loss == "hamiltonian") is supervised
    assert (options.labels is not None) is supervised


def test_frames_are_a_share_of_those_before_the_held_out_ones(tmp_path):
    words = command(tmp_path, run_of(nframes=34))
    assert float(after(words, "--data-fraction")) == pytest.approx(0.1)
    assert after(words, "--validation-frames") == "60"
    assert "--data-fraction" not in command(tmp_path, run_of())


def test_the_levels_are_those_of_the_paper(tmp_path):
    for molecule, basis in (("ethanol", "6-31g"), ("malonaldehyde", "6-31g"), ("uracil", "sto-3g")):
        words = command(tmp_path, run_of(molecule=molecule))
        assert (after(words, "--xc"), after(words, "--basis")) == ("PBE", basis)


def test_other_models_and_supervised_training_are_named(tmp_path):
    assert after(command(tmp_path, run_of(model="qpt")), "--model") == "qpt"
    words = command(tmp_path, run_of(model="supervised"))
    assert after(words, "--loss") == "hamiltonian"
    assert after(words, "--labels") == str(tmp_path / "ethanol-labels.h5")
    assert "--data" not in words


def test_a_limit_of_steps_is_no_limit_of_time(tmp_path):
    words = command(tmp_path, run_of(), minutes=None, steps=50)
    assert after(words, "--steps") == "50"
    assert "--minutes" not in words


def test_labels_are_paid_for_where_they_count(tmp_path):
    write_labels(tmp_path / "ethanol-labels.h5", [1.0, 5.0])  # 3 s each
    run = run_of(model="supervised", nframes=100)
    assert benchmark("runs").label_minutes(campaign(tmp_path), run) == pytest.approx(5.0)
    assert benchmark("runs").label_minutes(campaign(tmp_path), run_of()) == 0.0
    assert float(after(command(tmp_path, run), "--minutes")) == 10.0
    assert float(after(command(tmp_path, run, labels_count=True), "--minutes")) == pytest.approx(5)


def test_the_evaluation_is_one_that_the_program_takes(tmp_path):
    words = benchmark("runs").evaluate_command(campaign(tmp_path, nevaluate=7), run_of())
    options = evaluate._parser().parse_args(words[3:])
    assert (options.last, options.json.name) == (7, "evaluation-7.json")


@pytest.mark.parametrize("settings", [{"nframes": 0}, {"model": "supervised", "self_refine": True}])
def test_runs_that_cannot_be_are_refused(settings):
    with pytest.raises(benchmark("runs").CampaignError):
        run_of(**settings)


@pytest.mark.parametrize("script", ["table1", "figure2", "figure3", "figure4", "equal_time"])
def test_a_missing_folder_of_frames_is_one_line_and_exit_code_2(
    tmp_path, monkeypatch, capsys, script
):
    monkeypatch.setenv("ASE_SRDFT_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr("sys.argv", [script, "--output", str(tmp_path / "out")])
    assert benchmark(script).main() == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "absent" in error
    assert "ASE_SRDFT_DATA" in error


@pytest.mark.parametrize(
    "words",
    [["--minutes", "0"], ["--frames", "341"], ["--molecules", "benzene"], ["--models", "mlp"]],
)
def test_impossible_options_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, words):
    monkeypatch.setattr("sys.argv", ["table1", "--output", str(tmp_path), *words])
    with pytest.raises(SystemExit) as caught:
        benchmark("table1").main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert words[1] in error


def test_no_more_frames_to_evaluate_at_than_are_held_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["table1", "--evaluate", "61", "--output", str(tmp_path)])
    assert benchmark("table1").main() == 2
    assert "60 frames are held out" in capsys.readouterr().err
