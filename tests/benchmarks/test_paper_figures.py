"""Tables, curves and figures of the paper's scripts, from files as runs leave them."""

import json

import ase.io
import equal_time
import figure2
import figure3
import figure4
import pytest
import rows
import shipped_models
import table1
from runs import Run, RunError, Settings, train_command

from ase_srdft.cli import train
from ase_srdft.common.connectivity import bonded_groups
from tests.models.test_shipped_models import STRUCTURES

ERRORS = {
    "n_frames": 60,
    "energy_mae_uEh": 12.5,
    "energy_max_uEh": 40.0,
    "hamiltonian_mae_uEh": 47.0,
    "orbital_energy_mae_uEh": 404.0,
    "homo_mae_uEh": 394.0,
    "lumo_mae_uEh": 130.0,
    "gap_mae_uEh": 305.0,
    "forces_mae_meV_per_A": 0.5,
    "forces_max_meV_per_A": 7.9,
    "bracket_coverage": 0.95,
    "bracket_width_mean_uEh": 15.0,
}
ETHANOL = {"molecule": "ethanol", "model": "fock", "nframes": 340}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "label_minutes", lambda settings, run: 2.0 * run.supervised)
    return Settings(output=tmp_path, data=tmp_path / "data", minutes=10.0)


def leave(settings, run, minutes=10.0, widths=(900.0, 30.0)):
    """The files of a finished run, after validations with these widths."""
    about = {"molecules": ["C2H6O"], "level": "PBE/6-31g", "version": "0", "nvalidation": 60}
    start = {"kind": "start", "step": 0, "elapsed_s": 0.0, "nparameters": 200_000}
    records = [start | about | {"nframes": run.nframes}]
    for index, width in enumerate(widths, start=1):
        record = {"kind": "validation", "step": 250 * index, "bracket_width_uEh": width}
        elapsed = 60.0 * minutes * index / len(widths)
        records.append(record | {"elapsed_s": elapsed, "energy_hartree": -1.0, "best": True})
    end = {"kind": "end", "step": 250 * len(widths), "elapsed_s": 60.0 * minutes}
    records.append(end | {"reason": "time is up"})
    folder = settings.folder(run)
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    settings.evaluation(run).write_text(json.dumps(ERRORS))
    return run


def table_of(settings, name):
    """The cells of a table that was written, by the head of their column."""
    lines = (settings.output / f"{name}.md").read_text(encoding="utf-8").splitlines()
    split = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return [dict(zip(split[0], cells, strict=True)) for cells in split[2:]]


def asked(module, *words):
    """The options of a script's command line."""
    found = []
    runs_of = module.runs_of if hasattr(module, "runs_of") else figure2.runs_of

    def conduct(parser, arguments, *others, **more):
        found.append(parser.parse_args(arguments))
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "conduct", conduct)
        module.main(list(words))
    return found[0], runs_of(found[0])


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, "–"),
        ("ethanol", "ethanol"),
        (25_000, "25,000"),
        (7089.4, "7,089"),
        (63.31, "63.3"),
        (0.547, "0.55"),
    ],
)
def test_cells_keep_three_digits_or_two_decimals(cell, words):
    assert rows.shown(cell) == words


