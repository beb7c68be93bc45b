"""How a saved model was made: what its file says of it, and `ase_srdft.model_card` reads."""

from __future__ import annotations

import math
from typing import Any

from ase_srdft.common.source_commit import source_commit
from ase_srdft.common.units import ANGSTROM_PER_BOHR, MICROHARTREE
from ase_srdft.training.trainer import Trainer
from ase_srdft.version import __version__

__all__ = ["microhartree", "training_record"]


def training_record(trainer: Trainer) -> dict[str, Any]:
    """The record of the best model so far, in values that JSON holds."""
    counters = trainer.counters
    return {
        "config": trainer.config.to_plain(),
        "molecules": trainer.names,
        "structure": _structure(trainer),
        "steps": trainer.updater.step,
        "samples": counters.nsamples,
        "nframes": len(trainer.buffer.frames),
        "seconds": round(trainer.elapsed, 1),
        "bracket_width_uEh": microhartree(counters.best_width),
        "bracket_width_max_uEh": microhartree(counters.best_largest_width),
        "bracket_widths_uEh": [_rounded(microhartree(width)) for width in counters.best_widths],
        "nvalidation": len(trainer.held_out),
        "version": __version__,
        "commit": source_commit(),
    }


def microhartree(width: float) -> float | None:
    """Of a width in Hartree; what is not there is nothing in JSON."""
    return width * MICROHARTREE if math.isfinite(width) else None


def _rounded(number: float | None) -> float | None:
    """To four digits, as there are many of them."""
    return None if number is None else float(f"{number:.4g}")


def _structure(trainer: Trainer) -> dict[str, Any] | None:
    """The structure whose bonds a run of one molecule keeps to; nothing where bonds may change."""
    dataset = trainer.dataset
    several = len(dataset.compositions) > dataset.nlevels
    if several or trainer.config.sampling.allow_reactions:
        return None
    return {
        "numbers": list(dataset.compositions[0]),
        "positions_angstrom": (dataset.references[0] * ANGSTROM_PER_BOHR).tolist(),
        "charge": trainer.molecules[0].level.charge,
    }
