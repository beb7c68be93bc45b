"""The report of a training run as a page, from logs like a real run's."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from ase.build import molecule
from ase.io.trajectory import Trajectory

from ase_srdft.common.units import EV_PER_HARTREE, MICROHARTREE
from ase_srdft.runs.report.page import write_report
from tests.runs.report.run_log import (
    ETHANOL,
    SEVERAL,
    put,
    realistic_run,
    sampling_line,
    settings,
    start_line,
    training_line,
)

FIGURES = ["bracket", "widths", "energy", "temperature", "energies", "acceptance"]
SVG = "{http://www.w3.org/2000/svg}"


def report_of(directory, lines, config=None):
    return write_report(put(directory, lines, config)).read_text(encoding="utf-8")


def words(page):
    """What a reader sees beside the figures, in one line."""
    body = ElementTree.fromstring(page).find("body")
    for parent in list(body.iter()):
        for svg in parent.findall(f"{SVG}svg"):
            parent.remove(svg)
    return " ".join(" ".join(body.itertext()).split())


def drawings(page):
    return list(ElementTree.fromstring(page).iter(f"{SVG}svg"))


@pytest.fixture(scope="module")
def lines():
    return realistic_run()


@pytest.fixture(scope="module")
def page(lines, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    with Trajectory(directory / "samples.traj", "w") as trajectory:
        for _ in range(4608):
            trajectory.write(molecule("CH3CH2OH"))
    return report_of(directory, lines, settings(steps=5000))


def test_page_is_well_formed_with_all_figures_and_nothing_from_outside(page):
    """The golden structure: XML, figures in order, ids unique, links within, no script."""
    elements = list(ElementTree.fromstring(page).iter())
    svgs = drawings(page)
    names = [next(e.get("id") for e in svg.iter() if e.get("id")) for svg in svgs]
    assert [name.removesuffix("-figure_1") for name in names] == ["molecule-0", *FIGURES]
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in svgs)
    ids = [e.get("id") for e in elements if e.get("id")]
    assert len(ids) == len(set(ids)) > 100
    links = re.findall(r"(?:href=\"|src=\"|url\()([^\")]*)", page)
    assert {link[0] for link in links} == {"#"}
    assert {link[1:] for link in links} <= set(ids)
    assert not {"script", "link", "img", "iframe", "object"} & {e.tag for e in elements}
    assert not [name for e in elements for name in e.attrib if name.startswith("on")]
    outside = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"\w+://[^\s\"'<]*", page)) == outside
    assert "default-src 'none'" in page


def test_figures_take_their_colours_and_their_font_from_the_page(page):
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        literal = set(re.findall(r"#[0-9a-f]{6}", svg))
        if "molecule-0" in svg:
            assert literal >= {"#ff0d0d", "#909090", "#ffffff"}  # O, C and H
        else:
            assert literal == set()
        assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(re.findall(r"--(\w+): #", page))
        assert "font-family" not in svg
        assert "DejaVu" not in svg


def test_page_is_the_same_for_the_same_run(lines, tmp_path):
    short = [line for line in lines if line["step"] <= 600]
    first = report_of(tmp_path, short, settings())
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == first
    put(tmp_path, short[:-20])
    assert write_report(tmp_path).read_text(encoding="utf-8") != first
    assert len(list(tmp_path.iterdir())) == 3


def other_settings():
    """All of matplotlib's but the backend: merely to ask for it chooses one."""
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


def test_settings_of_matplotlib_are_neither_used_nor_changed(lines, tmp_path):
    short = [line for line in lines if line["step"] <= 500]
    first = report_of(tmp_path, short, settings())
    with matplotlib.rc_context({"font.size": 30.0, "lines.linewidth": 9.0}):
        before = other_settings()
        assert report_of(tmp_path, short, settings()) == first
        assert other_settings() == before


def test_numbers_of_the_run_reach_the_page(lines, page):
    text = words(page)
    saved = [line for line in lines if line.get("best")][-1]
    width = saved["bracket_width_uEh"]
    meV = width / MICROHARTREE * EV_PER_HARTREE * 1e3
    assert f"{width:.1f} microhartree (µEh), which is {meV:.2f} millielectronvolt (meV)" in text
    assert f"step {saved['step']:,}" in text
    assert "5,000 of at most 5,000 20 min 20 s in one session, 4.1 per second" in text
    assert "4,608 in 288 rounds" in text
    assert "199,872" in text
    resets = [line["resets"] for line in lines if line["kind"] == "sampling"]
    counts = {why: sum(r[why] for r in resets) for why in ("energy spike", "bonds changed")}
    assert all(f"{why}: {count}" in text for why, count in counts.items())
    assert f"reset or refused: {sum(counts.values())}" in text
    assert "temperature_K: 500.0" in text
    assert text.startswith("C₂H₆O PBE/6-31g")


def test_page_shows_how_to_use_the_model_and_how_to_go_on(lines, tmp_path):
    assert "SRDFTCalculator" not in report_of(tmp_path / "a run", lines, settings(steps=5000))
    (tmp_path / "a run" / "model.srdft").touch()
    page = write_report(tmp_path / "a run").read_text(encoding="utf-8")
    code = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    python, command = (block.replace("&#x27;", "'") for block in code[:2])
    assert len(python.splitlines()) == 3
    compile(python, "report.html", "exec")
    assert f"SRDFTCalculator('{tmp_path}/a run/model.srdft')" in python
    assert command.endswith(f"--steps 10000 -o '{tmp_path}/a run'")
    assert f"--config '{tmp_path}/a run/config.yaml'" in command


