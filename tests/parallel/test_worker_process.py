"""A process that works for this one: started, watched, ended, whatever state it is in."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ase_srdft.parallel import worker_process
from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.parallel.worker_process import WorkerProcess

WORKER = """
import os, signal, sys, time
from ase_srdft.parallel.worker_process import worker_setup

def main():
    mailbox, name, parent = worker_setup()
    orders = mailbox.read("orders") or {}
    if orders.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "exit" in orders:
        print("the last of it", file=sys.stderr)
        sys.exit(orders["exit"])
    ignored = [s for s in (signal.SIGINT, signal.SIGUSR1) if signal.getsignal(s) is signal.SIG_IGN]
    mailbox.write("answer", [name, parent, len(ignored), os.environ["OMP_NUM_THREADS"]])
    while True:
        mailbox.touch(name)
        time.sleep(0.01)
"""


@pytest.fixture
def mailbox(tmp_path, monkeypatch):
    (tmp_path / "worker_of_the_test.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    return Mailbox(tmp_path)


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def started(mailbox, **orders):
    mailbox.write("orders", orders)
    return WorkerProcess("worker-1", "worker_of_the_test", mailbox)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_knows_its_name_and_parent_and_leaves_signals_of_the_group_to_it(mailbox):
    process = started(mailbox)
    try:
        wait_for(lambda: mailbox.read("answer") is not None)
        assert mailbox.read("answer") == ["worker-1", os.getpid(), 2, "1"]
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            os.kill(process.pid, number)
        touched = mailbox.last_touched("worker-1")
        wait_for(lambda: mailbox.last_touched("worker-1") > touched)
        assert process.trouble(5.0) is None
    finally:
        process.end()
    assert not is_running(process.pid)
    assert "SIGTERM" in process.trouble(5.0)


def test_an_exit_code_and_the_last_words_are_reported(mailbox):
    process = started(mailbox, exit=3)
    wait_for(lambda: process.trouble(60.0) is not None)
    assert "exit code 3" in process.trouble(60.0)
    assert process.last_words() == "the last of it"
    process.end()


def test_a_kill_is_named(mailbox):
    process = started(mailbox)
    wait_for(lambda: mailbox.last_touched("worker-1") is not None)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: process.trouble(60.0) is not None)
    assert "SIGKILL" in process.trouble(60.0)
    process.end()


def test_silence_is_noticed_and_ended(mailbox):
    process = started(mailbox)
    wait_for(lambda: process.trouble(60.0) is None and mailbox.last_touched("worker-1"))
    os.kill(process.pid, signal.SIGSTOP)
    wait_for(lambda: process.trouble(0.2) is not None)
    assert process.trouble(60.0) is None
    process.end()
    assert not is_running(process.pid)


def test_before_its_first_sign_it_has_time_to_import(mailbox, monkeypatch):
    process = started(mailbox)
    try:
        monkeypatch.setattr(process.mailbox, "last_touched", lambda name: None)
        assert process.trouble(0.0) is None
        monkeypatch.setattr(worker_process, "STARTING_SECONDS", 0.0)
        time.sleep(0.05)
        assert process.trouble(0.0) is not None
    finally:
        process.end()


def test_one_that_does_not_listen_is_ended_by_force(mailbox, monkeypatch):
    monkeypatch.setattr(worker_process, "_PATIENCE_SECONDS", 0.3)
    process = started(mailbox, stubborn=True)
    wait_for(lambda: mailbox.last_touched("worker-1") is not None)
    process.end()
    assert not is_running(process.pid)
    process.end()  # idempotent
    assert "SIGKILL" in process.trouble(5.0)


def test_the_users_script_is_not_run_again(mailbox, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/user/script.py"])
    process = started(mailbox)
    try:
        wait_for(lambda: mailbox.read("answer") is not None)
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert sys.argv[0].encode() not in command
    finally:
        process.end()
