"""What a sampler process is given when it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["SamplerOrders"]


@dataclass(frozen=True, kw_only=True)
class SamplerOrders:
    """Where a sampler process goes on, and how.

    Attributes:
        start: name of the message in the mailbox that holds its `SamplerCheckpoint`.
        device: where it computes.
        queue_size: messages that may wait for the trainer; it pauses while there are so many.
    """

    start: str
    device: str
    queue_size: int

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> SamplerOrders:
        """What `to_plain` was called on.

        Raises:
            TypeError: a name is missing or unknown.
        """
        return cls(**plain)
