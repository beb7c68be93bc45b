"""Tables, curves and figures of campaigns, from files as runs leave them."""

import csv
import json

import pytest

from tests.tools.campaigns import ERRORS, benchmark, campaign, leave_training, write_labels


def run_of(**settings):
    return benchmark("runs").Run(
        **{"molecule": "ethanol", "model": "fock", "nframes": 340} | settings
    )


def leave_run(whole, run, **training):
    """A finished run."""
    directory = whole.directory(run)
    directory.mkdir(parents=True)
    leave_training(directory, **training)
    whole.evaluation(run).write_text(json.dumps(ERRORS))
    (directory / "run.json").write_text(json.dumps({"machine": "abacus, 10 cores"}))
    return run


def table_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
    assert benchmark("results").shown(cell) == words


def test_a_table_is_written_in_full_and_printed_in_short(tmp_path, capsys):
    rows = [["ethanol", 10.7421, None]]
    header = ("molecule", "E/µEh", "forces")
    benchmark("results").write_table(tmp_path / "table", "Errors", header, rows, ["A note."])
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert text.splitlines()[2:5] == [
        "| molecule | E/µEh | forces |",
        "| --- | --- | --- |",
        "| ethanol | 10.7 | – |",
    ]
    assert "A note." in text
    assert table_of(tmp_path / "table.csv") == [
        {"molecule": "ethanol", "E/µEh": "10.7421", "forces": ""}
    ]


def test_a_result_is_what_the_run_has_written(tmp_path):
    whole = campaign(tmp_path)
    run = leave_run(whole, run_of(nframes=25), nframes=25, minutes=9.0)
    (result,) = benchmark("results").results_of(whole, [run])
    assert result.accuracy.energy_mae_uEh == ERRORS["energy_mae_uEh"]
    assert (result.nframes, result.steps, result.minutes) == (25, 500, pytest.approx(9.0))
    assert result.machine == "abacus, 10 cores"


def test_unfinished_runs_have_no_result_and_are_named(tmp_path):
    results, whole = benchmark("results"), campaign(tmp_path)
    done = leave_run(whole, run_of())
    interrupted = leave_run(whole, run_of(nframes=25), reason="interrupted")
    runs = [done, interrupted, run_of(nframes=100)]
    found = results.results_of(whole, runs)
    assert [result.run for result in found] == [done]
    notes = "\n".join(results.notes_of(whole, runs, found))
    assert "Not finished: ethanol-fock-25-fixed, ethanol-fock-100-fixed." in notes
    assert "10 minutes on one core" in notes
    assert "abacus, 10 cores" in notes


def test_runs_whose_labels_took_all_of_their_time_are_named(tmp_path):
    whole, run = campaign(tmp_path, labels_count=True), run_of(model="supervised")
    write_labels(whole.labels("ethanol"), [3.0] * 400)
    notes = benchmark("results").notes_of(whole, [run], [])
    assert notes[-1] == "No time left to train after the labels: ethanol-supervised-340-fixed."


def test_the_certified_error_over_time_is_that_of_the_validations(tmp_path):
    leave_training(tmp_path, minutes=10.0, widths=(900.0, 200.0, 30.0))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "validation", "st')  # torn
    curve = benchmark("results").certified_curve(tmp_path)
    assert [width for _, width in curve] == [900.0, 200.0, 30.0]
    assert [minutes for minutes, _ in curve] == pytest.approx([10 / 3, 20 / 3, 10.0])


def test_the_papers_rows_have_the_columns_of_ours(tmp_path):
    results, whole = benchmark("results"), campaign(tmp_path)
    ours = results.results_of(whole, [leave_run(whole, run_of())])[0]
    paper = benchmark("paper_numbers").published("ethanol")
    assert [row.energy for row in paper] == [63.3, 135.9, 83.8]
    for row in (results.row_of(ours), *map(results.published_row, paper)):
        assert len(row) == len(results.HEADER)
    cells = dict(zip(results.HEADER, results.published_row(paper[0]), strict=True))
    assert (cells["H/µEh"], cells["gap/µEh"]) == (91.0, 1342)


