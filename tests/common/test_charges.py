"""The total charge of atoms: from every place where people write it, and no contradiction."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from ase_srdft.common.charges import stated, total_charge
from ase_srdft.common.errors import BadInput


def water(charges=None, moments=None, results=None, **info):
    atoms = molecule("H2O")
    if charges is not None:
        atoms.set_initial_charges(charges)
    if moments is not None:
        atoms.set_initial_magnetic_moments(moments)
    if results is not None:
        atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(info)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "charge", "expected"),
    [
        (water(), None, 0),
        (water(), -2, -2),
        (water([-2.0, 0.0, 0.0]), None, -2),
        (water([-2.6, 0.3, 0.3]), -2, -2),
        (water(charge=-2), None, -2),
        (water(charge=-2.0), None, -2),
        (water(charge=np.int64(-2)), None, -2),
        (water(charge=np.array(-2)), None, -2),
        (water(charge=np.array([-2])), None, -2),
        (water(Charge=-2), None, -2),
        (water(total_charge=-2), -2, -2),
        (water(net_charge=-2, charge=-2), None, -2),
        (water(tot_charge=-2, chg=-2), None, -2),
        (water(MolecularCharge=-2, formal_charge=-2), None, -2),
        (water([-2.0, 0.0, 0.0], charge=-2), -2, -2),
        (water(q=-2), None, -2),
        (water(charge=None), None, 0),
        (water(charge=0), 0, 0),
        (water(charge=-2, spin=1), None, -2),
        (water(spin=0, multiplicity=1), None, 0),
        (water(spin_multiplicity=1.0, unpaired_electrons=0, magmom=0.0), None, 0),
        (water(total_spin=0), None, 0),
        (water(results={"charges": np.array([-2.8, 0.41, 0.38])}), -2, -2),
        (water(results={"charges": np.array([-0.81, 0.41, 0.38])}), None, 0),
        (water(results={"energy": -1.0, "magmom": 0.0}), None, 0),
        (water(moments=[1.0, -0.5, -0.5]), None, 0),
        (water(energy=-3.0, config_type="charged", charges_are="Mulliken"), None, 0),
    ],
)
def test_the_charge_is_what_is_stated(atoms, charge, expected):
    found = total_charge(atoms, charge, None)
    assert type(found) is int
    assert found == expected


@pytest.mark.parametrize(
    ("atoms", "charge", "words"),
    [
        (water(charge=-2), 0, ("charge=0", "info['charge'] is -2")),
        (water(charge=-2, total_charge=0), None, ("info['charge'] is -2", "'total_charge'] is 0")),
        (water([1.0, 0.0, 0.0], charge=-2), None, ("initial charges sum to 1", "is -2")),
        (water([-0.8, 0.4, 0.4], charge=-2), None, ("initial charges sum to 0", "is -2")),
        (water([1.0, 0.0, 0.0]), 0, ("charge=0", "initial charges sum to 1")),
        (water(results={"charges": np.array([-2.8, 0.4, 0.4])}), None, ("sum to -2", "charge")),
        (water(charge=0, results={"charges": np.array([-2.8, 0.4, 0.4])}), None, ("sum to -2",)),
        (water(results={"charges": np.array([np.nan, 0.4, 0.4])}), None, ("sum to nan",)),
    ],
)
def test_contradicting_charges_are_both_named(atoms, charge, words):
    with pytest.raises(BadInput) as caught:
        total_charge(atoms, charge, None)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [0.5, "-2", "2-", True, False, np.True_, np.nan, np.inf, np.array([0, 0]), [], [0], 1j, {}],
)
@pytest.mark.parametrize("key", ["charge", "Total-Charge", "multiplicity", "spin"])
def test_values_that_are_no_whole_number(key, value):
    with pytest.raises(BadInput, match="whole number") as caught:
        total_charge(water(**{key: value}), None, None)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_word_without_a_value_in_a_comment_line():
    with pytest.raises(BadInput) as caught:
        total_charge(water(mult=True), None, None)
    assert "info['mult'] has no value" in str(caught.value)
    assert "True" not in str(caught.value)


@pytest.mark.parametrize(
    "atoms",
    [
        water(spin=3),
        water(spin=2),
        water(spin=-1),
        water(multiplicity=3),
        water(multiplicity=0),
        water(Multiplicity=3),
        water(mult=3),
        water(spin_multiplicity=2),
        water(total_spin=2),
        water(unpaired_electrons=2),
        water(uhf=2),
        water(n_unpaired=2),
        water(magmom=2.0),
        water(magmom=0.5),
        water(moments=[2.0, 0.0, 0.0]),
        water(moments=[np.nan, 0.0, 0.0]),
        water(moments=[[0, 0, 2.0], [0, 0, 0], [0, 0, 0]]),
        water(results={"magmom": 2.0}),
        water(results={"magmoms": np.array([1.0, 0.5, 0.5])}),
        water(results={"magmom": True}),
        water(charge=1, spin=3),
    ],
)
def test_open_shells_are_refused_without_advice_that_hides_them(atoms):
    with pytest.raises(BadInput) as caught:
        total_charge(atoms, None, None)
    text = str(caught.value)
    assert "\n" not in text
    assert "open shells are not supported" in text
    assert "closed-shell singlet" in text
    assert "set them to zero" not in text


def test_the_triplet_of_oxygen_is_not_turned_into_a_singlet_without_a_word():
    oxygen = molecule("O2")
    assert oxygen.get_initial_magnetic_moments().sum() == 2.0
    with pytest.raises(BadInput, match=r"multiplicity of 3.*ground state.*O2"):
        total_charge(oxygen, None, None)


def test_charges_survive_the_copy_of_atoms():
    assert total_charge(water(charge=-2).copy(), None, None) == -2


@pytest.mark.parametrize(
    "info", [{"charge": True, "-2": True}, {"Charge:": True}, {"charge:-2": True}]
)
def test_a_charge_in_words_is_not_passed_over(info):
    with pytest.raises(BadInput, match="charge"):
        total_charge(water(**info), None, None)


def test_what_info_states_can_be_compared():
    assert stated({"energy": 1.0}) == {}
    assert stated({"Charge": -2, "spin": 1, "x": 3}) == {"Charge": -2, "spin": 1}


def test_the_charge_of_an_answer_is_not_forgotten():
    atoms = water(srdft_charge=2)
    with pytest.raises(BadInput, match=r"srdft_charge'\] is 2, of an answer .* give charge=2, or"):
        total_charge(atoms, None, None)
    assert total_charge(atoms, 2, None) == 2
    assert total_charge(atoms, 0, None) == 0
    atoms.info["charge"] = 2
    assert total_charge(atoms, None, None) == 2
