"""A directory that two processes talk through: whole messages, in order, and the newest weights."""

import os
import subprocess
import sys
import time

import pytest
import torch

from ase_srdft.parallel.mailbox import Mailbox


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(tmp_path)


def test_a_fresh_one_is_its_own_and_goes_away():
    first, second = Mailbox.create(), Mailbox.create()
    try:
        assert first.path != second.path
        assert first.path.stat().st_mode & 0o077 == 0  # nobody else's business
    finally:
        first.remove()
        second.remove()
    first.remove()
    assert not first.path.exists()
    assert not second.path.exists()


def test_messages_arrive_once_whole_and_in_order(mailbox):
    for number in (2, 0, 10, 1):
        mailbox.put("a", number, {"x": torch.arange(number, number + 3)}, {"number": number})
    mailbox.put("b", 0, {"x": torch.zeros(1)}, {})
    numbers = []
    for path in mailbox.waiting("a"):
        tensors, plain = mailbox.take(path)
        numbers.append(plain["number"])
        assert tensors["x"].tolist() == list(range(numbers[-1], numbers[-1] + 3))
    assert numbers == [0, 1, 2, 10]
    assert mailbox.waiting("a") == []
    assert len(mailbox.waiting("b")) == 1


def test_a_message_keeps_types_and_shapes(mailbox):
    sent = {
        "empty": torch.zeros((0, 3), dtype=torch.float64),
        "whole": torch.tensor([[2**62]]),
        "exact": torch.tensor([0.1], dtype=torch.float64),
    }
    mailbox.put("a", 0, sent, {"name": "µ", "values": [1.5, None]})
    tensors, plain = mailbox.take(*mailbox.waiting("a"))
    assert plain == {"name": "µ", "values": [1.5, None]}
    for name, tensor in sent.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_what_is_no_message_is_an_error_and_is_gone(mailbox):
    (mailbox.path / "a.000000000.message").write_bytes(b"half")
    (path,) = mailbox.waiting("a")
    with pytest.raises(Exception, match="eader"):  # safetensors' own type is not documented
        mailbox.take(path)
    assert mailbox.waiting("a") == []


def test_a_file_that_is_being_written_is_no_message(mailbox):
    (mailbox.path / f".a.000000000.message.{os.getpid()}").write_bytes(b"half")
    assert mailbox.waiting("a") == []


def test_only_the_newest_weights_count(mailbox):
    assert mailbox.newest(-1) is None
    weights = torch.nn.Parameter(torch.ones(2))
    mailbox.publish(7, {"w": weights})
    mailbox.publish(9, {"w": 2.0 * weights})
    version, found = mailbox.newest(7)
    assert version == 9
    assert found["w"].tolist() == [2.0, 2.0]
    assert not found["w"].requires_grad
    assert mailbox.newest(9) is None


def test_plain_values_by_name(mailbox):
    assert mailbox.read("orders") is None
    mailbox.write("orders", {"queue_size": 2})
    mailbox.write("orders", {"queue_size": 3})
    assert mailbox.read("orders") == {"queue_size": 3}


def test_signs_of_life(mailbox):
    assert mailbox.last_touched("a") is None
    before = time.time()
    mailbox.touch("a")
    first = mailbox.last_touched("a")
    assert first == pytest.approx(before, abs=5.0)
    os.utime(mailbox.path / "a.alive", (1.0, 1.0))
    assert mailbox.last_touched("a") == 1.0
    mailbox.touch("a")
    assert mailbox.last_touched("a") >= first - 1.0


WRITER = """
import sys, torch
from ase_srdft.parallel.mailbox import Mailbox
from pathlib import Path
mailbox, number = Mailbox(Path(sys.argv[1])), 0
while True:
    mailbox.put("a", number, {"x": torch.full((200_000,), number)}, {"number": number})
    number += 1
"""


def test_a_writer_killed_at_any_instant_leaves_whole_messages(mailbox):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(mailbox.path)])
    end = time.monotonic() + 60.0
    while len(mailbox.waiting("a")) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.wait(10)
    numbers = []
    for path in mailbox.waiting("a"):
        tensors, plain = mailbox.take(path)
        numbers.append(plain["number"])
        assert tensors["x"].unique().tolist() == [numbers[-1]]
    assert len(numbers) >= 3
    assert numbers == list(range(len(numbers)))
