"""The one place that imports schnetpack.

schnetpack 2.0.4 asks torch for a name that newer versions renamed; it is put back before the
import.  The import takes seconds, so it happens when a model is built, not before,
and it draws a random number of Python's (rich does), which is put back too.
"""

from __future__ import annotations

import random
import warnings
from types import ModuleType

__all__ = ["schnetpack_modules"]


def schnetpack_modules() -> tuple[ModuleType, ModuleType]:
    """``schnetpack.nn`` and ``schnetpack.representation``."""
    import torch.utils.data.dataloader as dataloader

    if not hasattr(dataloader, "T_co") and hasattr(dataloader, "_T_co"):
        dataloader.T_co = dataloader._T_co  # type: ignore[attr-defined]
    state = random.getstate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schnetpack.nn
        import schnetpack.representation
    random.setstate(state)
    return schnetpack.nn, schnetpack.representation
