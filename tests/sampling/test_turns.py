"""Turns of molecules: all of them in the end, none twice at a time, neighbours apart."""

import itertools

import numpy as np
import pytest

from ase_srdft.sampling.turns import Turns, spread_order


@pytest.mark.parametrize(("count", "together"), [(5, 2), (40, 4), (7, 6), (3, 1)])
def test_everyone_has_a_turn_and_as_many(count, together):
    turns, seen = Turns(count=count, together=together), []
    for _ in range(count):
        assert len(set(turns.now)) == together
        seen += turns.now
        turns = turns.passed_on()
    assert turns.first == 0
    assert np.bincount(seen).tolist() == count * [together]
    rounds = -(-count // together)
    assert set(seen[: rounds * together]) == set(range(count))


@pytest.mark.parametrize("together", [None, 3, 8])
def test_nobody_waits_where_there_is_room(together):
    turns = Turns(count=3, together=together)
    assert not turns.are_taken
    assert turns.now == turns.passed_on().now == [0, 1, 2]
    assert Turns(count=0).passed_on().now == []


def test_any_first_ones_are_spread():
    order = spread_order(300)
    assert sorted(order) == list(range(300))
    assert order[0] != order[1]
    gaps = np.diff(np.sort([0, *order[:30], 300]))
    assert gaps.max() < 25  # 10 on average
    assert min(abs(a - b) for a, b in itertools.pairwise(order)) > 50
