"""Commands that are run beside each other, and that end when whoever runs them is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

#: What a command answers that was interrupted and can be resumed.
INTERRUPTED = 75


class Children:
    """Runs commands, each on one core, and ends those that are running when told to stop."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def __call__(self, command: Sequence[str], log: Path) -> int:
        """Run one; its output is added to the log.  Once stopping, all are interrupted."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with self._lock:
            if self._stopping.is_set():
                return INTERRUPTED
            with log.open("ab") as file:
                # a session of its own: Ctrl-C is for us, who pass it on once
                process = subprocess.Popen(
                    command, stdout=file, stderr=file, env=environment, start_new_session=True
                )
            self._running.add(process)
        code = process.wait()
        with self._lock:
            self._running.remove(process)
            return INTERRUPTED if self._stopping.is_set() and code else code

    def stop(self, *signal_and_frame: object) -> None:
        """Ask all to end; also a handler of signals."""
        threading.Thread(target=self._stop).start()  # a handler must not wait for the lock

    def _stop(self) -> None:
        with self._lock:
            self._stopping.set()
            for process in self._running:
                process.terminate()

    def __enter__(self) -> Children:
        """Stop on Ctrl-C and SIGTERM from here on."""
        self._previous = {
            number: signal.signal(number, self.stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
