"""A process of ours that works for this one: started, watched, ended.

It is started by the name of a module, never by forking (which CUDA does not survive) nor by
importing the user's script a second time (which `multiprocessing` would do).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ase_srdft.parallel.launch import python_command, same_settings
from ase_srdft.parallel.mailbox import Mailbox

__all__ = ["STARTING_SECONDS", "WorkerProcess", "worker_setup"]

#: Seconds between SIGTERM and SIGKILL.
_PATIENCE_SECONDS = 2.0
#: A process needs this long to import torch on a slow disk: no sign of life is due before.
STARTING_SECONDS = 300.0


class WorkerProcess:
    """A process that runs a module and talks through a mailbox.

    Args:
        name: of the worker, unique in the mailbox.
        module: whose ``main`` it runs, with our ``sys.path``.
        mailbox: where it reads its orders and leaves its signs of life.
    """

    def __init__(self, name: str, module: str, mailbox: Mailbox) -> None:
        self.name = name
        self.mailbox = mailbox
        self._log = mailbox.path / f"{name}.log"
        self._started = time.time()
        self._end_requested = 0.0
        arguments = [str(mailbox.path), name, str(os.getpid())]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                python_command(f"{module}:main", arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **same_settings(), "OMP_NUM_THREADS": "1"},
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def trouble(self, silence_seconds: float) -> str | None:
        """What is wrong with it, in words; None while it works."""
        code = self._process.poll()
        if code is not None:
            if code < 0:
                return f"killed by {signal.Signals(-code).name}"
            return f"ended with exit code {code}"
        touched = self.mailbox.last_touched(self.name)
        if touched is not None and touched > self._started:
            silent, limit = time.time() - touched, silence_seconds
        else:
            silent = time.time() - self._started
            limit = max(silence_seconds, STARTING_SECONDS)
        return f"silent for {silent:.0f} s" if silent > limit else None

    def last_words(self) -> str:
        """What it wrote on stderr: its traceback, if it had time for one."""
        try:
            return self._log.read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def request_end(self) -> None:
        """Ask it to end; `end` waits for that."""
        if self._process.poll() is None and not self._end_requested:
            self._end_requested = time.monotonic()
            self._process.terminate()

    def end(self) -> None:
        """End it: by request, and after some patience by force; idempotent."""
        self.request_end()
        patience = _PATIENCE_SECONDS - (time.monotonic() - self._end_requested)
        try:
            self._process.wait(max(patience, 0.0))
        except subprocess.TimeoutExpired:
            self._process.kill()  # which ends a stopped one too
            self._process.wait(_PATIENCE_SECONDS)


def worker_setup() -> tuple[Mailbox, str, int]:
    """In a worker: its mailbox, its name and its parent.

    Signals that are sent to a whole group of processes (Ctrl-C, a batch system's warning) are the
    parent's to answer; it ends the workers by SIGTERM.
    """
    for ignored in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    path, name, parent = sys.argv[1:]
    return Mailbox(Path(path)), name, int(parent)
