"""The plots hold the numbers of the log."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.runs.report.history import read_history
from ase_srdft.runs.report.plots import PLOTS
from tests.runs.report.run_log import SEVERAL, put, realistic_run, settings


@pytest.fixture(scope="module")
def lines():
    return realistic_run()


@pytest.fixture
def draw(tmp_path):
    """Draws one plot of a run; gives its axes, and its lines' points by their labels."""

    def plot(name, lines, molecules=("C2H6O",), config=None):
        history = read_history(put(tmp_path, lines, config or settings()))
        figure = Figure()
        chosen = next(plot for plot in PLOTS if plot.name == name)
        _, drawn = chosen.draw_on(figure, history, molecules)
        axes = figure.axes[0]
        assert drawn == axes.has_data()
        return axes, {line.get_label(): line.get_xydata() for line in axes.lines}

    return plot


def of_kind(lines, kind, *keys):
    return np.array([[line[key] for key in keys] for line in lines if line["kind"] == kind])


def test_bracket_over_training_is_the_log(lines, draw):
    logged = [
        line | {"bracket_width_max_uEh": 3.0 * line["bracket_width_uEh"]}
        if "best" in line
        else line
        for line in lines
    ]
    axes, series = draw("bracket", logged)
    held_out = of_kind(lines, "validation", "step", "bracket_width_uEh")
    training = of_kind(lines, "training", "step", "bracket_width_uEh")
    assert len(training) == 250
    np.testing.assert_allclose(series["training batches"], training)
    np.testing.assert_allclose(series["held out: mean"], held_out)
    np.testing.assert_allclose(series["held out: maximum"], held_out * [1.0, 3.0])
    saved = [line for line in lines if line.get("best")][-1]
    assert series["the saved model"].tolist() == [[saved["step"], saved["bracket_width_uEh"]]]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] < training[:, 1].min() < training[:, 1].max() < axes.get_ylim()[1]


def test_values_that_a_logarithm_cannot_show_are_left_out(lines, draw):
    odd = [dict(line) for line in lines if line["step"] <= 1000]
    training = [line for line in odd if line["kind"] == "training"]
    training[3]["bracket_width_uEh"] = math.nan
    training[4]["bracket_width_uEh"] = -2.0
    training[5]["energy_hartree"] = math.inf
    assert len(draw("bracket", odd)[1]["training batches"]) == len(training) - 2
    assert len(draw("energy", odd)[1]["training batches"]) == len(training) - 1


def test_energy_is_counted_from_the_lowest_held_out_mean(lines, draw):
    axes, series = draw("energy", lines)
    energies = of_kind(lines, "validation", "energy_hartree")[:, 0]
    expected = 1e3 * (energies - energies.min())
    assert expected.max() > 1.0
    np.testing.assert_allclose(series["held out"][:, 1], expected)
    assert series["training batches"][0, 1] > axes.get_ylim()[1] > expected.max()


def test_widths_of_late_samples_are_counted_and_their_maximum_marked(lines, draw):
    axes, series = draw("widths", lines)
    rounds = [line["bracket_width_uEh"] for line in lines if line["kind"] == "sampling"]
    late = np.array(rounds[216:])
    assert sum(bar.get_height() for bar in axes.patches) == late.size == 72 * 16
    (label,) = series
    assert series[label][:, 0].tolist() == [late.max()] * 2
    assert f"{late.max():.0f}" in label
    assert axes.get_xscale() == "log"


def test_sampled_energies_are_counted_above_the_lowest_of_each_molecule(draw):
    lines = realistic_run(SEVERAL, steps=1500)
    axes, _ = draw("energies", lines, SEVERAL["molecules"])
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [*SEVERAL["molecules"][:5], "others"]
    total = sum(bar.get_height() for bar in axes.patches)
    assert total == 16 * len(of_kind(lines, "sampling", "step"))
    rows = [line for line in lines if line["kind"] == "sampling"]
    water = [r["energies_hartree"][i] for r in rows for i, m in enumerate(r["molecules"]) if m == 0]
    shown = max(b.get_x() + b.get_width() for b in axes.containers[0] if b.get_height())
    assert shown == pytest.approx(np.ptp(water) * EV_PER_HARTREE, abs=0.1)


def test_temperature_is_the_log_with_its_running_mean(lines, draw):
    _, series = draw("temperature", lines)
    expected = of_kind(lines, "sampling", "step", "temperature_K")
    np.testing.assert_allclose(series["each round"], expected)
    window = len(expected) // 12
    running = series[f"mean of {window} rounds"]
    assert running[0, 1] == pytest.approx(expected[:window, 1].mean())
    assert running[-1, 1] == pytest.approx(expected[-window:, 1].mean())
    assert [500.0, 500.0] in [points[:, 1].tolist() for points in series.values()]


def test_rounds_with_resets_are_marked(lines, draw):
    _, series = draw("acceptance", lines)
    steps = [r["step"] for r in lines if r["kind"] == "sampling" and any(r["resets"].values())]
    assert len(steps) > 2
    assert series["with resets"].tolist() == [[step, 100.0] for step in steps]
    assert len(series["accepted"]) == 288


def test_plots_without_data_stay_empty(lines, draw):
    cold = [line | {"temperature_K": None} for line in lines if line["kind"] != "validation"]
    assert not draw("temperature", cold)[0].has_data()
    old = [{k: v for k, v in line.items() if k != "bracket_width_uEh"} for line in lines]
    assert not draw("widths", old)[0].has_data()
    for plot in PLOTS:
        assert not draw(plot.name, lines[:1])[0].has_data()


def test_one_sample_and_one_step_are_enough(lines, draw):
    first = {kind: next(r for r in lines if r["kind"] == kind) for kind in ("training", "sampling")}
    for plot in PLOTS:
        assert draw(plot.name, [lines[0], *first.values()])[0].has_data()
