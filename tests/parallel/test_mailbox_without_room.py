"""The directory between two processes."""

import resource

import pytest
import torch

from ase_srdft.parallel.mailbox import Mailbox


@pytest.mark.parametrize("what", ["weights", "a message", "plain values"])
def test_a_full_disk_is_an_error_that_names_the_file(what, tmp_path):
    mailbox, tensors = Mailbox(tmp_path), {"weight": torch.zeros(10_000)}
    writes = {
        "weights": lambda: mailbox.publish(1, tensors),
        "a message": lambda: mailbox.put("sampler-0", 1, tensors, {}),
        "plain values": lambda: mailbox.write("orders", "x" * 20_000),
    }
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            writes[what]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in caught.value.filename
    assert mailbox.waiting("sampler-0") == []
    assert mailbox.newest(-1) is None
    assert mailbox.read("orders") is None
    writes[what]()
    assert len(list(tmp_path.iterdir())) >= 1