def test_table1_puts_the_paper_before_ours_and_draws_both(tmp_path, capsys):
    table1, whole = benchmark("table1"), campaign(tmp_path)
    runs = table1.runs_of(["ethanol", "uracil"], ["fock", "supervised"], 340, True)
    assert len(runs) == 6
    leave_run(whole, runs[0])
    table1.report(whole, runs)
    models = [row["model"] for row in table_of(tmp_path / "table1.csv")]
    assert models == ["paper"] * 3 + ["fock"] + ["paper"] * 3
    assert (tmp_path / "table1.png").stat().st_size > 10_000


def test_figure2_compares_with_and_without_self_refining(tmp_path, capsys):
    figure2, whole = benchmark("figure2"), campaign(tmp_path)
    runs = figure2.runs_of(["ethanol"], ["fock"], [100, 25])
    assert [(run.nframes, run.self_refine) for run in runs] == [
        (25, False),
        (25, True),
        (100, False),
        (100, True),
    ]
    for run in runs[1:]:
        leave_run(whole, run, nframes=run.nframes)
    figure2.report(whole, runs)
    trained = [row["trained on"] for row in table_of(tmp_path / "figure2.csv")]
    expected = ["self-refining, 25 frames", "100 frames", "self-refining, 100 frames"]
    assert trained == expected
    assert (tmp_path / "figure2.png").is_file()


def test_equal_time_has_a_panel_for_every_number_of_frames(tmp_path, capsys):
    equal_time, whole = benchmark("equal_time"), campaign(tmp_path, labels_count=True)
    runs = equal_time.runs_of(["ethanol"], ["fock", "supervised"], [25, 250])
    write_labels(whole.labels("ethanol"), [1.2] * 400)  # 250 of them take 5 minutes
    leave_run(whole, runs[3], nframes=250, minutes=5.0)
    equal_time.report(whole, runs)
    (row,) = table_of(tmp_path / "equal_time.csv")
    assert float(row["labels/min"]) == pytest.approx(5.0)
    assert (tmp_path / "equal_time.png").is_file()


def test_figure3_averages_over_the_walkers_that_came_so_far(tmp_path, capsys):
    figure3, whole = benchmark("figure3"), campaign(tmp_path)
    walks = figure3.Walks(walkers=3, nsteps=6, every=3, temperature_K=500.0)
    assert walks.frames == [-1, -21, -41]
    run = leave_run(whole, run_of())
    paths = [task.result for task in walks.tasks(whole, run)]
    first = {"steps": [0, 3, 6], "errors_uEh": [10.0, 20.0, 30.0], "widths_uEh": [15.0, 30.0, 45.0]}
    second = {"steps": [0], "errors_uEh": [30.0], "widths_uEh": [45.0], "failure": "it exploded"}
    for path, walk in zip(paths, (first, second), strict=False):  # the third is still to come
        path.write_text(json.dumps(walk))
    rows = figure3.rows_of(run, walks.finished(whole, run))
    assert [row[3:] for row in rows] == [
        [0, 2, 20.0, 10.0, 30.0, 30.0],
        [3, 1, 20.0, 20.0, 20.0, 30.0],
        [6, 1, 30.0, 30.0, 30.0, 45.0],
    ]
    figure3.report(walks, whole, [run])
    assert "1 walkers stopped early (it exploded)" in capsys.readouterr().out
    assert (tmp_path / "figure3.png").is_file()


def test_figure4_counts_frames_and_labels_before_training(tmp_path, capsys):
    figure4, whole = benchmark("figure4"), campaign(tmp_path)
    runs = figure4.runs_of(["ethanol"], ["fock", "supervised"], 100)
    write_labels(whole.labels("ethanol"), [1.2] * 400)  # 100 of them take 2 minutes
    (tmp_path / "ethanol-dynamics.json").write_text('{"seconds_of_a_step": 0.3}')
    for run in runs:
        leave_run(whole, run, nframes=run.nframes)
    figure4.report(10, whole, runs)  # 100 frames of 10 steps: 5 minutes
    totals = [float(row["total/min"]) for row in table_of(tmp_path / "figure4.csv")]
    assert totals == pytest.approx([15.0, 10.0, 17.0])
    assert (tmp_path / "figure4.png").is_file()
