"""Labelling frames by the reference SCF: in processes side by side, and never twice.

While it goes on, finished frames are in whole files of labels in a directory beside the one that
is wanted; that one appears at the end, at once and complete.  Whatever kills the run, the same
one goes on from the last of these files.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ase_srdft.dft.level import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference import reference_scf
from ase_srdft.errors import BadInput, ReferenceNotConverged, WorkerFailed
from ase_srdft.files import is_stream, locked_directory, replace_atomically, writable_directory
from ase_srdft.labels import (
    Failure,
    Label,
    LabelOrigin,
    Labels,
    frames_fingerprint,
    read_labels,
    write_labels,
)
from ase_srdft.launch import ignore_folder

__all__ = ["FrameTask", "Labelling", "label_frame"]

#: A new file of finished frames is written after so many seconds, or after this share of the
#: time that the session has taken: what a kill can cost, and what keeps their number low.
_PIECE_SECONDS, _PIECE_SHARE = 2.0, 0.01
#: For another process in the same directory to end.
_PATIENCE_SECONDS = 5.0
#: No single frame takes a day.
_LONGEST_SECONDS = 86_400.0
#: Bytes of a file's name that any disk takes, and characters that fit in any case.
_LONGEST_NAME, _SHORT_NAME = 255, 60
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
def _molecule(numbers: tuple[int, ...], level: LevelOfTheory) -> Molecule:
    return Molecule(numbers=numbers, level=level)


def label_frame(task: FrameTask) -> Label | Failure:
    """The converged state of one frame, or why there is none."""
    started = time.perf_counter()
    molecule = _molecule(task.numbers, task.level)
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


class Labelling:
    """A run that makes one file of labels; the same run in the same place goes on.

    Args:
        path: of the file.
        frames: atomic numbers and positions (Bohr) of each.
        level: level of theory.
        forces: whether they are wanted; they double the time.
        nworkers: processes; 1 means this one alone.

    Attributes:
        stop_requested: set it to end the run after the frames in hand.

    Raises:
        BadInput: molecules that the level of theory refuses; a file or a half-finished run
            there is of other frames or of another level; another process is at work on it.
        DamagedFile: what is there cannot be read.
    """

    def __init__(
        self,
        path: Path,
        frames: Sequence[tuple[tuple[int, ...], Float[np.ndarray, "_ 3"]]],
        level: LevelOfTheory,
        forces: bool = True,
        nworkers: int = 1,
    ) -> None:
        for numbers in dict.fromkeys(numbers for numbers, _ in frames):
            _ = _molecule(numbers, level).provider  # an unknown auxiliary basis shows here
        self.path = path
        # beside a pipe or a device there may be no room for files
        beside = Path(path.name) if is_stream(path) else path
        fits = len(os.fsencode(path.name)) <= _LONGEST_NAME - len(".parts")
        self.pieces = beside.with_name(f"{path.name if fits else path.name[:_SHORT_NAME]}.parts")
        self.frames = frames
        self.origin = LabelOrigin(
            level=level,
            forces=forces,
            nframes=len(frames),
            fingerprint=frames_fingerprint(frames),
        )
        self.nworkers = nworkers
        self.stop_requested = False
        self._delivered = False
        self._look()

    @property
    def finished(self) -> bool:
        """Whether the file is there, or where it was to go."""
        return self._delivered or (self.path.exists() and not is_stream(self.path))

    def _piece_paths(self) -> list[Path]:
        return sorted(self.pieces.glob("*.h5"))

    def _look(self) -> None:
        """Count what is there.

        Raises:
            BadInput: it is of other frames, or of another level.
        """
        self.failures: list[Failure] = []
        self.ndone = 0
        for path in [self.path] if self.finished else self._piece_paths():
            found = read_labels(path)
            if found.origin != self.origin:
                raise BadInput(f"{path} holds labels {_difference(found.origin, self.origin)}")
            self.failures += found.failures
            self.ndone += len(found.labels) + len(found.failures)

    def run(self) -> Iterator[Label | Failure]:
        """Label what is not labelled yet; yields each frame's result, in their order.

        Raises:
            WorkerFailed: a process died.
            OSError: a file cannot be written.
        """
        if self.finished:
            shutil.rmtree(self.pieces, ignore_errors=True)  # killed before it came to this
            return
        lock = locked_directory(writable_directory(self.pieces), _PATIENCE_SECONDS)
        try:
            self._look()  # another process may have been at work until now
            yield from self._label_the_rest()
            if self.ndone == len(self.frames):
                self._join()
        finally:
            os.close(lock)

    def _label_the_rest(self) -> Iterator[Label | Failure]:
        began = last = time.monotonic()
        fresh: list[Label | Failure] = []
        results = _results(self._tasks(), self.nworkers)
        try:
            for result in results:
                fresh.append(result)
                now = time.monotonic()
                if now - last > max(_PIECE_SECONDS, _PIECE_SHARE * (now - began)):
                    self._write_piece(fresh)
                    fresh, last = [], now
                yield result
        finally:
            results.close()
            self._write_piece(fresh)

    def _tasks(self) -> Iterator[FrameTask]:
        """The frames after those that are done, until it is asked to stop."""
        rest = range(self.ndone, len(self.frames))
        for frame in takewhile(lambda _: not self.stop_requested, rest):
            numbers, positions = self.frames[frame]
            yield FrameTask(
                frame=frame,
                numbers=numbers,
                positions=positions,
                level=self.origin.level,
                forces=self.origin.forces,
            )

    def _write_piece(self, results: Sequence[Label | Failure]) -> None:
        if not results:
            return
        part = Labels(
            origin=self.origin,
            labels=tuple(r for r in results if isinstance(r, Label)),
            failures=tuple(r for r in results if isinstance(r, Failure)),
        )
        path = self.pieces / f"{self.ndone:09d}.h5"
        replace_atomically(path, lambda beside: write_labels(beside, [part]))
        self.ndone += len(results)
        self.failures += part.failures

    def _join(self) -> None:
        """One file of all pieces, which are no longer needed once it reads as it should."""

        def write(beside: Path) -> None:
            write_labels(beside, (read_labels(path) for path in self._piece_paths()))
            if not read_labels(beside).complete:
                raise OSError(f"{self.path} does not read as it was written")

        replace_atomically(self.path, write)
        self._delivered = True
        shutil.rmtree(self.pieces)


def _difference(found: LabelOrigin, wanted: LabelOrigin) -> str:
    if found.level != wanted.level:
        what = f"of {found.level}, charge {found.level.charge}, not of {wanted.level}, charge "
        what += f"{wanted.level.charge}"
    elif found.forces != wanted.forces:
        what = "with forces, not without" if found.forces else "without forces, not with them"
    else:
        what = "of other frames"
    return f"{what}: use the same frames and settings, or give another file"


def _results(tasks: Iterable[FrameTask], nworkers: int) -> Generator[Label | Failure, None, None]:
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
