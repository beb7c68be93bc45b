"""The pages of the shipped models have what the models' files say."""

from dataclasses import replace

import pytest

from ase_srdft import list_models, model_card
from ase_srdft.runs.report.model_picture import ModelAndRun
from tests.tools.markdown_blocks import REPOSITORY

PAGES = REPOSITORY / "docs" / "models"


@pytest.fixture
def model_pages(docs_extension):
    return docs_extension("model_pages")


def test_each_model_has_its_page_and_each_page_its_model():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    index = pages.pop("index")
    assert sorted(pages) == list_models()
    for name, text in pages.items():
        assert text.startswith(f"# `{name}`\n\n```{{model}} {name}\n```\n")
        assert f"\n{name}\n" in index


def test_the_table_of_a_card_has_its_facts(model_pages):
    card = model_card("water-pbe-6-31g")
    rows = dict(
        row.strip("| ").split(" | ", 1) for row in model_pages.card_table(card).split("\n")[2:]
    )
    assert rows["level"].startswith("any; trained at PBE/6-31g (density fitting")
    assert rows["size"] == "0.62 MB, 153,408 parameters"
    assert rows["temperature"] == "500 K"
    assert rows["training"] == "6,000 steps, 1,488 own samples, 0 given frames, 1 min, seed 0"
    assert rows["error"].startswith("mean 0.085 µEh")
    assert rows["sha256"] == card.sha256


def test_a_star_is_no_emphasis(model_pages):
    assert "B3LYP/6-31g\\*" in model_pages.card_table(model_card("organics"))


def test_all_models_are_in_the_table(model_pages):
    rows = model_pages.models_table().split("\n")[2:]
    assert [row.split("`")[1] for row in rows] == list_models()


def test_what_a_model_is_for(model_pages):
    one, general = (
        model_pages.purpose(model_card(name)) for name in ("water-pbe-6-31g", "organics")
    )
    assert "**For:** many energies of the molecule H2O of the picture, at PBE/6-31g" in one
    assert "other isomers of H2O" in one
    assert "at any functional and basis" in general
    assert "other elements than H, C, N, O, F, S, Cl" in general


def test_pictures_are_of_what_is_recorded(model_pages):
    water = model_card("water-pbe-6-31g")
    assert len(model_pages.pictures_of(ModelAndRun(card=water, history=None))) == 2
    card = replace(water, bracket_widths_uEh=(0.1, 0.2, 0.4), structure=None)
    ((caption, svg),) = model_pages.pictures_of(ModelAndRun(card=card, history=None)).items()
    assert caption.startswith("How far the model")
    assert b"3 geometries held out" in svg
