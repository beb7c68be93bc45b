"""What a pool of samplers says of its workers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WorkerReport"]


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """A worker that died or fell silent, and was started again.

    Attributes:
        worker: which one.
        reason: in words.
        nrestarts: of all workers so far.
    """

    worker: str
    reason: str
    nrestarts: int
