"""Which geometries are worth training on, and in which order."""

import numpy as np
import pytest
from ase.build import molecule

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.learning.offers import Offers


def water(stretch=0.0):
    """Nuclei of water, one hydrogen displaced (Angstrom)."""
    atoms = molecule("H2O")
    atoms.positions[1, 1] += stretch
    return nuclei_of(atoms)


def test_the_widest_come_first_and_the_narrow_ones_never():
    offers = Offers(good_enough=1e-3)
    errors = (0.01, 0.3, 1e-3, 0.02, float("nan"), float("inf"))
    taken = [offers.consider(water(0.1 * n), error) for n, error in enumerate(errors)]
    assert taken == [True, True, False, True, False, False]
    assert [offers.widest().error for _ in range(len(offers))] == [0.3, 0.02, 0.01]
    assert offers.widest() is None


def test_what_is_near_to_one_already_offered_is_no_offer():
    offers = Offers(good_enough=1e-3)
    assert offers.consider(water(), 0.5)
    for displacement in (0.01, -0.01):  # Angstrom, as finite differences have it
        assert not offers.consider(water(displacement), 0.5)
    offers.widest()  # being trained on, it still counts
    assert not offers.consider(water(0.01), 0.5)
    assert offers.consider(water(0.1), 0.5)


def test_a_molecule_that_turned_is_near_and_its_mirror_image_is_not():
    offers = Offers(good_enough=1e-3)
    atoms = molecule("H2O2")
    assert offers.consider(nuclei_of(atoms), 0.5)
    atoms.rotate(40, (1, 2, 3))
    atoms.positions += 1.0
    assert not offers.consider(nuclei_of(atoms), 0.5)
    atoms.positions[:, 0] *= -1.0
    assert offers.consider(nuclei_of(atoms), 0.5)


def test_molecules_are_not_compared_with_each_other():
    offers = Offers(good_enough=1e-3)
    atoms = molecule("H2O")
    for charge in (0, 2):
        assert offers.consider(nuclei_of(atoms, charge), 0.5)
    assert not offers.consider(nuclei_of(atoms, 2), 0.5)


def test_few_wait_and_those_are_the_widest():
    offers = Offers(good_enough=0.0)
    for n in range(100):
        assert offers.consider(water(0.1 * n), 1.0 + n)
    waiting = [offers.widest().error for _ in range(len(offers))]
    np.testing.assert_array_equal(waiting, np.arange(100.0, 100.0 - len(waiting), -1.0))
    assert len(waiting) == pytest.approx(64)
