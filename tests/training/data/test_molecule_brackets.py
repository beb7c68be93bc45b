"""Brackets of molecules: running means per electron, and what one that is astray does to them."""

import numpy as np
import pytest

from ase_srdft.training.data.molecule_brackets import MoleculeBrackets


def noted(*widths, nelectrons=10):
    brackets = MoleculeBrackets([nelectrons, 2])
    for width in widths:
        brackets.note(0, width)
    return brackets.widths[0]


def test_brackets_are_per_electron():
    brackets = MoleculeBrackets([10, 100])
    brackets.note(0, 1e-3)
    brackets.note(1, 1e-2)
    np.testing.assert_allclose(brackets.widths, [1e-4, 1e-4], rtol=1e-12)


def test_the_first_few_count_the_same_and_later_the_newest_counts_most():
    assert noted(1e-3, 4e-3) == pytest.approx(2e-4)  # the geometric mean
    assert noted(1e-3, 4e-3, 2e-3) == pytest.approx(2e-4)
    assert noted(*[1e-3] * 20, 1e-5) == pytest.approx(1e-4 * 0.01**0.3)
    assert noted(*[1e-3] * 20, *[1e-5] * 20) == pytest.approx(1e-6, rel=0.01)


def test_one_geometry_that_is_astray_does_not_stand_for_its_molecule():
    assert 5.0 < noted(*[1e-3] * 20, 1.0) / noted(1e-3) < 10.0


def test_what_is_no_bracket_is_passed_by_and_what_has_converged_is_small():
    assert np.isnan(noted())
    assert np.isnan(noted(np.nan, np.inf))
    assert noted(1e-3, np.nan) == noted(1e-3)
    assert 0.0 < noted(0.0) < 1e-11
    assert 0.0 < noted(-1e-15) < 1e-11
    assert noted(0.0, *[1e-3] * 40) == pytest.approx(1e-4, rel=0.01)


def test_arrays_are_all_there_is_to_it():
    first, second = MoleculeBrackets([10, 2]), MoleculeBrackets([10, 2])
    first.note(0, 1e-3)
    first.note(0, 3e-3)
    second.from_arrays(first.to_arrays())
    for brackets in (first, second):
        brackets.note(0, 7e-3)
    np.testing.assert_array_equal(second.widths, first.widths)
    second.from_arrays({})  # of a checkpoint of an older version
    np.testing.assert_array_equal(second.widths, first.widths)
