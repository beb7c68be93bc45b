"""The one place that imports schnetpack.

schnetpack 2.0.4 asks torch for a name that newer versions renamed; it is put back before the
import.  The import takes seconds, so it happens when a model is built, not before,
and it draws a random number of Python's (rich does), which is put back too.
"""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from torch import Tensor

__all__ = ["coupling_tables_from", "schnetpack_modules"]

_building = threading.Lock()


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


@contextmanager
def coupling_tables_from(table: Callable[[int], Tensor]) -> Iterator[None]:
    """Networks built inside take the even couplings up to an lmax from ``table(lmax)``.

    schnetpack makes its own with sympy, which takes 5 s for the lmax = 6 of f functions, in every
    process that opens a model.
    """
    modules, _ = schnetpack_modules()
    with _building:
        own = modules.so3.generate_clebsch_gordan_rsh
        modules.so3.generate_clebsch_gordan_rsh = table
        try:
            yield
        finally:
            modules.so3.generate_clebsch_gordan_rsh = own
