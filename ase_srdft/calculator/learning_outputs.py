"""What a calculator that learns can be asked beside energies: its weights in a file, and an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase_srdft.calculator.learning import Learning
from ase_srdft.calculator.model_runner import ModelRunner
from ase_srdft.common.torch_state import undisturbed
from ase_srdft.models.electronic_state import ElectronicStateModel

__all__ = ["LearningOutputs"]


class LearningOutputs:
    """Methods of a calculator that learns; it has the rest."""

    _learning: Learning
    _runner: ModelRunner | None

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change parameters."""
        raise NotImplementedError

    def _go_on_with(self, model: ElectronicStateModel) -> None:
        raise NotImplementedError

    def _take_new_weights(self) -> None:
        model = self._learning.newest()
        if model is not None:
            self._go_on_with(model)

    @undisturbed
    def save(self, path: str | Path) -> None:
        """Write the present model to a file (``*.srdft``), atomically, and how it was trained.

        Raises:
            InputError: there is no model yet, or the file cannot be written.
        """
        self._learning.save(path, None if self._runner is None else self._runner.model)

    def close(self) -> None:
        """End the trainer of a calculator that learns; it answers on, and learns no more."""
        self.set(learn=False)
