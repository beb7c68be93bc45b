"""Odd geometries: drawn the same each time, judged as they should be, and none wrong."""

import numpy as np
import odd_geometries
import pytest
from odd_geometries import KINDS, case, judged


def test_a_case_is_the_same_each_time_and_all_kinds_are_drawn():
    pytest.importorskip("rdkit", reason="zwitterions are SMILES")
    first, again = case(7), case(7)
    np.testing.assert_array_equal(first.atoms.positions, again.atoms.positions)
    assert (first.name, first.level) == (again.name, again.level)
    drawn = [case(index) for index in range(16)]
    assert {each.kind for each in drawn} == set(KINDS)
    assert len({each.level for each in drawn}) > 4
    for each in drawn:
        assert (sum(each.atoms.numbers) - each.charge) % 2 == 0


def test_what_is_above_is_wrong_and_what_breaks_is_a_crash(monkeypatch):
    said = {"word": ""}
    monkeypatch.setattr(
        odd_geometries, "answered", lambda *_: (-5.0, said["word"], "corrected", 3.0)
    )
    assert judged(9, -5.0).verdict == "right"
    assert judged(9, -5.002).verdict == "WRONG"
    assert judged(9, -4.998).verdict == "lower"
    assert judged(9, np.nan).verdict == "no reference"
    said["word"] = "mind the gap"
    assert judged(9, -5.002).verdict == "warned"

    def breaks(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(odd_geometries, "answered", breaks)
    assert judged(9, -5.0).is_bad


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 64, 8))
def test_no_answer_is_wrong_without_a_word(first):
    for index in range(first, first + 8):
        found = judged(index)
        assert not found.is_bad, found
