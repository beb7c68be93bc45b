"""The process that a user starts: it starts the one that trains, and starts it again if it dies.

It loads nothing, holds nothing, and can itself be killed: the trainer then makes its checkpoint
and ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from ase_srdft.parallel.launch import python_command

__all__ = ["FORWARDED", "stop_signals", "supervise"]

#: Signals that ask a run to stop, whatever they did before.
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a run to stop: also that the terminal is gone, except under nohup."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return FORWARDED
    return (*FORWARDED, signal.SIGHUP)


def supervise(function: str, arguments: Sequence[str], program: str, max_restarts: int) -> int:
    """Run a command in a process of its own; start it again where a signal killed it.

    An exit code, whatever it is, is the command's own answer and is passed on.

    Args:
        function: ``module:function`` of the command; its first argument is our process.
        arguments: of the command.
        program: its name, for messages.
        max_restarts: how often it is started again.

    Returns:
        The exit code: 1 where the command died too often.
    """
    command = python_command(function, [str(os.getpid()), *arguments])
    process: subprocess.Popen[bytes] | None = None
    asked_to_stop: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        asked_to_stop.append(number)
        if process is not None and process.poll() is None:
            process.send_signal(number)

    forwarded = stop_signals()
    previous = {number: signal.signal(number, forward) for number in forwarded}
    try:
        for nrestarts in range(max_restarts + 1):
            # blocked until the command can answer them (StopRequest): none comes too early
            signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
            try:
                process = subprocess.Popen(command)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)
            code = process.wait()
            if code >= 0:
                return code
            name = signal.Signals(-code).name
            if asked_to_stop:
                return 128 - code
            if nrestarts < max_restarts:
                print(
                    f"{program}: the trainer was killed by {name}: started again from its last "
                    f"checkpoint ({nrestarts + 1} of {max_restarts} times)",
                    file=sys.stderr,
                    flush=True,
                )
        print(
            f"{program}: error: the trainer was killed by {name} again, after {max_restarts} "
            "restarts: check its memory; the same command goes on from its last checkpoint",
            file=sys.stderr,
        )
        return 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
