"""A model as a picture and as a page: what the file records, and what the log beside it adds."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from ase.build import molecule
from matplotlib.figure import Figure

from ase_srdft.common.errors import BadInput
from ase_srdft.models.model_file import save_model
from ase_srdft.runs.report import model_picture
from ase_srdft.runs.report.model_picture import read_model_and_run, write_model_picture
from tests.runs.report.run_log import put, realistic_run, settings
from tests.tools.small_models import potential_model, small_model

WIDTHS = np.random.default_rng(0).lognormal(3.0, 0.7, 64).round(3).tolist()
RECORD = {
    "molecules": ["H2O"],
    "structure": {
        "numbers": [8, 1, 1],
        "positions_angstrom": molecule("H2O").positions.tolist(),
        "charge": 0,
    },
    "bracket_width_uEh": float(np.mean(WIDTHS)),
    "bracket_width_max_uEh": max(WIDTHS),
    "bracket_widths_uEh": WIDTHS,
    "samples": 12,
}


@pytest.fixture
def path(tmp_path):
    save_model(tmp_path / "model.srdft", small_model(), RECORD)
    return tmp_path / "model.srdft"


def drawn(draw, model):
    axes = Figure().add_subplot()
    return axes, draw(axes, model)


def test_errors_are_those_of_the_file(path):
    axes, caption = drawn(model_picture.draw_errors, read_model_and_run(path))
    assert sum(bar.get_height() for bar in axes.patches) == len(WIDTHS)
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert lines["chemical accuracy"] == pytest.approx(1593.6)
    values = [value for label, value in lines.items() if label != "chemical accuracy"]
    assert values == pytest.approx([np.mean(WIDTHS), max(WIDTHS)])
    assert caption


def test_of_an_older_file_those_of_the_runs_samples(path):
    save_model(path, small_model(), {})
    axes, caption = drawn(model_picture.draw_errors, read_model_and_run(path))
    assert not axes.has_data()
    assert caption == "Not recorded; the file records no single geometries."
    put(path.parent, realistic_run(steps=1000), settings())
    model = read_model_and_run(path)
    assert len(model.names) == 1
    axes, caption = drawn(model_picture.draw_errors, model)
    assert axes.has_data()
    assert "samples" in caption


def test_energies_are_those_of_the_run(path):
    axes, caption = drawn(model_picture.draw_samples, read_model_and_run(path))
    assert not axes.has_data()
    assert "log of its run" in caption
    lines = realistic_run(steps=1000)
    put(path.parent, lines, settings())
    axes, _ = drawn(model_picture.draw_samples, read_model_and_run(path))
    nsamples = sum(len(line["energies_hartree"]) for line in lines if line["kind"] == "sampling")
    assert sum(bar.get_height() for bar in axes.patches) == nsamples > 100


def test_of_many_molecules_their_sizes(tmp_path):
    record = {"molecules": ["CH4", "C2H6 (isomer 1)", "C2H6 (isomer 2)", "HO -"]}
    save_model(tmp_path / "many.srdft", potential_model((1, 6, 8)), record)
    axes, _ = drawn(model_picture.draw_sizes, read_model_and_run(tmp_path / "many.srdft"))
    sizes = [(bar.get_x() + 0.5 * bar.get_width(), bar.get_height()) for bar in axes.patches]
    assert sizes == [(1.0, 2), (2.0, 2)]


@pytest.mark.parametrize("known", [True, False])
def test_pictures_are_written(known, path):
    if not known:
        save_model(path, small_model(), {})
    model = read_model_and_run(path)
    sizes = {}
    for suffix in (".png", ".svg"):
        write_model_picture(path.with_suffix(suffix), model)
        sizes[suffix] = path.with_suffix(suffix).stat().st_size
    assert min(sizes.values()) > 5_000
    text = path.with_suffix(".svg").read_text()
    assert model.card.sha256 in text
    assert ("64 geometries held out" in text) == known


def test_the_page_is_well_formed_and_safe(tmp_path):
    record = RECORD | {"config": {"scope": "<script>water</script>"}}
    save_model(tmp_path / "a & b.srdft", small_model(), record)
    write_model_picture(tmp_path / "a.html", read_model_and_run(tmp_path / "a & b.srdft"))
    text = (tmp_path / "a.html").read_text()
    root = ElementTree.fromstring(text.partition("\n")[2])
    words = " ".join(root.itertext())
    assert "<script>water</script>" in words
    assert "SRDFTCalculator" in words
    assert json.dumps("$") not in text
    svgs = root.findall(".//{http://www.w3.org/2000/svg}svg")
    assert len(svgs) == 2  # the structure, and the errors


def test_other_endings_are_refused(path):
    with pytest.raises(BadInput, match=r"\.html"):
        write_model_picture(path.with_suffix(".jpg"), read_model_and_run(path))
