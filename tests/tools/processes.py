"""The processes of a run of ase-srdft-train, for tests that kill them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

_Value = TypeVar("_Value")

#: Seconds to wait for something that a loaded machine may take its time for.
PATIENCE = 200.0
CHECKPOINTS = ("checkpoint.h5", "checkpoint.previous.h5")


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split() if not _ended(int(word))]


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Run:
    """A command in a directory: what a user starts, its trainer, its samplers.

    Args:
        arguments: of ase-srdft-train.
        directory: of its files.
    """

    def __init__(self, arguments: Sequence[str], directory: Path | str) -> None:
        self.directory = Path(directory)
        command = [sys.executable, "-m", "ase_srdft.cli.train", *arguments, "-o", str(directory)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with open(self._log, "a", encoding="utf-8") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    @property
    def _log(self) -> Path:
        return self.directory.with_suffix(".log")

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8")

    def pids(self, who: str) -> list[int]:
        """Of ``main``, ``trainer`` or ``sampler``: those there are now."""
        if who == "main":
            return [self.process.pid] if self.process.poll() is None else []
        trainers = children(self.process.pid)
        return trainers if who == "trainer" else [c for t in trainers for c in children(t)]

    def everyone(self) -> list[int]:
        """All processes of the run."""
        return [pid for who in ("sampler", "trainer", "main") for pid in self.pids(who)]

    def kill(self, pids: Iterable[int], number: int = signal.SIGKILL) -> list[int]:
        """Send them a signal; returns those that were still there."""
        found = []
        for pid in pids:
            try:
                os.kill(pid, number)
                found.append(pid)
            except ProcessLookupError:
                pass
        return found

    def stop(self, seconds: float = 60.0) -> int:
        """Ask it to stop; returns its exit code."""
        self.kill(self.pids("main"), signal.SIGTERM)
        return self.process.wait(seconds)

    def metrics(self, kind: str) -> list[dict[str, Any]]:
        """What it has written down, torn lines left out."""
        try:
            lines = (self.directory / "metrics.jsonl").read_text(errors="replace").splitlines()
        except OSError:
            return []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return [record for record in records if record.get("kind") == kind]

    def last_step(self) -> int:
        """The last training step that was written down."""
        records = [r for kind in ("training", "sampling") for r in self.metrics(kind)]
        steps: list[int] = [record["step"] for record in records]
        return max(steps, default=0)


def wait_for(condition: Callable[[], _Value], seconds: float, what: str) -> _Value:
    """Until it is true; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} in {seconds:.0f} s")
        time.sleep(0.05)
    return value


def checkpoint(directory: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and record of the checkpoint of a directory."""
    path = next(p for name in CHECKPOINTS if (p := Path(directory) / name).exists())
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and name != "record":
            arrays[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
        return arrays, json.loads(file["record"][()])
