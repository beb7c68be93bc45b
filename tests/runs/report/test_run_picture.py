"""The picture of a run holds its log, against steps and against time."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ase_srdft.common.errors import BadInput
from ase_srdft.runs.report.history import read_history
from ase_srdft.runs.report.run_picture import draw_run, write_run_picture
from tests.runs.report.run_log import SEVERAL, put, realistic_run, settings, start_line


def panels(tmp_path, lines, names=("C2H6O",)):
    history = read_history(put(tmp_path, lines, settings()))
    figure = Figure()
    draw_run(figure, history, names)
    return [panel.axes[0] for panel in figure.subfigs]


def series(axes, label):
    return next(line.get_xydata() for line in axes.lines if line.get_label() == label)


def test_bracket_and_energy_against_steps_and_time(tmp_path):
    lines = realistic_run()
    found = panels(tmp_path, lines)
    labels = [axes.get_xlabel() for axes in found]
    assert labels == ["training steps", "minutes of training"] * 2
    validations = [line for line in lines if line["kind"] == "validation"]
    widths = [line["bracket_width_uEh"] for line in validations]
    for axes, name, unit in ((found[0], "step", 1.0), (found[1], "elapsed_s", 60.0)):
        expected = np.transpose([[line[name] / unit for line in validations], widths])
        np.testing.assert_allclose(series(axes, "held out: mean"), expected)
    lowest = min(line["energy_hartree"] for line in validations)
    above = [1e3 * (line["energy_hartree"] - lowest) for line in validations]
    for axes in found[2:]:
        np.testing.assert_allclose(series(axes, "held out")[:, 1], above)


def test_short_and_long_runs_have_their_units(tmp_path):
    lines = realistic_run(steps=300)
    for factor, unit in ((1.0, "seconds"), (1000.0, "hours")):
        scaled = [line | {"elapsed_s": factor * line["elapsed_s"]} for line in lines]
        assert panels(tmp_path, scaled)[1].get_xlabel() == f"{unit} of training"


def test_it_is_written_for_many_molecules(tmp_path):
    run = put(tmp_path / "run", realistic_run(SEVERAL, steps=300), settings())
    write_run_picture(tmp_path / "a.svg", run)
    text = (tmp_path / "a.svg").read_text()
    assert "7 molecules" in text
    assert "300 steps" in text


def test_no_run_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no metrics\.jsonl"):
        write_run_picture(tmp_path / "a.png", tmp_path)
    run = put(tmp_path / "run", [start_line(["H2O"])])
    with pytest.raises(BadInput, match="no training yet"):
        write_run_picture(tmp_path / "a.png", run)
    assert not (tmp_path / "a.png").exists()
