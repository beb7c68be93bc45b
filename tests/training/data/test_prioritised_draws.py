"""Draws and eviction by bracket width: the probabilities written out, and what is unknown."""

import numpy as np
import pytest

from ase_srdft.training.config import SelectionConfig
from ase_srdft.training.data.prioritised_draws import draw_probabilities, index_to_evict

UNKNOWN = np.nan


def probabilities(widths, **changes):
    settings = {"exponent": 1.0, "uniform_share": 0.5, "clip": 100.0} | changes
    return draw_probabilities(np.array(widths), SelectionConfig(**settings))


def test_half_even_and_half_by_width():
    found = probabilities([1e-3, 2e-3, 5e-3, 0.0])
    expected = 0.125 + 0.5 * np.array([1, 2, 5, 0]) / 8
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_exponent_and_share():
    found = probabilities([1e-4, 2e-4, 3e-4], exponent=2.0, uniform_share=0.1)
    np.testing.assert_allclose(found, 0.1 / 3 + 0.9 * np.array([1, 4, 9]) / 14, rtol=1e-14)
    even = [1 / 3] * 3
    np.testing.assert_allclose(probabilities([1e-4, 2e-4, 3e-4], exponent=0.0), even)
    np.testing.assert_allclose(probabilities([1e-4, 2e-4, 3e-4], uniform_share=1.0), even)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 4.0])
def test_uniform_share_is_kept_whatever_the_widths(share, exponent):
    widths = 10.0 ** np.random.default_rng(0).uniform(-9, 1, size=50)
    widths[::7] = UNKNOWN
    widths[1] = 0.0
    found = probabilities(widths, uniform_share=share, exponent=exponent)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert found.min() >= share / 50 * (1 - 1e-12)
    assert found.min() == pytest.approx(share / 50, rel=1e-9)  # that of a width of zero


def test_one_outlier_does_not_take_over():
    widths = [1e-4] * 99 + [1e3]
    assert probabilities(widths, clip=1e9)[-1] > 0.5
    clipped = probabilities(widths, clip=10.0)
    assert clipped[-1] == pytest.approx(0.005 + 0.5 * 10 / 109, rel=1e-12)


def test_what_is_unknown_counts_as_the_widest():
    found = probabilities([1e-3, UNKNOWN, 3e-3, np.inf])
    np.testing.assert_allclose(found, 0.125 + 0.5 * np.array([1, 3, 3, 3]) / 10, rtol=1e-14)


@pytest.mark.parametrize("widths", [[UNKNOWN] * 4, [0.0] * 4, [0.0, UNKNOWN, 0.0, -1e-15]])
def test_nothing_to_choose_by_is_uniform(widths):
    np.testing.assert_array_equal(probabilities(widths), [0.25] * 4)


def test_molecules_by_their_own_exponent():
    molecules = np.array([1e-4, 1e-4, 4e-4, UNKNOWN])
    settings = SelectionConfig(exponent=0.0, molecule_exponent=0.5, uniform_share=0.2, clip=100.0)
    found = draw_probabilities(np.array([9.0, 1.0, 2.0, UNKNOWN]), settings, molecules)
    np.testing.assert_allclose(found, 0.05 + 0.8 * np.array([1, 1, 2, 2]) / 6, rtol=1e-14)
    both = SelectionConfig(exponent=1.0, molecule_exponent=0.5, uniform_share=0.2, clip=100.0)
    found = draw_probabilities(np.array([1.0, 3.0, 1.0, UNKNOWN]), both, molecules)
    np.testing.assert_allclose(found, 0.05 + 0.8 * np.array([1, 3, 2, 6]) / 12, rtol=1e-14)


def test_a_molecule_a_thousand_times_worse_takes_no_more_than_ten():
    molecules = np.array([1e-4] * 99 + [1e-1])
    found = draw_probabilities(np.full(100, UNKNOWN), SelectionConfig(exponent=0.0), molecules)
    assert found[-1] == pytest.approx(0.005 + 0.5 * 10 / 109, rel=1e-12)
    assert found[:-1].min() > 0.005


def test_where_either_factor_is_zero_draws_are_uniform():
    settings = SelectionConfig(exponent=1.0, molecule_exponent=1.0)
    found = draw_probabilities(np.array([1.0, 0.0]), settings, np.array([0.0, 1.0]))
    np.testing.assert_array_equal(found, [0.5, 0.5])


def test_evicts_the_narrowest_of_the_oldest_quarter():
    widths = np.array([5e-3, 4e-3, 2e-3, 3e-3, *[1e-6] * 12])
    assert index_to_evict(widths) == 2
    assert index_to_evict(widths[:12]) == 2  # a quarter of 12 is 3
    assert index_to_evict(widths[:8]) == 1
    for size in (1, 2, 3, 4, 7):
        assert index_to_evict(widths[:size]) == 0


def test_evicts_the_oldest_of_equals_and_what_is_known_before_what_is_not():
    assert index_to_evict(np.array([2e-3, 1e-3, 1e-3, *[9.0] * 9])) == 1
    assert index_to_evict(np.array([UNKNOWN, 1e-3, UNKNOWN, *[9.0] * 9])) == 1
    assert index_to_evict(np.full(16, UNKNOWN)) == 0
