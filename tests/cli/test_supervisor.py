"""The process that users start: what it passes on, what it starts again, and when it gives up."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ase_srdft.cli.supervisor import supervise

#: A command that is killed as often as the file ``deaths`` says, and then answers.
COMMAND = """
    import os, signal, sys, time
    from pathlib import Path

    def main():
        Path("starts").open("a").write(f"{sys.argv[1:]}\\n")
        deaths = int(Path("deaths").read_text())
        Path("deaths").write_text(str(deaths - 1))
        if deaths > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 3

    def wait():
        seen = []
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda n, frame: seen.append(n))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        Path("ready").touch()
        while not seen:
            time.sleep(0.01)
        Path("seen").write_text(str(seen[0]))
        return 75

    def hear_no_hangup():
        from ase_srdft.cli.stop_request import StopRequest

        class Run:
            stop_requested = False

        with StopRequest() as stop:
            stop.attach(run := Run())
            Path("ready").touch()
            while not run.stop_requested:
                time.sleep(0.01)
        return 75

    def outlive():
        parent = int(sys.argv[1])
        Path("ready").touch()
        from ase_srdft.parallel.launch import parent_is_gone
        while not parent_is_gone(parent):
            time.sleep(0.01)
        Path("orphaned").touch()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "victim.py").write_text(textwrap.dedent(COMMAND))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("deaths", [0, 2])
def test_a_killed_command_is_started_again(deaths, folder, capfd):
    Path("deaths").write_text(str(deaths))
    assert supervise("victim:main", ["-o", "run"], "program", max_restarts=2) == 3
    starts = Path("starts").read_text().splitlines()
    assert starts == [str([str(os.getpid()), "-o", "run"])] * (deaths + 1)
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "program: the trainer was killed by SIGKILL: started again from its last checkpoint "
        f"({n} of 2 times)"
        for n in range(1, deaths + 1)
    ]


def test_killed_too_often_is_a_failure(folder, capfd):
    Path("deaths").write_text("9")
    assert supervise("victim:main", [], "program", max_restarts=1) == 1
    assert len(Path("starts").read_text().splitlines()) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("program: error: the trainer was killed by SIGKILL again, after 1 rest")


def supervising(function, ready=True):
    """A process that supervises, once its command is ready."""
    code = (
        "import sys; from ase_srdft.cli.supervisor import supervise; "
        f"sys.exit(supervise('victim:{function}', [], 'program', 5))"
    )
    path = os.pathsep.join([os.getcwd(), str(Path(__file__).parents[2])])
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    if ready:
        wait_for_file("ready")
    return process


def wait_for_file(name):
    end = time.monotonic() + 60.0
    while not Path(name).exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_are_passed_on(number, folder):
    process = supervising("wait")
    process.send_signal(number)
    assert process.wait(60) == 75
    assert Path("seen").read_text() == str(int(number))


def test_a_signal_waits_for_a_command_that_is_being_loaded(folder):
    process = supervising("wait", ready=False)
    end = time.monotonic() + 60.0
    while not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text():
        assert time.monotonic() < end
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75


def test_a_command_can_tell_that_its_supervisor_is_gone(folder):
    process = supervising("outlive")
    assert not Path("orphaned").exists()
    process.kill()
    process.wait(60)
    wait_for_file("orphaned")


def test_a_hangup_that_was_ignored_stays_ignored(folder):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = supervising("hear_no_hangup")
    finally:
        signal.signal(signal.SIGHUP, before)
    (command,) = children(process)
    for pid in (process.pid, command):
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    assert children(process) == [command]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75


def children(process):
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in listed.split()]
