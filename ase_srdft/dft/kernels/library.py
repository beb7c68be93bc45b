"""Which compiled library is in use, and with how many threads.

The sources in ``source/`` are built into one library for each instruction set (pyproject.toml).
The best one that this processor can run is loaded at the first use.  Where none is, torch computes
the same numbers, several times more slowly.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ase_srdft.common.errors import BadInput, KernelsUnavailable

__all__ = [
    "FOLDER",
    "INSTRUCTION_SETS",
    "VARIABLE",
    "Choice",
    "chosen",
    "computing_threads",
    "description",
    "loaded",
    "thread_count",
    "threads",
    "using_torch",
    "wide_loops",
]

#: From the one that any processor runs to the most demanding.
INSTRUCTION_SETS = ("portable", "avx2", "avx512")
#: Environment variable that names one of them, or ``off``.
VARIABLE = "ASE_SRDFT_KERNELS"
#: Where the libraries are, unless a test has built others.
FOLDER = Path(__file__).parent
#: Set when it was warned of, so that child processes do not say it again.
_WARNED = "ASE_SRDFT_KERNELS_WARNED"

#: Orbitals from which on two threads are faster at exact exchange than one.
_WIDE = 100

_THREADS = ContextVar("threads of the kernels", default=1)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was found.

    Attributes:
        instruction_set: of the library in use; None where torch computes.
        library: itself.
        reason: why there is none, in words.
        wanted: whether that is what the user asked for.
    """

    instruction_set: str | None = None
    library: ctypes.CDLL | None = None
    reason: str = ""
    wanted: bool = False


@dataclass(kw_only=True)
class _Uses:
    """How many callers have asked for torch."""

    of_torch: int = 0


_USES = _Uses()


def choose(name: str | None, folder: Path) -> Choice:
    """Load the library of an instruction set, or the best there is.

    Args:
        name: one of `INSTRUCTION_SETS`, ``off``, or None for the best.
        folder: where the libraries are.

    Raises:
        BadInput: a name that is none of these, or a library that is not there or that this
            processor cannot run.
    """
    if name == "off":
        return Choice(reason=f"{VARIABLE}=off", wanted=True)
    if name is not None and name not in INSTRUCTION_SETS:
        known = ", ".join((*INSTRUCTION_SETS, "off"))
        raise BadInput(f"{VARIABLE} is {name!r}: use one of {known}, or leave it out")
    portable, reason = _open(folder, "portable")
    if portable is None:
        choice = Choice(reason=reason)
    else:
        runs = INSTRUCTION_SETS[: 1 + int(portable.srdft_supported_instruction_set())]
        choice = _best(folder, [name] if name in runs else runs if name is None else [])
        if name is not None and name not in runs:
            choice = Choice(reason=f"this processor does not run {name}")
    if name is not None and choice.library is None:
        raise BadInput(f"{VARIABLE} is {name}, but {choice.reason}: leave it out, or say off")
    return choice


def _best(folder: Path, names: list[str] | tuple[str, ...]) -> Choice:
    reason = ""
    for name in reversed(names):
        library, reason = _open(folder, name)
        if library is not None:
            return Choice(instruction_set=name, library=library)
    return Choice(reason=reason)


def _open(folder: Path, name: str) -> tuple[ctypes.CDLL | None, str]:
    """The library, or why there is none."""
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_{name}{suffix}"
        if path.is_file():
            try:
                return ctypes.CDLL(str(path)), ""
            except OSError as err:
                return None, f"{path.name} does not load ({err})"
    return None, f"they were not built for {name} when this was installed (no C++ compiler?)"


@lru_cache(maxsize=1)
def chosen() -> Choice:
    """What this process uses, found at the first call.

    Raises:
        BadInput: the environment variable asks for what cannot be.
    """
    return choose(os.environ.get(VARIABLE) or None, FOLDER)


def loaded() -> ctypes.CDLL | None:
    """The library to call, or None where torch is to compute.

    Warns:
        KernelsUnavailable: once, where no library loads.
    """
    if _USES.of_torch:
        return None
    choice = chosen()
    if choice.library is None and not choice.wanted and not os.environ.get(_WARNED):
        os.environ[_WARNED] = "1"
        warnings.warn(
            f"compiled kernels are not in use: {choice.reason}; torch computes the same, several "
            f"times more slowly (install a C++ compiler and then this package again, or say "
            f"{VARIABLE}=off)",
            KernelsUnavailable,
            stacklevel=2,
        )
    return choice.library


def description() -> str:
    """Which path computes, in words."""
    choice = chosen()
    if choice.library is None:
        return f"torch (no compiled kernels: {choice.reason})"
    return f"compiled kernels ({choice.instruction_set})"


@contextmanager
def using_torch() -> Iterator[None]:
    """Within it torch computes everything, in all threads: the oracle of the kernels."""
    _USES.of_torch += 1
    try:
        yield
    finally:
        _USES.of_torch -= 1


def thread_count() -> int:
    """Threads that a kernel called from here has; one unless :func:`threads` says otherwise."""
    return _THREADS.get()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give the kernels that are called within it, from this thread, so many threads.

    Raises:
        BadInput: fewer than one.
    """
    if count < 1:
        raise BadInput(f"threads {count}: use at least 1")
    token = _THREADS.set(count)
    try:
        yield
    finally:
        _THREADS.reset(token)


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Compute in so many threads and no more, whatever torch and PySCF are set to.

    The kernels have them.  Parallel loops inside the operations of torch and PySCF have one, but in
    `wide_loops`: OpenMP's threads go on spinning after a loop, in the way of the kernels' own.
    Where torch computes, its loops have them all.

    Raises:
        BadInput: fewer than one.
    """
    from ase_srdft.common.torch_state import loop_threads  # torch, which --version does without

    with threads(count), loop_threads(count if loaded() is None else 1):
        yield


@contextmanager
def wide_loops(norbitals: int) -> Iterator[None]:
    """Give loops over matrices of so many orbitals the kernels' threads, if it is worth it."""
    if thread_count() == 1 or norbitals < _WIDE:
        yield
    else:
        from ase_srdft.common.torch_state import loop_threads

        with loop_threads(thread_count()):
            yield
