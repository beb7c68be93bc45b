"""What held-out geometries say: means of molecules and levels, and who is worst."""

import numpy as np
import pytest

from ase_srdft.training.validation_means import ValidationMeans

MEANS = ValidationMeans(
    energy=-1.0,
    hamiltonian_error=np.nan,
    widths=np.array([1.0, 3.0, 8.0, 5.0, 7.0]) * 1e-3,
    molecules=np.array([0, 0, 3, 1, 1]),
)


def test_means_of_molecules_and_of_none():
    assert MEANS.bracket_width == pytest.approx(4.8e-3)
    assert MEANS.largest_width == 8e-3
    found = MEANS.widths_of_molecules(5)
    np.testing.assert_allclose(found, [2e-3, 6e-3, np.nan, 8e-3, np.nan], rtol=1e-12)


def test_the_worst_first_and_none_that_has_nothing_held_out():
    assert [molecule for molecule, _ in MEANS.worst(10)] == [3, 1, 0]
    assert MEANS.worst(2) == ((3, 8e-3), (1, pytest.approx(6e-3)))


def test_levels():
    tight, rough = MEANS.of_levels(["LDA/sto-3g", "PBE/6-31g", "PBE0/6-31g", "LDA/sto-3g"])
    assert (tight.level, tight.ngeometries, tight.largest_width) == ("LDA/sto-3g", 3, 8e-3)
    assert tight.bracket_width == pytest.approx(4e-3)
    assert (rough.level, rough.ngeometries, rough.largest_width) == ("PBE/6-31g", 2, 7e-3)
    assert rough.bracket_width == pytest.approx(6e-3)
