"""What computes here, in words: for a report of a fault, and to see that the kernels are in use."""

from __future__ import annotations

import platform
from importlib.metadata import version

from ase_srdft.dft.kernels.library import description, thread_count
from ase_srdft.version import __version__

__all__ = ["about"]

_PACKAGES = ("torch", "pyscf", "ase", "schnetpack", "numpy")


def about() -> str:
    """Versions, processor, whether compiled kernels or torch compute, and threads of kernels.

    That is one thread unless this is asked for where more are in force
    (`ase_srdft.dft.kernels.library.threads`); a calculator made with ``threads=`` and the commands
    with ``--threads`` have theirs.

    Raises:
        BadInput: the variable ASE_SRDFT_KERNELS asks for what cannot be.

    >>> print(about())
    ase_srdft ...
    computing by ...
    """
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"ase_srdft {__version__}, Python {platform.python_version()}, {packages}\n"
        f"computing by {description()} on {platform.machine()}, {_threads(thread_count())}"
    )


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
