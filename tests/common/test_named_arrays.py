"""Very many arrays as two, and back to the bit."""

import numpy as np

from ase_srdft.common import named_arrays
from ase_srdft.common.named_arrays import bundled, unbundled


def test_many_arrays_are_two_and_come_back(monkeypatch):
    monkeypatch.setattr(named_arrays, "_MOST_ALONE", 3)
    rng = np.random.default_rng(0)
    arrays = {
        "positions": rng.standard_normal((2, 3, 3)),
        "none": np.zeros((0, 5)),
        "counts": np.arange(4),
        "turned": rng.standard_normal((3, 2)).T,
        "single": np.array(np.inf),
        "flags": np.array([True, False]),
    }
    packed = bundled(arrays)
    assert len(packed) == 2
    found = unbundled(packed)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def test_few_stay_as_they_are():
    few = {"a": np.arange(3), "b": np.zeros(2)}
    assert list(bundled(few)) == ["a", "b"]
    assert list(unbundled(few)) == ["a", "b"]
