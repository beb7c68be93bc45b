"""What a run's files tell, also when they are torn, foreign or of another version."""

import math

import pytest

from ase_srdft.runs.report.history import by_molecule, read_history
from tests.runs.report.run_log import put, realistic_run, settings, start_line


@pytest.fixture(scope="module")
def lines():
    return realistic_run()


def test_torn_and_incomplete_lines_are_left_out_and_counted(lines, tmp_path):
    put(tmp_path, [line for line in lines if line["step"] <= 500], settings())
    expected = read_history(tmp_path)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "training", "step": 510}\n[1]\n{"kind": "validation", "step\xc3')
    history = read_history(tmp_path)
    assert history.nunreadable == 3
    assert (history.training, history.last) == (expected.training, expected.last)
    assert len(history.training) == 25
    assert history.setting("sampling", "temperature_K") == 500.0
    (tmp_path / "config.yaml").write_text("steps: [1, 2")
    assert read_history(tmp_path).settings == {}


def test_steps_that_a_resumed_run_repeats_count_once(lines, tmp_path):
    before = [line for line in lines if line["step"] <= 1000]
    resumed = [start_line(["C2H6O"], step=800, elapsed_s=200.0)]
    # the round of step 800 itself is before the step, and so is done again
    again = [line for line in lines if line["step"] > 800 and line["kind"] != "end"]
    again[:0] = [line for line in lines if line["step"] == 800 and line["kind"] == "sampling"]
    history = read_history(put(tmp_path / "twice", before + resumed + again))
    once = read_history(put(tmp_path / "once", lines))
    assert history.nsessions == 2
    assert history.end is None
    assert history.training == once.training
    assert history.sampling == once.sampling
    assert history.validation == once.validation


def test_certified_error_is_that_of_the_saved_model_though_wider(lines, tmp_path):
    """When samples replace held-out geometries the best begins anew, perhaps wider."""
    narrow, wide = (dict(line) for line in [line for line in lines if line.get("best")][:2])
    narrow["bracket_width_uEh"], wide["bracket_width_uEh"] = 30.0, 70.0
    history = read_history(put(tmp_path, [lines[0], narrow, wide]))
    assert history.certified.bracket_width_uEh == 70.0
    assert history.certified_widths_uEh[0] == 70.0
    assert math.isnan(history.certified_widths_uEh[1])


def test_the_saved_model_is_judged_on_what_was_held_out_last(lines, tmp_path):
    """Other geometries are held out by then than when it was chosen."""
    last = [line for line in lines if line["kind"] == "validation"][-1]
    last |= {"best": False, "bracket_width_max_uEh": 400.0}
    last |= {"best_bracket_width_uEh": 77.7, "best_bracket_width_max_uEh": 345.6}
    end = lines[-1] | {"target_error_uEh": 50.0, "target_reached": False}
    history = read_history(put(tmp_path, [*lines[:-1], last, end]))
    assert history.certified.step < last["step"] or len(history.validation) > 1
    assert history.certified_widths_uEh == (77.7, 345.6)
    assert (history.end.target_error_uEh, history.end.target_reached) == (50.0, False)


def test_late_widths_are_those_of_the_last_quarter_of_the_rounds(lines, tmp_path):
    history = read_history(put(tmp_path, lines))
    logged = [line["bracket_width_uEh"] for line in lines if line["kind"] == "sampling"]
    assert len(logged) == 288
    assert history.late_widths_uEh() == {0: [w for own in logged[216:] for w in own]}


def test_values_are_given_to_their_molecules(tmp_path):
    run = {"molecules": ["H2O", "CH4O"], "energies": [-76.3, -115.5], "modes": [3, 12]}
    history = read_history(put(tmp_path, realistic_run(run, steps=500)))
    energies = by_molecule(history.sampling, "energies_hartree")
    assert [round(min(own)) for own in energies.values()] == [-76, -115]
    assert {len(own) for own in energies.values()} == {8 * len(history.sampling)}
