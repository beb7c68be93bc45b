"""Molecules with elements that the model does not know: answered from the guess, or refused."""

import copy
import warnings

import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, InputError

from ase_srdft import SRDFTCalculator
from ase_srdft.common.errors import UnknownElement
from tests.tools.small_models import orbital_model, potential_model, small_model

LEVEL = {"grid_level": 0}


@pytest.fixture
def calc():
    return SRDFTCalculator(small_model(), **LEVEL)


def test_it_is_corrected_from_the_guess_and_says_so_once(calc):
    methane = molecule("CH4")
    methane.calc = calc
    with pytest.warns(UnknownElement, match=r"does not know C: CH4 is answered from the guess"):
        energy = methane.get_potential_energy()
    certificate = calc.certificate
    assert (certificate.start, certificate.path) == ("guess", "corrected")
    assert certificate.error < 1e-3 < 0.05 < certificate.start_error
    same = SRDFTCalculator("untrained", xc="PBE", basis="sto-3g", **LEVEL)
    assert energy == pytest.approx(same.get_potential_energy(methane), abs=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        methane.positions[0, 0] += 0.01
        methane.get_forces()
        calc.get_potential_energy(molecule("H2O"))
        calc.evaluate_batch([methane, molecule("H2O")], forces=False)
    with pytest.warns(UnknownElement, match="know He: He is"):
        calc.get_potential_energy(Atoms("He"))
    with pytest.warns(UnknownElement):  # a copy has not said it yet
        copy.deepcopy(calc).get_potential_energy(methane)


@pytest.mark.parametrize(
    "model", [potential_model(), orbital_model("qpt")], ids=["potential", "qpt"]
)
def test_of_any_family(model):
    calc = SRDFTCalculator(model, **LEVEL)
    with pytest.warns(UnknownElement):
        calc.get_potential_energy(Atoms("He"))
    assert calc.certificate.start == "guess"
    assert calc.certificate.error < 1e-3


@pytest.mark.parametrize("settings", [{"max_error": None}, {"on_uncertain": "warn"}])
def test_without_a_correction_it_is_refused(calc, settings):
    calc.set(**settings)
    with pytest.raises(InputError, match="does not know C: it knows H, O"):
        calc.get_potential_energy(molecule("CH4"))


def test_there_is_no_model_to_train_for_it(calc):
    with pytest.raises(InputError, match="does not know C"):
        calc.model_for(molecule("CH4"))


def test_an_untrained_calculator_takes_molecules_as_they_come():
    calc = SRDFTCalculator("untrained", xc="PBE", basis="sto-3g", **LEVEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        calc.get_potential_energy(Atoms("He"))
        assert calc.get_potential_energy(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])) < -25.0


def test_another_charge_is_refused_all_the_same(calc):
    with pytest.raises(InputError, match="total charge of 1, but the model was trained"):
        calc.get_potential_energy(
            Atoms("HHeHH", [[0, 0, i] for i in range(4)], charges=[1, 0, 0, 0])
        )
    with pytest.raises(CalculationFailed):
        calc.get_potential_energy(Atoms("He2", [[0, 0, 0], [0, 0, 0.1]]))


def test_the_general_model_may_not_know_one():
    calc = SRDFTCalculator(xc="PBE", basis="sto-3g", **LEVEL)
    with pytest.warns(UnknownElement, match="does not know He"):
        calc.get_potential_energy(Atoms("He"))
    assert calc.certificate.start == "guess"
    assert calc.certificate.error < 1e-3


def test_what_no_level_knows_is_refused_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(InputError, match="H to Kr"):
            SRDFTCalculator(**LEVEL).get_potential_energy(Atoms("U"))
