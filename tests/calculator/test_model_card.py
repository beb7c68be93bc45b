"""Cards of models: what the file records, what is derived from it, and what it lacks."""

import hashlib
from dataclasses import fields

import numpy as np
import pytest
from ase.build import molecule

import ase_srdft
from ase_srdft import ModelCard, model_card
from ase_srdft.common.connectivity import same_molecule
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import save_model
from ase_srdft.models.shipped_models import model_path
from tests.models.test_shipped_models import STRUCTURES
from tests.tools.small_models import potential_model, small_model
from tests.tools.small_training import plain_with, small_config

ALWAYS = {"name", "family", "level_free", "elements", "nparameters", "nbytes", "sha256"}
RECORD = {
    "config": small_config(scope="water and its friends", seed=7).to_plain(),
    "molecules": ["H2O"],
    "structure": {
        "numbers": [8, 1, 1],
        "positions_angstrom": molecule("H2O").positions.tolist(),
        "charge": 0,
    },
    "steps": 20,
    "samples": 12,
    "nframes": 3,
    "seconds": 90,
    "bracket_width_uEh": 12.5,
    "bracket_width_max_uEh": 40.0,
    "bracket_widths_uEh": [2.0, 3.5, 4.5, 40.0],
    "nvalidation": 4,
    "version": "9.9",
    "commit": "0123abc",
}
LEVELS = ("LDA/sto-3g", "PBE0/6-31g*")
NAMES = [f"{name} {level}" for name in ("H2O", "OH -", "CH4O (isomer 1)") for level in LEVELS]


def card_of(path, model, record):
    save_model(path / "m.srdft", model, record)
    return model_card(path / "m.srdft")


def test_what_is_recorded(tmp_path):
    model = small_model()
    card = card_of(tmp_path, model, RECORD)
    assert card.levels == (model.level,)
    assert (card.family, card.level_free, card.elements) == ("fock", False, ("H", "O"))
    assert (card.molecules, card.scope) == (("H2O",), "water and its friends")
    np.testing.assert_array_equal(card.structure.positions, molecule("H2O").positions)
    assert str(card.structure.symbols) == "OH2"
    assert (card.temperature_K, card.seed, card.start_from) == (500.0, 7, None)
    assert (card.bracket_width_uEh, card.bracket_width_max_uEh) == (12.5, 40.0)
    assert card.bracket_widths_uEh == (2.0, 3.5, 4.5, 40.0)
    assert (card.nsteps, card.nsamples, card.nframes, card.nvalidation) == (20, 12, 3, 4)
    assert (card.seconds, card.version, card.commit) == (90.0, "9.9", "0123abc")
    content = (tmp_path / "m.srdft").read_bytes()
    assert (card.nbytes, card.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert card.nparameters == sum(p.numel() for p in model.parameters())


def test_its_words(tmp_path):
    card = card_of(tmp_path, small_model(), RECORD)
    words = str(card)
    for part in ("H2O", "OH2", "500 K", "12.5 µEh (0.34 meV)", "40.0 µEh (1.1 meV)", "seed 7"):
        assert part in words
    assert "not recorded" not in words
    assert max(map(len, words.splitlines()[1:])) <= 100
    assert len(repr(card).splitlines()) == 1


@pytest.mark.parametrize(
    "record", [{}, {"config": 3, "molecules": "H2O", "steps": "many"}, {"structure": [1]}]
)
def test_a_record_that_lacks_everything(record, tmp_path):
    card = card_of(tmp_path, potential_model(), record)
    known = {each.name for each in fields(ModelCard) if getattr(card, each.name) is not None}
    assert known == ALWAYS
    assert str(card).count("not recorded") >= 6


def test_a_general_model(tmp_path):
    config = plain_with({"levels": list(LEVELS), "self_refine": False, "start_from": "stage-1"})
    record = RECORD | {"config": config, "molecules": NAMES, "structure": None, "samples": 0}
    card = card_of(tmp_path, potential_model((1, 6, 8)), record)
    assert card.molecules == ("H2O", "OH -", "CH4O (isomer 1)")
    expected = [LevelOfTheory(xc="LDA", basis="sto-3g", grid_level=0)]
    expected += [LevelOfTheory(xc="PBE0", basis="6-31g*", grid_level=0)]
    assert (card.level_free, card.levels) == (True, tuple(expected))
    assert (card.structure, card.temperature_K, card.start_from) == (None, None, "stage-1")
    words = str(card)
    assert "any; trained at LDA/sto-3g, PBE0/6-31g*" in words
    assert "none: trained on given frames alone" in words
    unwrapped = " ".join(words.split())
    assert "brackets of 4 geometries held out, of the molecules trained on" in unwrapped
    assert "on top of the weights of stage-1, whose training is not counted" in unwrapped


def test_many_molecules_are_counted(tmp_path):
    record = RECORD | {"molecules": [f"C{n}H{2 * n + 2}" for n in range(1, 1301)]}
    card = card_of(tmp_path, small_model((1, 6)), record | {"structure": None})
    assert len(card.molecules) == 1300
    assert "1,300 of H C" in str(card)
    assert len(str(card)) < 1500


def test_the_structure_of_an_ion_says_its_charge(tmp_path):
    ion = {"numbers": [8, 1], "positions_angstrom": [[0, 0, 0], [0, 0, 0.97]], "charge": -1}
    card = card_of(tmp_path, small_model(charge=-1), RECORD | {"structure": ion})
    assert card.structure.info == {"charge": -1}


def test_files_that_are_none(tmp_path):
    with pytest.raises(BadInput):
        model_card("nobody")
    (tmp_path / "m.srdft").write_bytes(b"nothing")
    with pytest.raises(DamagedFile):
        model_card(tmp_path / "m.srdft")


@pytest.mark.parametrize("name", STRUCTURES)
def test_shipped_models_tell_which_isomer_they_are_for(name):
    card = model_card(name)
    assert same_molecule(card.structure, STRUCTURES[name])
    assert card.molecules == (card.structure.get_chemical_formula(),)
    assert card.temperature_K == 500.0
    assert card.seed == (4 if name == "uracil-pbe-sto-3g" else 0)
    assert 0.0 < card.bracket_width_uEh < 10.0
    assert card.sha256 == hashlib.sha256(model_path(name).read_bytes()).hexdigest()


def test_public_names():
    assert {"ModelCard", "model_card"} <= set(ase_srdft.__all__)
