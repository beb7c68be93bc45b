"""The global state of torch and NumPy is the user's: ours neither depends on it nor changes it.

Each public door is an `undisturbed` function.  Behind it the state is plain, and when it is left
the user's state is as it was:

=====================  ======================================================================
gradients              on; a tensor made in inference mode and kept would spoil what comes later
autocast               off; it makes half-precision products in silence
device                 by default the CPU, for this thread alone
NumPy's errors         underflow is none
threads                one, in a process that was forked: see `in_forked_process`; otherwise those
                       of the user, and of `loop_threads`
=====================  ======================================================================

torch's default data type and its generator of random numbers are those of all threads.  Nothing
here counts on them but the making of a network, which is `seeded` and in `single_precision`; these
put back what they find.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import torch

__all__ = [
    "in_forked_process",
    "loop_threads",
    "plain_state",
    "seeded",
    "single_precision",
    "undisturbed",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FORKED = threading.Event()
os.register_at_fork(after_in_child=_FORKED.set)
#: Only one at a time may borrow what all threads share, or the wrong state is put back.
_BORROWED = threading.RLock()


def in_forked_process() -> bool:
    """Whether this process came from another by a fork, without a program of its own.

    OpenMP's threads stay behind in a fork, and the first parallel loop of the new process waits
    for them for ever, be it torch's or PySCF's; so there must be none.
    """
    return _FORKED.is_set()


@contextmanager
def loop_threads(count: int) -> Iterator[None]:
    """So many threads for the parallel loops inside operations of torch and PySCF.

    It holds for what this thread calls; afterwards it has as many as before.  In a forked process
    there is one.
    """
    # where PySCF was not imported, it has no threads to speak of: in a fork, none that could be
    # missing
    pyscf: Any = sys.modules.get("pyscf.lib")
    count = 1 if in_forked_process() else count
    counts = (torch.get_num_threads(), None if pyscf is None else pyscf.num_threads())
    try:
        torch.set_num_threads(count)
        if pyscf is not None:
            pyscf.num_threads(count)
        yield
    finally:
        if pyscf is not None:
            pyscf.num_threads(counts[1])
        torch.set_num_threads(counts[0])


@contextmanager
def plain_state() -> Iterator[None]:
    """torch and NumPy in this thread as in a fresh process; the user's state comes back."""
    with ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", invalid="warn", under="ignore"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(True))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if in_forked_process():
            stack.enter_context(loop_threads(1))
        yield


@contextmanager
def seeded(seed: int | None = None) -> Iterator[None]:
    """Random numbers of torch's (CPU) that leave the user's own as they were.

    Args:
        seed: where they start; None to go on from the user's.
    """
    with _BORROWED:
        generator = torch.default_generator
        state = generator.get_state()
        try:
            if seed is not None:
                generator.manual_seed(seed)  # and not that of every GPU, as torch.manual_seed
            yield
        finally:
            generator.set_state(state)


@contextmanager
def single_precision() -> Iterator[None]:
    """float32 as torch's default type, for libraries that count on it.

    It is the default of all threads, so this is for moments; where it is float32 already, nobody
    notices.

    Raises:
        RuntimeError: another thread changed it meanwhile, and what was made may be of that type.
    """
    with _BORROWED:
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            now = torch.get_default_dtype()
            if now == torch.float32:
                torch.set_default_dtype(usual)
        if now != torch.float32:
            raise RuntimeError(
                f"another thread made {now} torch's default type while a model was made: set it "
                "before, or after"
            )


def undisturbed(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a function in the `plain_state`; a generator function likewise, but between its yields.

    What it raises, and what is sent to it or thrown into it, goes through.
    """
    if inspect.isgeneratorfunction(inspect.unwrap(function)):
        return cast(Callable[_P, _R], _undisturbed_generator(cast(Any, function)))

    @functools.wraps(function)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with plain_state():
            return function(*args, **kwargs)

    return inside


def _undisturbed_generator(
    function: Callable[_P, Generator[Any, Any, Any]],
) -> Callable[_P, Generator[Any, Any, Any]]:
    @functools.wraps(function)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        try:
            while True:
                with plain_state():
                    try:
                        item = step()
                    except StopIteration as end:
                        return end.value
                try:
                    step = functools.partial(generator.send, (yield item))
                except GeneratorExit:
                    raise
                except BaseException as err:
                    step = functools.partial(generator.throw, err)
        finally:
            with plain_state():
                generator.close()

    return inside
