"""Settings by name, as plain nested values."""

from __future__ import annotations

import copy
from typing import Any

from ase_srdft.common.errors import BadInput

__all__ = ["PRESETS", "overlaid", "preset"]

PRESETS: dict[str, dict[str, Any]] = {
    # arXiv 2506.01225: training on given frames, then refining on samples beside them.  Its
    # sampler names no temperature (its target is exp(-E / 1 Hartree), 315,775 K): ours is that of
    # the frames it was tested on.  The family of the model is not part of it.
    "paper": {
        "optimiser": {
            "batch_size": 8,
            "learning_rate": 3.0e-4,
            "final_learning_rate": 1.0e-6,
            "weight_decay": 1.0e-6,
        },
        "sampling": {"temperature_K": 500.0, "dynamics": "overdamped"},
        "steps": 200_000,
        "pretraining_steps": 10_000,
        "buffer_size": 2048,
    },
}


def preset(name: str) -> dict[str, Any]:
    """The settings of a name, to be changed at will.

    Raises:
        BadInput: no such name.
    """
    if name not in PRESETS:
        raise BadInput(f"unknown preset {name!r}: use one of {', '.join(sorted(PRESETS))}")
    return copy.deepcopy(PRESETS[name])


def overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested settings with others laid over them, value by value."""
    result = dict(below)
    for name, value in above.items():
        under = result.get(name)
        if isinstance(value, dict) and isinstance(under, dict):
            result[name] = overlaid(under, value)
        else:
            result[name] = value
    return result
