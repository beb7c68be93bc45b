"""The report of a training run, from metrics like a real run's."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import yaml

from ase_srdft.common.units import EV_PER_HARTREE, HARTREE_PER_KELVIN, MICROHARTREE
from ase_srdft.runs.report.histogram import expected_counts
from ase_srdft.runs.report.history import read_history
from ase_srdft.runs.report.page import write_report
from ase_srdft.runs.report.svg import Axis, Figure, Mark
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.training.config import TrainingConfig

ETHANOL = {"molecules": ["C2H6O"], "energies": [-154.76], "modes": [21]}
SEVERAL = {
    "molecules": ["H2O", "C2H6O", "C2H4O2", "C3H8", "CH5N", "C2H2O2", "CH4O"],
    "energies": [-76.3, -154.8, -228.8, -118.9, -95.7, -227.4, -115.5],
    "modes": [3, 21, 18, 27, 15, 12, 12],
}


def start_line(molecules, step=0, elapsed_s=0.0):
    return {
        "kind": "start",
        "step": step,
        "elapsed_s": elapsed_s,
        "molecules": molecules,
        "level": "PBE/6-31g (def2-universal-jfit, grid level 1)",
        "nparameters": 199872,
        "nframes": 0,
        "nvalidation": 16,
        "version": "0.1.0",
    }


def training_line(step, molecules, energies, rng):
    """An average over twenty batches of eight: error falls as in a run of ethanol."""
    width = 45.0 + 1.2e5 * math.exp(-step / 45.0) + 2.5e3 * math.exp(-step / 500.0)
    width *= rng.lognormal(0.0, 0.12)
    energy = np.mean(rng.choice(energies, 160)) + 0.0172 + 0.0008 * rng.standard_normal()
    return {
        "kind": "training",
        "step": step,
        "elapsed_s": step / 4.1,
        "energy_hartree": energy + width * 1e-6,
        "bracket_width_uEh": width,
        "gradient_norm": 0.3,
        "learning_rate": 0.01 * min(step / 100, 0.5 + 0.5 * math.cos(math.pi * step / 5000)),
        "nsamples": 0,
        "steps_per_s": 4.1,
    }


def sampling_line(step, nsamples, run, rng, temperature_K=500.0):
    """Sixteen samples of harmonic molecules, cut as the guards would cut them."""
    which = [int(i) for i in np.arange(16) % len(run["molecules"])]
    thermal = HARTREE_PER_KELVIN * temperature_K
    return {
        "kind": "sampling",
        "step": step,
        "elapsed_s": step / 4.1,
        "nsamples": nsamples + 16,
        "energies_hartree": [
            run["energies"][i] + rng.gamma(run["modes"][i] / 2, thermal) for i in which
        ],
        "molecules": which,
        "bracket_width_uEh": [80.0] * 16,
        "acceptance": 1.0,
        "temperature_K": temperature_K * (1.0 + 0.16 * rng.standard_normal()),
        "resets": {
            "not finite or too close": 0,
            "energy spike": int(rng.random() < 0.01),
            "bonds changed": int(rng.random() < 0.02),
        },
    }


def realistic_run(run=ETHANOL, steps=5000, seed=0):
    """The lines of a run."""
    rng = np.random.default_rng(seed)
    lines, nsamples, best = [start_line(run["molecules"])], 0, math.inf
    for step in range(1, steps + 1):
        if step % 16 == 0 and step >= 400:
            lines.append(sampling_line(step, nsamples, run, rng))
            nsamples += 16
        if step % 20 == 0:
            lines.append(training_line(step, run["molecules"], run["energies"], rng))
        if step % 250 == 0:
            width = 46.0 + 2.2e3 * math.exp(-step / 420.0) * rng.lognormal(0.0, 0.1)
            width *= rng.lognormal(0.0, 0.04)
            lines.append(
                {
                    "kind": "validation",
                    "step": step,
                    "elapsed_s": step / 4.1,
                    "energy_hartree": np.mean(run["energies"]) + 0.0163 + width * 1e-6,
                    "bracket_width_uEh": width,
                    "best": width < best,
                }
            )
            best = min(best, width)
    lines.append(
        {
            "kind": "end",
            "step": steps,
            "elapsed_s": steps / 4.1,
            "reason": "steps done",
            "best_bracket_width_uEh": best,
        }
    )
    return lines


def settings(**changes):
    return TrainingConfig(sampling=SamplingConfig(temperature_K=500.0), **changes).to_plain()


def put(directory, lines, config=None):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.jsonl").write_text(text)
    if config is not None:
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory


def report_of(directory, lines, config=None):
    return write_report(put(directory, lines, config)).read_text(encoding="utf-8")


def drawings(page):
    """Each SVG of a page as a tree, by the name of its clip path."""
    found = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    trees = [ElementTree.fromstring(text) for text in found]
    return {tree.find(f"{SVG}clipPath").get("id").removeprefix("clip-"): tree for tree in trees}


def words(page):
    """What a reader sees, in one line."""
    body = page[page.index("<body>") :]
    body = re.sub(r"<svg.*?</svg>", " ", body, flags=re.DOTALL)
    return " ".join(
        re.sub(r"<[^>]*>", " ", body.replace("<sub>", "").replace("</sub>", "")).split()
    )


SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def lines():
    return realistic_run()


@pytest.fixture(scope="module")
def page(lines, tmp_path_factory):
    return report_of(tmp_path_factory.mktemp("run"), lines, settings(steps=5000))


# The page


def test_page_is_written_beside_the_metrics_and_replaced(tmp_path):
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    first = path.read_text(encoding="utf-8")
    put(tmp_path, [start_line(["H2O"])])
    assert write_report(tmp_path).read_text(encoding="utf-8") != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "report.html"]


def test_page_needs_no_network_and_no_script(page):
    links = re.findall(r"\w+://[^\s\"'<]*", page)
    assert len(links) == 5
    assert set(links) == {SVG.strip("{}")}
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    assert not re.search(r"<(script|link|img|iframe|object|embed|use)\b|@import|\bsrc=", page)
    assert "default-src 'none'" in page


def test_the_saved_model_is_told_of_on_what_was_held_out_last(lines, tmp_path):
    """With its widest bracket; other geometries are held out than when it was chosen."""
    told = {"best_bracket_width_uEh": 77.7, "best_bracket_width_max_uEh": 345.6}
    told |= {"best": False, "bracket_width_max_uEh": 400.0}
    told |= {"nvalidation": 16, "nsampled": 12, "nframes": 0}
    last = [line for line in lines if line["kind"] == "validation"][-1] | told
    end = lines[-1] | {"target_error_uEh": 50.0, "target_reached": False}
    text = words(report_of(tmp_path, [*lines[:-1], last, end], settings(steps=5000)))
    assert "Certified error 77.7 µEh" in text
    assert "at most 346 µEh" in text
    assert "within 346 µEh at each of them" in text
    assert "12 samples of the run's own dynamics and 4 rattled copies" in text
    assert "Its target of 50 µEh was not reached." in text
    assert "✗ target of 50 µEh not reached" in text
    reached = lines[-1] | {"target_error_uEh": 90.0, "target_reached": True}
    text = words(report_of(tmp_path, [*lines[:-1], last, reached], settings(steps=5000)))
    assert "✓ target of 90 µEh reached" in text


def test_key_figures_are_those_of_the_run(lines, page):
    text = words(page)
    saved = [line for line in lines if line.get("best")][-1]
    width = saved["bracket_width_uEh"]
    meV = width / MICROHARTREE * EV_PER_HARTREE * 1e3
    assert f"Certified error {width:.1f} µEh {meV:.2f} meV, at step {saved['step']:,}" in text
    assert "✓ within chemical accuracy" in text
    assert "Training steps 5,000 of at most 5,000 4.1 per second" in text
    assert "Sampled geometries 4,608 in 288 rounds 100 % accepted" in text
    assert "Wall time 20 min 20 s in one session" in text
    resets = [line["resets"] for line in lines if line["kind"] == "sampling"]
    spikes, broken = (sum(r[why] for r in resets) for why in ("energy spike", "bonds changed"))
    assert spikes > 0
    assert f"Reset or refused {spikes + broken} " in text
    assert f"energy spike: {spikes}" in text
    assert f"bonds changed: {broken}" in text
    assert "too close" not in text


def test_age_of_weights_and_restarts_are_key_figures(tmp_path):
    lines = realistic_run(steps=500)
    sampling = [line for line in lines if line["kind"] == "sampling"]
    for index, line in enumerate(sampling):
        line["staleness"] = 20 + 10 * (index % 2)
    lines.insert(-1, {"kind": "worker", "step": 480, "elapsed_s": 1.0, "worker": "sampler-0"})
    assert len(sampling) % 2 == 1
    text = words(report_of(tmp_path, lines, settings(steps=500)))
    mean = sum(line["staleness"] for line in sampling) / len(sampling)
    assert f"weights {mean:.1f} steps old, 30 at most" in text
    assert "workers started again: 1" in text


def test_page_says_what_was_run_and_how_to_read_it(page):
    text = words(page)
    assert "C<sub>2</sub>H<sub>6</sub>O</h1>" in page
    assert text.startswith("C2H6O PBE/6-31g (def2-universal-jfit, grid level 1)")
    assert "The run has done all that was asked, after 5,000 steps" in text
    assert "E lower ≤ E SCF ≤ E" in text.replace("Elower", "E lower").replace("ESCF", "E SCF")
    assert "temperature_K 500.0" in text
    assert "parameters of the model 199,872" in text
    assert "21 vibrations" in text
    assert "target_error_uEh not set" in text


def test_error_above_chemical_accuracy_is_not_praised(lines, tmp_path):
    early = [line for line in lines if line["step"] <= 250]
    early[-1] = early[-1] | {"bracket_width_uEh": 1700.0}
    text = words(report_of(tmp_path, early))
    assert "Certified error 1,700 µEh 46.3 meV, at step 250 ✗ not yet chemical accuracy" in text


def test_names_and_reasons_are_escaped(tmp_path):
    hostile = '<b onclick="x">&\x07'
    lines = realistic_run({"molecules": [hostile], "energies": [-1.0], "modes": [3]}, steps=600)
    lines[0]["level"] = lines[-1]["reason"] = hostile
    for line in lines:
        if line["kind"] == "sampling":
            line["resets"] = {hostile: 1}
    page = report_of(tmp_path, lines, settings() | {hostile: {hostile: hostile}})
    assert "<b onclick" not in page
    assert "\x07" not in page
    assert page.count("&lt;b onclick=&quot;x&quot;&gt;&amp;") >= 8
    assert len(drawings(page)) == 5


# The plots


def test_every_drawing_is_valid_xml_with_what_it_should_show(lines, page):
    trees = drawings(page)
    assert list(trees) == ["bracket", "energy", "histogram", "temperature", "learning-rate"]
    nvalidations = sum(line["kind"] == "validation" for line in lines)
    for name in ("bracket", "energy"):
        marks = [c for c in trees[name].iter(f"{SVG}circle") if "validation" in c.get("class")]
        assert len(marks) == nvalidations == 20
        assert all(mark.find(f"{SVG}title").text for mark in marks)
    titles = "".join(trees["histogram"].itertext())
    assert sum(map(int, re.findall(r"eV: (\d+) geometries", titles))) == 4608
    assert len(list(trees["temperature"].iter(f"{SVG}circle"))) == 288
    assert "target: 500 K" in "".join(trees["temperature"].itertext())
    assert "1,594 µEh" in "".join(trees["bracket"].itertext())
    for tree in trees.values():
        assert tree.get("role") == "img"
        assert tree.get("aria-label")
        assert tree.find(f".//{SVG}polyline") is not None


def test_bracket_marks_stand_where_the_logarithmic_axis_says(lines, page):
    tree = drawings(page)["bracket"]
    labels = [text for text in tree.iter(f"{SVG}text") if text.get("dy") == "0.35em"]
    ticks = {text.text: float(text.get("y")) for text in labels}
    decade = ticks["1,000"] - ticks["100"]
    widths = [r["bracket_width_uEh"] for r in lines if r["kind"] == "validation"]
    drawn = [float(c.get("cy")) for c in tree.iter(f"{SVG}circle")]
    expected = [ticks["100"] + decade * math.log10(width / 100.0) for width in widths]
    assert max(widths) > 5.0 * min(widths)
    assert drawn == pytest.approx(expected, abs=0.15)


def test_harmonic_curve_is_the_distribution_of_harmonic_samples():
    rng = np.random.default_rng(3)
    thermal = HARTREE_PER_KELVIN * 500.0 * EV_PER_HARTREE
    energies = rng.gamma(21 / 2, thermal, 20_000)
    energies -= energies.min()
    edges = np.linspace(0.0, energies.max(), 31)
    counts = np.histogram(energies, edges)[0]
    curve = expected_counts(edges, len(energies), float(np.median(energies)), 21, 500.0)
    x, y = np.array(curve).T
    expected = np.interp(0.5 * (edges[1:] + edges[:-1]), x, y)
    assert np.abs(counts - expected).max() < 5.0 * math.sqrt(counts.max())
    hotter = expected_counts(edges, len(energies), float(np.median(energies)), 21, 600.0)
    assert max(c for _, c in hotter) < 0.9 * max(c for _, c in curve)


def test_several_molecules_share_the_plots(tmp_path):
    page = report_of(tmp_path, realistic_run(SEVERAL, steps=1500), settings())
    text = words(page)
    assert text.startswith("H2O, C2H6O, C2H4O2, C3H8 and 3 more")
    assert ", ".join(SEVERAL["molecules"]) in text
    assert "mean over molecules of different energies" in text
    assert "harmonic" not in text
    histogram = drawings(page)["histogram"]
    styles = {bar.get("class") for bar in histogram.iter(f"{SVG}rect")} - {None}
    assert styles == {f"bar bar-{series}" for series in range(6)}
    assert "others" in text


def test_without_a_temperature_nothing_is_compared_with_it(lines, tmp_path):
    cold = [
        line | ({"temperature_K": None} if line["kind"] == "sampling" else {})
        for line in lines
        if line["step"] <= 1000
    ]
    page = report_of(tmp_path, cold)
    assert "no estimate of the temperature" in words(page)
    assert "harmonic" not in words(page)
    assert "no readable config.yaml" in words(page)
    assert list(drawings(page)) == ["bracket", "energy", "histogram", "learning-rate"]


def test_values_that_an_axis_cannot_show_are_left_out_and_told(lines, tmp_path):
    odd = [dict(line) for line in lines if line["step"] <= 1000]
    training = [line for line in odd if line["kind"] == "training"]
    training[3]["bracket_width_uEh"] = math.nan
    training[4]["bracket_width_uEh"] = -2.0
    training[5]["energy_hartree"] = math.inf
    page = report_of(tmp_path, odd, settings())
    assert "Not shown: 2 that are not above zero" in words(page)
    assert "nan" not in "".join(re.findall(r'points="[^"]*"', page))


def test_long_runs_make_no_long_page(tmp_path):
    rng = np.random.default_rng(1)
    lines = [start_line(["C2H6O"])]
    for step in range(20, 60_000, 20):
        lines.append(training_line(step, ["C2H6O"], [-154.76], rng))
        lines.append(sampling_line(step, 16 * (step // 20 - 1), ETHANOL, rng))
    page = report_of(tmp_path, lines, settings())
    assert "Sampled geometries 47,984" in words(page)
    assert len(page) < 200_000


# What runs leave behind


@pytest.mark.parametrize("text", [None, "", "\n", '{"kind": "sta'])
def test_empty_run_is_told_plainly(text, tmp_path):
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "This run has not logged anything yet" in words(page)
    assert "Certified error none yet" in words(page)
    assert drawings(page) == {}


def test_short_runs_are_told_plainly(lines, tmp_path):
    begun = words(report_of(tmp_path, lines[:1], settings()))
    assert "still going on, or was cut off" in begun
    assert "dynamics starts once the bracket is below 5,000 µEh" in begun
    page = report_of(tmp_path, lines[:2], settings())
    assert "not been validated yet" in words(page)
    assert list(drawings(page)) == ["bracket", "energy", "learning-rate"]
    given = settings(self_refine=False)
    assert "trains on the given frames alone" in words(report_of(tmp_path, lines[:2], given))


def test_torn_and_incomplete_lines_are_left_out_and_counted(lines, tmp_path):
    whole = [line for line in lines if line["step"] <= 500]
    put(tmp_path, whole, settings())
    expected = read_history(tmp_path)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "training", "step": 510}\n[1]\n{"kind": "validation", "step\xc3')
    history = read_history(tmp_path)
    assert history.nunreadable == 3
    assert (history.training, history.last) == (expected.training, expected.last)
    assert len(history.training) == 25
    assert "3 lines of metrics.jsonl could not be read" in words(write_report(tmp_path).read_text())
    (tmp_path / "config.yaml").write_text("steps: [1, 2")
    assert "no readable config.yaml" in words(write_report(tmp_path).read_text())


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
    assert "in 2 sessions" in words(write_report(tmp_path / "twice").read_text())


def test_certified_error_is_that_of_the_saved_model_though_wider(lines, tmp_path):
    """When samples replace held-out geometries the best begins anew, perhaps wider."""
    narrow, wide = (dict(line) for line in [line for line in lines if line.get("best")][:2])
    narrow["bracket_width_uEh"], wide["bracket_width_uEh"] = 30.0, 70.0
    history = read_history(put(tmp_path, [lines[0], narrow, wide]))
    assert history.certified.bracket_width_uEh == 70.0


# The drawing tools


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(label="", low=0.0, high=5000.0), [0, 1000, 2000, 3000, 4000, 5000]),
        (Axis(label="", low=-1.2, high=1.3), [-1, -0.5, 0, 0.5, 1]),
        (Axis(label="", low=30.0, high=2e5, log=True), [100, 1e3, 1e4, 1e5]),
        (Axis(label="", low=15.0, high=600.0, log=True), [20, 50, 100, 200, 500]),
    ],
)
def test_ticks_are_round_and_within(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_axis_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="two finite ends"):
        Axis(label="", low=1.0, high=1.0)
    with pytest.raises(ValueError, match="positive end"):
        Axis(label="", low=0.0, high=1.0, log=True)
    assert Axis.spanning("", [math.nan, -3.0, 0.0], log=True).low > 0
    flat = Axis.spanning("", [7.0, 7.0])
    assert flat.low < 7.0 < flat.high


def test_figure_puts_low_left_and_high_right():
    figure = Figure(
        "a", "b", x=Axis(label="x", low=0.0, high=2.0), y=Axis(label="y", low=0.0, high=2.0)
    )
    figure.marks([Mark(x=v, y=v, title="<&>", style="m") for v in (0.0, 1.0, 2.0, math.nan)])
    circles = list(ElementTree.fromstring(figure.render()).iter(f"{SVG}circle"))
    xs, ys = ([float(c.get(k)) for c in circles] for k in ("cx", "cy"))
    assert len(circles) == 3
    assert xs[0] < xs[1] < xs[2]
    assert ys[0] > ys[1] > ys[2]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    assert circles[0].find(f"{SVG}title").text == "<&>"
