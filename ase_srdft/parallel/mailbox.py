"""Two processes exchange files through a directory, without blocking and without half files.

Weights are a file that is replaced as a whole; who reads it has the newest or the one before.
Messages are files that appear as a whole, in order, at most so many of each sender at a time.  A
process that is killed at any instant leaves both readable, and no reader ever waits for a writer.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

__all__ = ["Mailbox"]

_WEIGHTS = "weights.safetensors"


class Mailbox:
    """The directory.

    Args:
        path: that :meth:`create` made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls) -> Mailbox:
        """A fresh directory among the temporary ones."""
        return cls(Path(tempfile.mkdtemp(prefix="ase-srdft-")))

    def remove(self) -> None:
        """The directory is no longer needed."""
        shutil.rmtree(self.path, ignore_errors=True)

    # plain values

    def write(self, name: str, values: Any) -> None:
        """Plain values under a name."""
        self._appear(self.path / name, json.dumps(values).encode())

    def read(self, name: str) -> Any:
        """What was written under a name; None if nothing was."""
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None

    # signs of life

    def touch(self, name: str) -> None:
        """A sign of life of a process."""
        (self.path / f"{name}.alive").touch()

    def last_touched(self, name: str) -> float | None:
        """When the last sign of life was (seconds of ``time.time``); None if there was none."""
        try:
            return (self.path / f"{name}.alive").stat().st_mtime
        except FileNotFoundError:
            return None

    # weights

    def publish(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """Replace the weights."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        self._appear(self.path / _WEIGHTS, save(tensors, {"version": str(version)}))

    def newest(self, known: int) -> tuple[int, dict[str, Tensor]] | None:
        """Version and weights, if there are others than the version that is known."""
        path = self.path / _WEIGHTS
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            version = int(file.metadata()["version"])
            if version == known:
                return None
            return version, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    # messages

    def put(
        self, sender: str, number: int, tensors: Mapping[str, Tensor], plain: dict[str, Any]
    ) -> None:
        """A message; the numbers of a sender rise."""
        path = self.path / f"{sender}.{number:09d}.message"
        self._appear(path, save(dict(tensors), {"plain": json.dumps(plain)}))

    def waiting(self, sender: str) -> list[Path]:
        """The messages of a sender that nobody has taken yet, in order."""
        return sorted(self.path.glob(f"{sender}.*.message"))

    def take(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read a message and remove it.

        Raises:
            safetensors.SafetensorError, KeyError, ValueError: it is not what `put` writes.
        """
        try:
            with safe_open(path, framework="pt") as file:
                plain = json.loads(file.metadata()["plain"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        finally:
            path.unlink(missing_ok=True)
        return tensors, plain

    def _appear(self, path: Path, content: bytes) -> None:
        """Whoever reads it has all of it.

        Raises:
            OSError: naming the file, where a disk is full (``TMPDIR`` tells which one it is).
        """
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        except OSError as err:
            raise OSError(err.errno, err.strerror, str(path)) from err