def test_a_row_is_what_the_run_has_written(settings):
    run = leave(settings, Run(**ETHANOL | {"nframes": 25}), 9.0, (900.0, 200.0, 30.0))
    with (settings.folder(run) / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "validation", "st')  # torn
    (row,) = rows.finished(settings, [run, Run(**ETHANOL)])
    assert row.errors == (12.5, 47.0, 404.0, 394.0, 130.0, 305.0)
    assert (row.nframes, row.steps, row.minutes) == (25, 750, pytest.approx(9.0))
    assert row.certified == ((3.0, 900.0), (6.0, 200.0), (9.0, 30.0))
    assert len(row.cells) == len(rows.HEADER)


def test_the_papers_rows_have_the_columns_of_ours():
    paper = rows.published("ethanol")
    assert [row.errors[0] for row in paper] == [63.3, 135.9, 83.8]
    cells = dict(zip(rows.HEADER, paper[0].cells, strict=True))
    assert (cells["H/µEh"], cells["gap/µEh"], cells["forces/(meV/Å)"]) == (91.0, 1342.0, None)
    assert rows.published("water") == []


def test_table1_puts_the_paper_before_ours_and_names_what_is_missing(settings, capsys):
    words = ("--molecules", "ethanol", "uracil", "--models", "fock", "supervised", "--self-refine")
    options, runs = asked(table1, *words)
    assert len(runs) == 6
    leave(settings, runs[0])
    table1.report(options, settings, runs)
    models = [row["model"] for row in table_of(settings, "table1")]
    assert models == ["paper"] * 3 + ["fock"] + ["paper"] * 3
    assert "Not finished: ethanol-fock-340-refining," in capsys.readouterr().out
    assert (settings.output / "table1.png").stat().st_size > 10_000


def test_figure2_compares_with_and_without_self_refining(settings):
    options, runs = asked(figure2, "--frames", "100", "25")
    compared = [(run.nframes, run.self_refine) for run in runs]
    assert compared == [(25, False), (25, True), (100, False), (100, True)]
    for run in runs[1:]:
        leave(settings, run)
    figure2.report(options, settings, runs)
    trained = [row["trained on"] for row in table_of(settings, "figure2")]
    assert trained[3:] == ["self-refining, 25 frames", "100 frames", "self-refining, 100 frames"]
    assert (settings.output / "figure2.png").is_file()


def test_equal_time_has_a_panel_for_every_number_of_frames(settings):
    options, runs = asked(equal_time, "--models", "fock", "supervised")
    leave(settings, runs[3], minutes=5.0)
    equal_time.report(options, settings, runs)
    (row,) = table_of(settings, "equal_time")
    assert (row["training/min"], row["labels/min"]) == ("5.00", "2.00")
    assert (settings.output / "equal_time.png").is_file()


def test_figure3_averages_over_the_walkers_that_came_so_far(settings, capsys):
    words = ("--walkers", "3", "--steps", "6", "--report-only")
    options, runs = asked(figure3, *words)
    assert figure3.start_frames(3) == [-1, -21, -41]
    run = leave(settings, runs[0])
    first = {"points": [[0, 10.0, 15.0], [3, 20.0, 30.0], [6, 30.0, 45.0]], "failure": None}
    second = {"points": [[0, 30.0, 45.0]], "failure": "it exploded"}
    for frame, walk in ((-1, first), (-21, second)):  # the third is still to come
        path = settings.folder(run) / f"walk{frame}-6-3-500K.json"
        path.write_text(json.dumps(walk))
    assert figure3.points_of(figure3.simulations_of(options, settings, run)) == [
        (0, 2, 20.0, 10.0, 30.0, 30.0),
        (3, 1, 20.0, 20.0, 20.0, 30.0),
        (6, 1, 30.0, 30.0, 30.0, 45.0),
    ]
    figure3.report(options, settings, runs)
    assert "1 walkers stopped early (it exploded)" in capsys.readouterr().out
    assert (settings.output / "figure3.png").is_file()


def test_figure4_counts_frames_and_labels_before_training(settings):
    options, runs = asked(figure4, "--frames", "100")
    (settings.output / "ethanol-dynamics.txt").write_text("0.3\n")
    for run in runs:
        leave(settings, run)
    figure4.report(options, settings, runs)  # 100 frames of 10 steps: 5 minutes
    totals = [row["total/min"] for row in table_of(settings, "figure4")]
    assert totals == ["15.0", "10.0", "17.0"]
    assert (settings.output / "figure4.png").is_file()


def test_shipped_models_are_named_by_molecule_functional_and_basis():
    expected = ["water-pbe-6-31g", "ethanol-pbe-6-31g", "malonaldehyde-pbe-6-31g"]
    assert [shipped_models.name_of(run.molecule) for run in shipped_models.SHIPPED][:3] == expected


def test_shipped_models_sample_and_repeat_whatever_else_the_machine_does(settings):
    options, runs = asked(shipped_models)
    assert options.minutes is None
    settings = Settings(output=settings.output, data=settings.data, minutes=None)
    for run in runs:
        words = train_command(settings, run)
        parsed = train._parser().parse_args(words[3:])
        assert (getattr(parsed, "engine.name"), parsed.threads, parsed.seed) == ("sync", 1, 0)
        assert (parsed.steps, parsed.minutes) == (run.steps, None)
        assert run.steps < 10**6
        assert parsed.self_refine is not False
    for run in runs:
        assert run.model == "potential"
        own = ase.io.read(run.structure)
        assert bonded_groups(own) == bonded_groups(STRUCTURES[shipped_models.name_of(run.molecule)])


def test_a_model_is_installed_unless_it_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped_models, "shipped_folder", lambda: tmp_path / "shipped")
    (tmp_path / "model.srdft").write_bytes(b"x" * shipped_models.LARGEST)
    shipped_models.install("small", tmp_path / "model.srdft")
    assert (tmp_path / "shipped" / "small.srdft").stat().st_size == shipped_models.LARGEST
    (tmp_path / "model.srdft").write_bytes(b"x" * (shipped_models.LARGEST + 1))
    with pytest.raises(RunError):
        shipped_models.install("large", tmp_path / "model.srdft")
    assert [path.name for path in (tmp_path / "shipped").iterdir()] == ["small.srdft"]
