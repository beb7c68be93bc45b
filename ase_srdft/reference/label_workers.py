"""Frames to the reference SCF and its results back, in processes side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from ase_srdft.common.errors import ReferenceNotConverged, WorkerFailed
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.parallel.launch import ignore_folder
from ase_srdft.reference.label_file import Failure, Label

__all__ = ["FrameTask", "label_frame", "label_frames", "molecule_at"]

#: No single frame takes a day.
_LONGEST_SECONDS = 86_400.0
#: Frames that wait for each worker, so that none waits for us.
_AHEAD = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTask:
    """A frame to be labelled.

    Attributes:
        frame: its place among the others.
        numbers: atomic numbers.
        positions: nuclei (Bohr).
        level: level of theory.
        forces: whether they are wanted.
    """

    frame: int
    numbers: tuple[int, ...]
    positions: Float[np.ndarray, "natoms 3"]
    level: LevelOfTheory
    forces: bool


@lru_cache(maxsize=64)
def molecule_at(numbers: tuple[int, ...], level: LevelOfTheory) -> Molecule:
    """A molecule, made once."""
    return Molecule(numbers=numbers, level=level)


def label_frame(task: FrameTask) -> Label | Failure:
    """The converged state of one frame, or why there is none."""
    started = time.perf_counter()
    molecule = molecule_at(task.numbers, task.level)
    try:
        reference = reference_scf(molecule, task.positions, task.forces)
    except (ReferenceNotConverged, np.linalg.LinAlgError) as err:
        return Failure(frame=task.frame, reason=str(err))
    return Label(
        frame=task.frame,
        numbers=task.numbers,
        positions=task.positions,
        energy=reference.energy,
        fock=reference.fock,
        mo_energy=reference.mo_energy,
        forces=reference.forces,
        seconds=time.perf_counter() - started,
    )


def label_frames(
    tasks: Iterable[FrameTask], nworkers: int
) -> Generator[Label | Failure, None, None]:
    """The results in the order of the tasks, of which a few are taken ahead."""
    if nworkers == 1:
        yield from map(label_frame, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ignore_folder():  # a process that keeps count of semaphores is started here
        pool = ProcessPoolExecutor(nworkers, mp_context=context, initializer=_end_with_parent)
    waiting: deque[Future[Label | Failure]] = deque()
    try:
        for task in tasks:
            waiting.append(_submitted(pool, task))
            if len(waiting) >= _AHEAD * nworkers:
                yield waiting.popleft().result(_LONGEST_SECONDS)
        while waiting:
            yield waiting.popleft().result(_LONGEST_SECONDS)
    except BrokenProcessPool as err:
        raise WorkerFailed(
            "a labelling process was killed: check the memory, or use fewer workers; the same "
            "command goes on from the last frames that were written"
        ) from err
    except TimeoutError as err:
        raise WorkerFailed(f"a frame took more than {_LONGEST_SECONDS:g} s: leave it out") from err
    finally:
        pool.shutdown(cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, task: FrameTask) -> Future[Label | Failure]:
    """Hand a task over; the processes that this starts leave signals to us."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with ignore_folder():
            return pool.submit(label_frame, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """In a worker: go when the process that started it is gone, which no pipe tells it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
