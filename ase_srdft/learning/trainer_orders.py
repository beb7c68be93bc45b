"""What a trainer process beside a simulation is given when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ase_srdft.common.settings import from_plain
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.training.config import TrainingConfig

__all__ = ["TrainerOrders"]


@dataclass(frozen=True, kw_only=True)
class TrainerOrders:
    """How a trainer process trains, and what.

    Attributes:
        config: of the training.
        blueprint: of the model and the molecule; its settings of sampling are not used.
        step: training step to count on from: the version of the weights it starts with.
        train_steps: between new weights.
        pretrains: whether it trains to a safe bracket before anything else, which is waited for.
    """

    config: TrainingConfig
    blueprint: SamplerBlueprint
    step: int
    train_steps: int
    pretrains: bool = True

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "config": self.config.to_plain(),
            "blueprint": self.blueprint.to_plain(),
            "step": self.step,
            "train_steps": self.train_steps,
            "pretrains": self.pretrains,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> TrainerOrders:
        """What `to_plain` was called on.

        Raises:
            BadInput, KeyError, TypeError: a value is missing, unknown or of the wrong type.
        """
        return cls(
            config=from_plain(TrainingConfig, plain["config"]),
            blueprint=SamplerBlueprint.from_plain(plain["blueprint"]),
            step=plain["step"],
            train_steps=plain["train_steps"],
            pretrains=plain["pretrains"],
        )
