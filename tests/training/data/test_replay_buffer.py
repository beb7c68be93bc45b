"""The replay buffer and the mixing share: who is drawn, who leaves, shares that hold exactly."""

from collections import Counter

import numpy as np
import pytest

from ase_srdft.training.config import SelectionConfig
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.data.molecule_brackets import MoleculeBrackets
from ase_srdft.training.data.replay_buffer import ReplayBuffer
from tests.tools.molecules import prepared

HERE = np.zeros((3, 3))


class Keys(GeometryCache):
    """Stands in for the cache: hands out keys, remembers which are alive and what they hold."""

    def __init__(self):
        self.alive = {}
        self.next = 1000

    def add(self, molecule, positions, geometry=None):
        self.next += 1
        self.alive[self.next] = (molecule, geometry)
        return self.next

    def remove(self, key):
        del self.alive[key]

    def molecule_of(self, key):
        return self.alive[key][0]


def source_of(nframes=0, frames_share=0.5, capacity=5, brackets=None, **selection):
    settings = SelectionConfig(**selection) if selection else None
    return ReplayBuffer(Keys(), list(range(nframes)), frames_share, capacity, settings, brackets)


def drawn(source, nbatches, size, seed=0):
    rng = np.random.default_rng(seed)
    return [source.draw(size, rng) for _ in range(nbatches)]


def test_first_in_first_out():
    source = source_of(capacity=3)
    keys = [source.add_sample(7, HERE, None) for _ in range(5)]
    assert list(source.samples) == keys[2:]
    assert list(source.cache.alive) == keys[2:]
    assert {key for batch in drawn(source, 50, 4) for key in batch} == set(keys[2:])


def test_samples_carry_their_molecule_and_their_integrals():
    source = source_of()
    geometry = prepared("H2", xc="LDA", basis="sto-3g", grid_level=0)
    key = source.add_sample(7, HERE, geometry)
    assert source.cache.alive[key] == (7, geometry)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("size", [1, 4, 7, 8])
def test_share_holds_exactly_over_time(fraction, size):
    source = source_of(nframes=10, frames_share=fraction)
    source.add_sample(0, HERE, None)
    total = 0
    for index, batch in enumerate(drawn(source, 1000, size)):
        assert len(batch) == size
        total += sum(key < 1000 for key in batch)
        assert abs(total - (index + 1) * size * fraction) < 1 + 1e-6
    if fraction in (0.1, 0.25, 0.3, 0.5, 0.7, 0.9):
        assert total == round(1000 * size * fraction)  # 1000 of any of these is whole
    assert (total > 0) == (fraction > 0)


def test_a_batch_differs_from_the_share_by_less_than_one_frame():
    source = source_of(nframes=10, frames_share=0.3)
    source.add_sample(0, HERE, None)
    counts = [sum(key < 1000 for key in batch) for batch in drawn(source, 5, 8)]
    assert counts == [2, 2, 3, 2, 3]


def test_only_one_kind_fills_the_batch():
    frames_alone = source_of(nframes=3, frames_share=0.1)
    assert all(key < 3 for batch in drawn(frames_alone, 20, 4) for key in batch)
    samples_alone = source_of(frames_share=0.9)
    keys = {samples_alone.add_sample(0, HERE, None) for _ in range(3)}
    assert {key for batch in drawn(samples_alone, 20, 4) for key in batch} == keys


def test_waiting_for_samples_owes_them_nothing():
    source = source_of(nframes=3, frames_share=0.5)
    drawn(source, 101, 3)  # frames alone
    source.add_sample(0, HERE, None)
    counts = [sum(key < 1000 for key in batch) for batch in drawn(source, 4, 2)]
    assert counts == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [1, 4, 5, 12])
def test_each_frame_once_before_any_twice(size):
    source = source_of(nframes=5)
    keys = [key for batch in drawn(source, 40, size) for key in batch]
    for start in range(0, 40 * size, 5):
        passed = keys[start : start + 5]
        assert len(set(passed)) == len(passed)
    passes = {tuple(keys[start : start + 5]) for start in range(0, 40 * size - 4, 5)}
    assert len(passes) > 3  # shuffled anew each time


def test_samples_are_drawn_uniformly():
    source = source_of(capacity=4)
    keys = [source.add_sample(0, HERE, None) for _ in range(4)]
    counts = Counter(key for batch in drawn(source, 1000, 4) for key in batch)
    assert set(counts) == set(keys)
    sigma = np.sqrt(4000 * 0.25 * 0.75)
    assert all(abs(count - 1000) < 4 * sigma for count in counts.values())


