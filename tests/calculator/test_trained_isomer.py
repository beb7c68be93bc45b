"""The warning where a model of one molecule is asked about an isomer of it: once, and no other."""

import pickle
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_srdft import SRDFTCalculator
from ase_srdft.calculator.trained_isomer import TrainedIsomer
from ase_srdft.common.errors import OtherIsomer
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import model_path
from tests.models.test_shipped_models import MALONALDEHYDE
from tests.tools.small_training import HCN, HNC

ETHANOL, ETHER = molecule("CH3CH2OH"), molecule("CH3OCH3")
#: Of malonaldehyde, with the hydrogen on the oxygen (Angstrom).
ENOL = Atoms(
    "OC3OH4",
    positions=[
        (-2.365, -1.026, -0.426),
        (-1.553, -0.139, -0.195),
        (-0.105, -0.416, -0.183),
        (0.752, 0.574, 0.072),
        (2.113, 0.434, 0.109),
        (-1.858, 0.900, 0.014),
        (0.194, -1.436, -0.388),
        (0.473, 1.601, 0.280),
        (2.350, -0.492, -0.079),
    ],
)


def isomer(structure=ETHANOL):
    return TrainedIsomer(model="m.srdft", structure=structure)


@pytest.mark.parametrize(
    ("structure", "asked"), [(ETHANOL, ETHER), (HCN, HNC), (MALONALDEHYDE, ENOL)]
)
def test_it_warns_once(structure, asked):
    own = isomer(structure)
    with pytest.warns(OtherIsomer, match=r"m\.srdft.*model_card"):
        own.compare(nuclei_of(asked))
    assert own.warned
    own.compare(nuclei_of(asked))  # a second warning would be an error


@pytest.mark.parametrize("asked", [ETHANOL, ETHANOL[::-1], molecule("CH3OH"), molecule("H2O")])
def test_it_says_nothing_of_the_same_and_of_other_formulas(asked):
    own = isomer()
    own.compare(nuclei_of(asked))
    assert not own.warned


def test_thermal_motion_is_no_other_isomer():
    own = isomer()
    for seed in range(20):
        atoms = ETHANOL.copy()
        atoms.rattle(0.07, seed=seed)
        own.compare(nuclei_of(atoms))
    assert not own.warned


@pytest.fixture
def calculator():
    return SRDFTCalculator("malonaldehyde-pbe-6-31g", max_error=None)


def test_a_calculator_warns_of_the_enol_and_answers(calculator):
    with pytest.warns(OtherIsomer, match="C3H4O2"):
        energy = calculator.get_potential_energy(ENOL)
    assert np.isfinite(energy)
    lower, upper = calculator.energy_bracket
    assert upper - lower > 0.05  # eV; 0.0002 on the molecule that it was trained on
    (again,) = calculator.evaluate_batch([MALONALDEHYDE], forces=False)
    assert again["energy"] != energy


def test_copies_warn_no_more(calculator):
    with pytest.warns(OtherIsomer):
        calculator.model_for(ENOL)
    pickle.loads(pickle.dumps(calculator)).model_for(ENOL)


def test_naming_another_model_forgets_the_isomer(calculator):
    calculator.set(device="cpu")
    with pytest.warns(OtherIsomer):
        calculator.model_for(ENOL)
    calculator.set(model="malonaldehyde-pbe-6-31g")
    with pytest.warns(OtherIsomer):
        calculator.model_for(ENOL)
    calculator.set(model="ethanol-pbe-6-31g")
    calculator.model_for(ENOL)


def test_models_that_are_objects_have_none(calculator):
    model = load_model(model_path("malonaldehyde-pbe-6-31g")).model
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        SRDFTCalculator(model).model_for(ENOL)
        calculator.update_model(model)
        calculator.model_for(ENOL)
