"""What a model that learned beside a driver has behind it, for its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.common.source_commit import source_commit
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.shipped_models import UNTRAINED
from ase_srdft.version import __version__

__all__ = ["LearningRecord"]


@dataclass(frozen=True, kw_only=True)
class LearningRecord:
    """What trainers had, one after the other.

    Attributes:
        molecules: formulas of what was learned from.
        ngeometries: offered to it.
        nsteps: of training, as far as is known here.
    """

    molecules: tuple[str, ...] = ()
    ngeometries: int = 0
    nsteps: int = 0

    def __add__(self, later: LearningRecord) -> LearningRecord:
        return LearningRecord(
            molecules=tuple(dict.fromkeys((*self.molecules, *later.molecules))),
            ngeometries=self.ngeometries + later.ngeometries,
            nsteps=self.nsteps + later.nsteps,
        )

    def of_file(self, model: ElectronicStateModel, start: str) -> dict[str, Any]:
        """The training record of a model file, as plain values: what `ase_srdft.model_card` reads.

        Args:
            model: that is written.
            start: what it began from, by name.
        """
        return {
            "config": {
                "level": model.level.to_dict(),
                "start_from": None if start == UNTRAINED else start,
            },
            "elements": [chemical_symbols[number] for number in model.elements],
            "molecules": list(self.molecules),
            "samples": self.ngeometries,
            "steps": self.nsteps,
            "nframes": 0,
            "version": __version__,
            "commit": source_commit(),
        }
