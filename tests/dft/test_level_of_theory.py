"""Levels of theory: names, defaults, refusals, and functionals that are what they are called."""

import json

import jaxtyping
import numpy as np
import pytest
from pyscf.dft import libxc

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.level_of_theory import FUNCTIONALS, LevelOfTheory


@pytest.fixture
def unchecked():
    """As for a user: no runtime checker that would refuse a wrong type first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("LDA", "LDA"),
        ("svwn", "LDA"),
        ("SVWN5", "LDA"),
        ("pbe", "PBE"),
        ("b3-lyp", "B3LYP"),
        ("B3LYPg", "B3LYP"),
        ("b3lyp5", "B3LYP5"),
        ("pbe1pbe", "PBE0"),
        ("Pbe0", "PBE0"),
        ("blyp", "BLYP"),
    ],
)
def test_names_of_a_functional(name, canonical):
    assert LevelOfTheory(xc=name).xc == canonical


def test_aliases_and_cases_are_one_level():
    assert LevelOfTheory(xc="svwn", basis="6-31G") == LevelOfTheory(xc="LDA", basis="6-31g")


@pytest.mark.parametrize(
    ("name", "in_libxc"),
    [
        ("LDA", "svwn"),
        ("PBE", "pbe"),
        ("BLYP", "blyp"),
        ("PBE0", "pbe0"),
        ("B3LYP", "b3lypg"),
        ("B3LYP5", "b3lyp5"),
    ],
)
def test_functional_is_the_one_that_libxc_knows_by_the_name(name, in_libxc):
    rho = np.random.default_rng(1).uniform(0.1, 1.0, (4, 20))
    rho = rho if FUNCTIONALS[name].needs_gradient else rho[0]
    ours, theirs = (libxc.eval_xc(xc, rho)[0] for xc in (FUNCTIONALS[name].pyscf_name, in_libxc))
    assert np.abs(theirs).min() > 0.1
    # libxc rounds what it fuses into one functional differently
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert FUNCTIONALS[name].exact_exchange == libxc.hybrid_coeff(in_libxc)


@pytest.mark.parametrize("functional", FUNCTIONALS.values(), ids=FUNCTIONALS)
def test_terms_are_those_of_the_pyscf_name(functional):
    hybrid, terms = libxc.parse_xc(functional.pyscf_name)
    assert hybrid[0] == functional.exact_exchange
    assert sorted(weight for _, weight in terms) == sorted(w for _, w in functional.terms)
    assert functional.needs_gradient == (libxc.xc_type(functional.pyscf_name) == "GGA")


@pytest.mark.parametrize(
    ("options", "auxiliary"),
    [
        ({"xc": "PBE"}, "def2-universal-jfit"),
        ({"xc": "LDA"}, "def2-universal-jfit"),
        ({"xc": "PBE0"}, "def2-universal-jkfit"),
        ({"xc": "B3LYP"}, "def2-universal-jkfit"),
        ({"xc": "PBE", "density_fitting": "weigend"}, "weigend"),
        ({"xc": "B3LYP", "density_fitting": False}, None),
    ],
)
def test_auxiliary_basis(options, auxiliary):
    assert LevelOfTheory(**options).auxiliary_basis == auxiliary


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"xc": "M06"}, "unknown xc 'M06': use one of LDA, PBE"),
        ({"xc": ""}, "unknown xc ''"),
        ({"xc": None}, "unknown xc None"),
        ({"grid_level": 10}, "grid level 10"),
        ({"grid_level": -1}, "grid level -1"),
        ({"grid_level": 1.0}, "grid level 1.0"),
        ({"grid_level": True}, "grid level True"),
        ({"grid_level": "fine"}, "grid level 'fine'"),
        ({"charge": 0.5}, "charge 0.5"),
        ({"charge": True}, "charge True"),
        ({"density_fitting": ""}, "density_fitting ''"),
        ({"density_fitting": None}, "density_fitting None"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(BadInput) as caught:
        LevelOfTheory(**options)
    assert message in str(caught.value)


def test_survives_json():
    level = LevelOfTheory(xc="b3lyp", basis="DEF2-SVP", density_fitting=False, charge=-1)
    assert LevelOfTheory(**json.loads(json.dumps(level.to_dict()))) == level


def test_names_itself():
    assert str(LevelOfTheory()) == "PBE/def2-svp (def2-universal-jfit, grid level 1)"
    assert "exact integrals" in str(LevelOfTheory(density_fitting=False))