def test_same_seed_same_batches_other_seed_others():
    sources = [source_of(nframes=6, frames_share=0.4) for _ in range(3)]
    for source in sources:
        for _ in range(5):
            source.add_sample(0, HERE, None)
    first, second, other = (
        drawn(s, 10, 8, seed) for s, seed in zip(sources, (1, 1, 2), strict=True)
    )
    assert first == second
    assert first != other


# By bracket width


@pytest.mark.parametrize("selection", [{}, {"exponent": 0.0, "uniform_share": 0.2}])
def test_without_an_exponent_the_random_stream_is_that_of_uniform_draws(selection):
    source = source_of(nframes=3, frames_share=0.25, capacity=6, **selection)
    keys = [source.add_sample(0, HERE, None, 10.0**-i) for i in range(9)][3:]
    assert list(source.samples) == keys  # first in first out, whatever the widths
    expected, passes = [], []
    rng = np.random.default_rng(0)
    for _ in range(20):
        passes = passes or [int(i) for i in rng.permutation(3)]
        expected.append([passes.pop()] + [keys[i] for i in rng.integers(6, size=3)])
    assert drawn(source, 20, 4) == expected


def test_draws_follow_the_widths():
    source = source_of(capacity=4, exponent=1.0)
    keys = [source.add_sample(0, HERE, None, width) for width in (1e-3, 2e-3, 5e-3, None)]
    source.note_widths([keys[3]], [2e-3])
    expected = 8000 * (0.125 + 0.5 * np.array([1, 2, 5, 2]) / 10)
    counts = Counter(key for batch in drawn(source, 1000, 8) for key in batch)
    found = np.array([counts[key] for key in keys])
    assert found.sum() == 8000
    chi_squared = ((found - expected) ** 2 / expected).sum()
    assert chi_squared < 16.3  # p = 0.001 of three degrees of freedom
    assert ((found - 2000) ** 2 / 2000).sum() > 500.0  # far from uniform


def test_the_latest_width_counts():
    source = source_of(capacity=3, exponent=1.0, uniform_share=1e-3)
    first, *others = [source.add_sample(0, HERE, None, 1e-3) for _ in range(3)]
    source.note_widths([first, first], [7.0, 0.0])
    counts = Counter(key for batch in drawn(source, 200, 8) for key in batch)
    assert counts[first] < 10
    assert min(counts[key] for key in others) > 700


def test_shares_and_frames_are_the_same_with_selection():
    source = source_of(nframes=5, frames_share=0.5, exponent=2.0)
    wide, narrow = (source.add_sample(0, HERE, None, width) for width in (1e-2, 1e-4))
    source.note_widths([0, 1, wide], [9.0, 9.0, 2e-2])  # those of frames are passed by
    batches = drawn(source, 100, 4)
    assert all(sum(key < 1000 for key in batch) == 2 for batch in batches)
    counts = Counter(key for batch in batches for key in batch)
    assert {counts[key] for key in range(5)} == {40}
    assert counts[wide] > 1.5 * counts[narrow] > 0


def test_hard_geometries_stay_longer():
    source = source_of(capacity=8, exponent=1.0)
    widths = [9e-3, 1e-3, 5e-3, 2e-3, 4e-3, 3e-3, 6e-3, 7e-3]
    keys = [source.add_sample(0, HERE, None, width) for width in widths]
    left = []
    for _ in range(6):
        before = set(source.samples)
        newest = source.add_sample(0, HERE, None, 1e-9)
        left += before - set(source.samples)
        assert source.samples[-1] == newest
        assert len(source.samples) == 8
    # of the two oldest the narrower one leaves; the widest is the oldest and stays
    assert [keys.index(key) for key in left] == [1, 2, 3, 4, 5, 6]
    assert list(source.samples)[:2] == [keys[0], keys[7]]
    assert set(source.cache.alive) == set(source.samples)
    source.note_widths([keys[0]], [1e-4])  # learned at last
    source.add_sample(0, HERE, None)
    assert source.samples[0] == keys[7]


def test_widths_of_those_that_left_are_forgotten():
    source = source_of(capacity=2, exponent=1.0)
    keys = [source.add_sample(0, HERE, None, width) for width in (1e-3, 2e-3, 3e-3)]
    source.note_widths(keys, [7e-3, 8e-3, 9e-3])
    np.testing.assert_array_equal(source.widths, [8e-3, 9e-3])
    assert list(source.samples) == keys[1:]
    with pytest.raises(ValueError, match="shorter"):
        source.note_widths(keys, [1e-3])


