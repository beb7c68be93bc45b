"""The replay buffer and the mixing share: first in first out, and shares that hold exactly."""

from collections import Counter

import numpy as np
import pytest

from ase_srdft.training.buffer import BatchSource
from ase_srdft.training.store import GeometryStore
from tests.molecules import prepared

HERE = np.zeros((3, 3))


class Keys(GeometryStore):
    """Stands in for the store: hands out keys, remembers which are alive and what they hold."""

    def __init__(self):
        self.alive = {}
        self.next = 1000

    def add(self, molecule, positions, geometry=None):
        self.next += 1
        self.alive[self.next] = (molecule, geometry)
        return self.next

    def remove(self, key):
        del self.alive[key]


def source_of(nframes=0, data_fraction=0.5, capacity=5):
    return BatchSource(Keys(), list(range(nframes)), data_fraction, capacity)


def drawn(source, nbatches, size, seed=0):
    rng = np.random.default_rng(seed)
    return [source.draw(size, rng) for _ in range(nbatches)]


def test_first_in_first_out():
    source = source_of(capacity=3)
    keys = [source.add_sample(7, HERE, None) for _ in range(5)]
    assert list(source.samples) == keys[2:]
    assert list(source.store.alive) == keys[2:]
    assert {key for batch in drawn(source, 50, 4) for key in batch} == set(keys[2:])


def test_samples_carry_their_molecule_and_their_integrals():
    source = source_of()
    geometry = prepared("H2", xc="LDA", basis="sto-3g", grid_level=0)
    key = source.add_sample(7, HERE, geometry)
    assert source.store.alive[key] == (7, geometry)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("size", [1, 4, 7, 8])
def test_share_holds_exactly_over_time(fraction, size):
    source = source_of(nframes=10, data_fraction=fraction)
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
    source = source_of(nframes=10, data_fraction=0.3)
    source.add_sample(0, HERE, None)
    counts = [sum(key < 1000 for key in batch) for batch in drawn(source, 5, 8)]
    assert counts == [2, 2, 3, 2, 3]


def test_only_one_kind_fills_the_batch():
    frames_alone = source_of(nframes=3, data_fraction=0.1)
    assert all(key < 3 for batch in drawn(frames_alone, 20, 4) for key in batch)
    samples_alone = source_of(data_fraction=0.9)
    keys = {samples_alone.add_sample(0, HERE, None) for _ in range(3)}
    assert {key for batch in drawn(samples_alone, 20, 4) for key in batch} == keys


def test_waiting_for_samples_owes_them_nothing():
    source = source_of(nframes=3, data_fraction=0.5)
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
    sources = [source_of(nframes=6, data_fraction=0.4) for _ in range(3)]
    for source in sources:
        for _ in range(5):
            source.add_sample(0, HERE, None)
    first, second, other = (
        drawn(s, 10, 8, seed) for s, seed in zip(sources, (1, 1, 2), strict=True)
    )
    assert first == second
    assert first != other
