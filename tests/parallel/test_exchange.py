"""The directory between two processes."""

import resource

import pytest
import torch

from ase_srdft.parallel.mailbox import Exchange


@pytest.mark.parametrize("what", ["weights", "a message", "a record"])
def test_a_full_disk_is_an_error_that_names_the_file(what, tmp_path):
    exchange, tensors = Exchange(tmp_path), {"weight": torch.zeros(10_000)}
    writes = {
        "weights": lambda: exchange.publish(1, tensors),
        "a message": lambda: exchange.put("sampler-0", 1, tensors, {}),
        "a record": lambda: exchange.write("orders", "x" * 20_000),
    }
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            writes[what]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in caught.value.filename
    assert exchange.waiting("sampler-0") == []
    assert exchange.newest(-1) is None
    assert exchange.read("orders") is None
    writes[what]()
    assert len(list(tmp_path.iterdir())) >= 1
