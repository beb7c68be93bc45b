"""Models that ship: found by name, small, and as accurate on structures of our own as they say.

The structures of malonaldehyde and uracil are minima of the shipped models themselves.
"""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import ase_srdft
from ase_srdft import SRDFTCalculator
from ase_srdft.common.units import ANGSTROM_PER_BOHR, EV_PER_HARTREE, MICROHARTREE
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import model_path

MALONALDEHYDE = Atoms(
    "C3O2H4",
    positions=[
        (1.141, 0.115, -0.404),
        (0.008, -0.804, 0.060),
        (-1.216, 0.019, 0.453),
        (-2.128, 0.322, -0.336),
        (2.190, 0.297, 0.236),
        (0.948, 0.635, -1.370),
        (-0.271, -1.462, -0.782),
        (0.365, -1.390, 0.922),
        (-1.219, 0.372, 1.510),
    ],
)
URACIL = Atoms(
    "CCNCNCOOHHHH",
    positions=[
        (1.677, 0.315, -0.039),
        (1.463, -1.036, 0.040),
        (0.169, -1.597, 0.085),
        (-1.084, -0.817, 0.078),
        (-0.774, 0.596, 0.002),
        (0.545, 1.291, -0.094),
        (-2.232, -1.333, 0.130),
        (0.592, 2.550, -0.203),
        (2.287, -1.774, 0.073),
        (0.062, -2.640, 0.148),
        (-1.620, 1.224, -0.035),
        (2.703, 0.712, -0.074),
    ],
)
STRUCTURES = {
    "water-pbe-6-31g": molecule("H2O"),
    "ethanol-pbe-6-31g": molecule("CH3CH2OH"),
    "malonaldehyde-pbe-6-31g": MALONALDEHYDE,
    "uracil-pbe-sto-3g": URACIL,
}
#: The one that is for more than one molecule.
GENERAL = "organics"
#: The error of a geometry rattled by so much (Å) is below this (microhartree).
RATTLE, WORST = 0.03, 200.0


def test_these_ship():
    assert ase_srdft.list_models() == sorted([*STRUCTURES, GENERAL])


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_name_says_the_molecule_and_the_level(name):
    loaded = load_model(model_path(name))
    level = loaded.model.level
    assert name.endswith(f"-{level.xc.lower()}-{level.basis}")
    assert set(STRUCTURES[name].numbers) <= set(loaded.model.elements)
    assert model_path(name).stat().st_size < 2_000_000
    assert loaded.training  # how it was trained


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_energy_is_that_of_the_scf_and_the_bracket_holds_it(name):
    atoms = STRUCTURES[name].copy()
    atoms.rattle(RATTLE, seed=1)
    atoms.calc = SRDFTCalculator(name, grid_level=None, max_error=None)
    energy, (lower, upper) = atoms.get_potential_energy(), atoms.calc.energy_bracket
    level = load_model(model_path(name)).model.level
    numbers = tuple(int(number) for number in atoms.numbers)
    target = Molecule(numbers=numbers, level=level)
    expected = reference_scf(target, atoms.positions / ANGSTROM_PER_BOHR).energy * EV_PER_HARTREE
    assert lower - 1e-7 <= expected <= upper + 1e-7
    assert (energy - expected) / EV_PER_HARTREE * MICROHARTREE < WORST
    assert np.abs(atoms.get_forces()).max() > 0.1


@pytest.mark.parametrize(
    ("name", "level", "widest"),
    [
        ("CH3OH", {"xc": "PBE", "basis": "def2-svp"}, 0.3),
        ("CH3CONH2", {"xc": "B3LYP", "basis": "6-31g*"}, 0.5),
        ("CH3OCH3", {"xc": "BLYP", "basis": "6-31g"}, 0.5),
    ],
)
def test_the_general_model_is_near_on_molecules_it_has_not_seen(name, level, widest):
    atoms = molecule(name)
    atoms.rattle(RATTLE, seed=1)
    atoms.calc = SRDFTCalculator(GENERAL, **level)
    energy = atoms.get_potential_energy()
    certificate = atoms.calc.certificate
    assert 1e3 * certificate.start_error / EV_PER_HARTREE < widest  # mEh
    assert (certificate.start, certificate.path) == ("model", "corrected")
    assert certificate.error < 1e-3
    atoms.calc = SRDFTCalculator("untrained", **level)
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-3)
    assert atoms.calc.certificate.start_error > 10 * certificate.start_error


def test_the_general_model_is_small_and_says_what_it_is_for():
    assert model_path(GENERAL).stat().st_size < 4_000_000
    card = ase_srdft.model_card(GENERAL)
    assert card.elements == ("H", "C", "N", "O", "F", "S", "Cl")
    assert card.scope