def test_a_buffer_filled_from_its_widths_goes_on_the_same():
    source = source_of(capacity=8, exponent=1.0)
    for width in (1e-3, None, 4e-3, 2e-3, None, 3e-3, 1e-3, 5e-3):
        source.add_sample(0, HERE, None, width)
    assert np.isnan(source.widths).sum() == 2
    again = source_of(capacity=8, exponent=1.0)
    for width in source.widths:
        again.add_sample(0, HERE, None, width)
    np.testing.assert_array_equal(again.widths, source.widths)
    assert drawn(again, 20, 8) == drawn(source, 20, 8)
    for each in (source, again):
        each.add_sample(0, HERE, None)
    assert list(again.samples) == list(source.samples)
    other = source_of(capacity=8, exponent=1.0)
    for _ in source.widths:
        other.add_sample(0, HERE, None)
    assert drawn(other, 20, 8) != drawn(source, 20, 8)


# By molecule


def with_molecules(widths, per_molecule=4, **selection):
    """A buffer with so many geometries of each molecule, whose brackets (mEh) have been seen."""
    capacity = per_molecule * len(widths)
    brackets = MoleculeBrackets([2] * len(widths))
    source = source_of(capacity=capacity, brackets=brackets, **selection)
    for molecule, width in enumerate(widths):
        keys = [source.add_sample(molecule, HERE, None) for _ in range(per_molecule)]
        source.note_widths(keys, [1e-3 * width] * per_molecule)
    return source


def drawn_molecules(source, ndraws=8000):
    keys = source.draw(ndraws, np.random.default_rng(0))
    return Counter(source.cache.molecule_of(key) for key in keys)


def test_molecules_with_wide_brackets_are_drawn_more_often():
    counts = drawn_molecules(with_molecules([1.0, 2.0, 5.0]))
    expected = 8000 * (0.5 / 3 + 0.5 * np.array([1, 2, 5]) / 8)
    found = np.array([counts[molecule] for molecule in range(3)])
    assert ((found - expected) ** 2 / expected).sum() < 13.8  # p = 0.001 of two degrees of freedom
    assert ((found - 8000 / 3) ** 2 / (8000 / 3)).sum() > 500.0  # far from uniform


def test_none_is_starved_and_none_takes_all():
    counts = drawn_molecules(with_molecules([1.0, 1.0, 1.0, 1e3, 0.0]))
    assert counts[3] < 8000 * 0.5  # 0.1 + 0.5 * 10 / 13, with room for chance
    assert counts[4] > 8000 * 0.08  # the floor is 0.1


def test_a_molecule_that_no_step_has_come_across_is_drawn_as_the_widest():
    source = with_molecules([1.0, 3.0, np.nan], uniform_share=1e-3)
    counts = drawn_molecules(source)
    assert 0.9 < counts[2] / counts[1] < 1.1
    assert 2.5 < counts[1] / counts[0] < 3.5


def test_frames_tell_of_their_molecules_too():
    source = source_of(nframes=2, brackets=MoleculeBrackets([2, 2]))
    source.cache.alive |= {0: (0, None), 1: (1, None)}  # as if they were in the cache
    source.note_widths([0, 1, 1], [1e-3, 2e-3, 2e-3])
    np.testing.assert_allclose(source.brackets.widths, [5e-4, 1e-3], rtol=1e-12)
    assert len(source.widths) == 0


@pytest.mark.parametrize("selection", [{"molecule_exponent": 0.0}, {}])
def test_draws_of_one_molecule_or_of_all_alike_are_the_uniform_ones(selection):
    source = with_molecules([1.0, 9.0] if selection else [3.0], **selection)
    keys = list(source.samples)
    expected = [keys[i] for i in np.random.default_rng(0).integers(len(keys), size=20)]
    assert source.draw(20, np.random.default_rng(0)) == expected


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_molecule_that_is_sampled_often_does_not_drive_the_others_out(exponent):
    source = with_molecules([1.0, 2.0, 3.0], exponent=exponent)
    first = list(source.samples)[:4]
    for _ in range(50):
        source.add_sample(0, HERE, None, 5e-3)
    counts = Counter(source.cache.molecule_of(key) for key in source.samples)
    assert counts == {0: 4, 1: 4, 2: 4}
    assert not set(first).intersection(source.samples)
    assert set(source.cache.alive) == set(source.samples)