@pytest.mark.parametrize(
    ("reason", "flag"),
    [
        ("time is up", " --minutes 41 "),
        ("target reached", " --target-error 2"),
        ("interrupted", ""),
    ],
)
def test_command_goes_past_what_ended_the_run(reason, flag, lines, tmp_path):
    command = words(report_of(tmp_path, [*lines[:-1], lines[-1] | {"reason": reason}]))
    command = command[command.index("ase-srdft-train") :]
    assert flag in command
    assert ("--steps" in command, "--minutes" in command) == (False, "minutes" in flag)


def test_largest_held_out_bracket_stands_beside_the_mean(lines, tmp_path):
    lines = lines[:100]
    logged = [line | {"bracket_width_max_uEh": 625.0} if "best" in line else line for line in lines]
    assert "625 µEh at most" in words(report_of(tmp_path, logged))


def test_what_was_held_out_and_the_target_are_said(lines, tmp_path):
    changed = {"best_bracket_width_uEh": 77.7, "best_bracket_width_max_uEh": 345.6, "best": False}
    changed |= {"nvalidation": 16, "nsampled": 12, "nframes": 0}
    last = [line for line in lines if line["kind"] == "validation"][-1] | changed
    end = lines[-1] | {"target_error_uEh": 50.0, "target_reached": False}
    text = words(report_of(tmp_path, [*lines[:-1], last, end]))
    assert "within 346 µEh at each of them" in text
    assert "12 samples of the run's own dynamics and 4 rattled copies" in text
    assert "✗ target of 50 µEh not reached" in text
    reached = lines[-1] | {"target_error_uEh": 90.0, "target_reached": True}
    text = words(report_of(tmp_path, [*lines[:-1], last, reached]))
    assert "✓ target of 90 µEh reached" in text


def test_isomers_have_names_of_their_own(tmp_path):
    run = {"molecules": ["CHN", "CHN (isomer 2)"], "energies": [-93.2, -93.1], "modes": [4, 4]}
    text = words(report_of(tmp_path, realistic_run(run, steps=500)))
    assert "(isomer 2)" in text


def test_error_above_chemical_accuracy_is_not_praised(lines, tmp_path):
    early = [line for line in lines if line["step"] <= 250]
    early[-1] = early[-1] | {"bracket_width_uEh": 1700.0}
    text = words(report_of(tmp_path, early))
    assert "1,700 µEh" in text
    assert "✗" in text
    assert "✓" not in text


def test_age_of_weights_and_restarts_are_key_figures(tmp_path):
    lines = realistic_run(steps=500)
    sampling = [line for line in lines if line["kind"] == "sampling"]
    for index, line in enumerate(sampling):
        line["staleness"] = 20 + 10 * (index % 2)
    lines.insert(-1, {"kind": "worker", "step": 480, "elapsed_s": 1.0, "worker": "sampler-0"})
    text = words(report_of(tmp_path, lines, settings(steps=500)))
    mean = sum(line["staleness"] for line in sampling) / len(sampling)
    assert f"weights {mean:.1f} steps old, 30 at most" in text
    assert "workers started again: 1" in text


def test_each_of_several_molecules_has_a_row(tmp_path):
    page = report_of(tmp_path, realistic_run(SEVERAL, steps=1500), settings())
    rows = re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td><td>(.*?)</td>", page)
    assert [float(energy.replace("−", "-")) for _, _, energy in rows] == pytest.approx(
        SEVERAL["energies"], abs=0.05
    )
    assert "H₂O, C₂H₆O, C₂H₄O₂, C₃H₈ and 3 more" in words(page)
    assert len(rows) == 7


def test_names_and_reasons_are_escaped(tmp_path):
    hostile = '<b onclick="x">&$\x07'
    lines = realistic_run(
        {"molecules": [hostile] * 2, "energies": [-1.0] * 2, "modes": [3] * 2}, 600
    )
    lines[0]["level"] = lines[-1]["reason"] = hostile
    for line in lines:
        if line["kind"] == "sampling":
            line["resets"] = {hostile: 1}
    page = report_of(tmp_path, lines, settings() | {hostile: {hostile: hostile}})
    assert "\x07" not in page
    assert "<b onclick" not in page
    assert page.count("&lt;b onclick=") >= 8
    assert len(drawings(page)) == 6


def test_long_runs_make_no_long_page(tmp_path):
    rng = np.random.default_rng(1)
    lines = [start_line(["C2H6O"])]
    for step in range(20, 60_000, 20):
        lines.append(training_line(step, ["C2H6O"], [-154.76], rng))
        lines.append(sampling_line(step, 16 * (step // 20 - 1), ETHANOL, rng))
    page = report_of(tmp_path, lines, settings())
    assert "47,984" in words(page)
    assert len(page) < 200_000


@pytest.mark.parametrize("text", [None, "", "\n", '{"kind": "sta'])
def test_empty_run_still_has_a_page(text, tmp_path):
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert drawings(page) == []
    assert "none yet" in words(page)
    assert ("1 line of metrics.jsonl" in words(page)) == (text == '{"kind": "sta')


@pytest.mark.parametrize(("nlines", "nfigures"), [(1, 0), (2, 2)])
def test_short_runs_have_the_figures_they_can(nlines, nfigures, lines, tmp_path):
    page = report_of(tmp_path, lines[:nlines], settings())
    assert len(drawings(page)) == nfigures
    assert "5,000 µEh" in words(page)  # where dynamics starts
    alone = words(report_of(tmp_path, lines[:nlines], settings(self_refine=False)))
    assert "5,000 µEh" not in alone
