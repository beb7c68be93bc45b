"""Tensors in pages of their own: the same numbers, and their memory goes when they go."""

import gc
from pathlib import Path

import pytest
import torch

from ase_srdft.training.data.own_pages import in_own_pages


def test_numbers_types_and_shapes_stay():
    given = {
        "matrix": torch.arange(15, dtype=torch.float64).reshape(3, 5),
        "turned": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
        "nothing": torch.zeros((0, 3), dtype=torch.float64),
        "index": torch.tensor([7], dtype=torch.int64),
    }
    own = in_own_pages(given)
    assert list(own) == list(given)
    for name, tensor in given.items():
        assert own[name].dtype == tensor.dtype
        assert own[name].shape == tensor.shape
        assert torch.equal(own[name], tensor)
        assert own[name].is_contiguous()
        assert own[name].data_ptr() % 64 == 0
    given["matrix"][0, 0] = 100.0
    own["index"][0] = 8
    assert float(own["matrix"][0, 0]) == 0.0
    assert int(given["index"]) == 7


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what is resident")
def test_memory_is_given_back_at_once_though_later_arrays_stay():
    tensors = {"block": torch.ones(2**18, dtype=torch.float64)}  # 2 MB
    before = resident_bytes()
    kept, later = [], []
    for _ in range(20):
        kept.append(in_own_pages(tensors))
        later.append(torch.ones(1000))
    assert resident_bytes() - before > 35e6
    assert float(kept[3]["block"].sum()) == 2**18
    kept.clear()
    gc.collect()
    assert resident_bytes() - before < 5e6
