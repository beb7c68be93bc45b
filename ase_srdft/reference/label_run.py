"""Labelling frames by the reference SCF: a run that goes on where it was, no frame twice.

While it goes on, finished frames are in whole files of labels ("pieces") in a directory beside the
one that is wanted; that one appears at the end, at once and complete.  Whatever kills the run, the
same one goes on with the frames that no piece holds.  A lock on the directory lets one process at
a time into it; what that one finds and writes is what it goes by, never what it saw before.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ase_srdft.common.atomic_files import (
    destination,
    is_stream,
    locked_directory,
    replace_atomically,
    writable_directory,
)
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.reference.label_file import (
    Failure,
    Label,
    LabelOrigin,
    Labels,
    frames_fingerprint,
    read_labels,
    read_origin,
    write_labels,
)
from ase_srdft.reference.label_workers import FrameTask, label_frames, molecule_at

__all__ = ["Labelling"]

#: A new file of finished frames is written after so many seconds, or after this share of the
#: time that the session has taken: what a kill can cost, and what keeps their number low.
_PIECE_SECONDS, _PIECE_SHARE = 2.0, 0.01
#: For another process in the same directory to end.
_PATIENCE_SECONDS = 5.0
#: Directories of pieces that may be removed under our hands before that is an error.
_ROUNDS = 3
#: Bytes of a file's name that any disk takes, and characters that fit in any case.
_LONGEST_NAME, _SHORT_NAME = 255, 60


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
            _ = molecule_at(numbers, level).provider  # an unknown auxiliary basis shows here
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

    @property
    def ndone(self) -> int:
        """How many frames were tried so far, in this run and before."""
        return len(self._done)

    def _piece_paths(self) -> list[Path]:
        return sorted(self.pieces.glob("*.h5"))

    def _look(self) -> None:
        """See which frames are done.

        Raises:
            BadInput: what is there is of other frames, or of another level.
            DamagedFile: it cannot be read, or a frame is there twice or not at all.
        """
        while True:
            self.failures: list[Failure] = []
            self._done: set[int] = set()
            paths = [self.path] if self.finished else self._piece_paths()
            if all(self._count(path) for path in paths):
                break
        if self.finished and self.ndone < len(self.frames):
            raise DamagedFile(
                f"{self.path} holds {self.ndone} of the {len(self.frames)} frames: remove it, and "
                "the same command makes all of them"
            )

    def _count(self, path: Path) -> bool:
        """Count a file's frames as done; False if another process has removed it by now."""
        try:
            found = read_labels(path)
        except BadInput as err:
            if not path.exists():
                return False
            if path == self.path:
                raise
            raise DamagedFile(
                f"{path}, a part of this run, is damaged ({err.__cause__ or err}): remove it, and "
                "the same command makes its frames again"
            ) from err
        if found.origin != self.origin:
            raise BadInput(f"{path} holds labels {_difference(found.origin, self.origin)}")
        frames = found.frames
        again = self._done.intersection(frames)
        if again or len(set(frames)) < len(frames) or set(frames) - set(range(len(self.frames))):
            raise DamagedFile(
                f"{path} holds frames {frames}, some of them twice, or of no such number, or also "
                "in another part of this run: remove it and run the same command again"
            )
        self._done.update(frames)
        self.failures = sorted([*self.failures, *found.failures], key=lambda each: each.frame)
        return True

    def run(self) -> Iterator[Label | Failure]:
        """Label what is not labelled yet; yields each frame's result, in their order.

        Raises:
            BadInput: as for the class; what is there may have changed since.
            WorkerFailed: a process died.
            OSError: a file cannot be written.
        """
        if not self.finished:
            yield from self._run_locked()
            return
        if self.ndone < len(self.frames):  # another process has finished it just now
            self._look()
        with suppress(BadInput):  # another process is about to do it, or we may not
            self._remove_pieces_left()

    def _run_locked(self) -> Iterator[Label | Failure]:
        self._lock = self._take_lock()
        try:
            self._look()  # another process may have been at work until now
            if not self.finished:
                yield from self._label_and_join()
            if self.finished:
                shutil.rmtree(self.pieces, ignore_errors=True)
        finally:
            os.close(self._lock)

    def _remove_pieces_left(self) -> None:
        """Those of this very run, which was killed before it came to this."""
        if not self.pieces.is_dir():
            return
        lock = self._take_lock()
        try:
            if all(read_origin(path) == self.origin for path in self._piece_paths()):
                shutil.rmtree(self.pieces, ignore_errors=True)
        finally:
            os.close(lock)

    def _take_lock(self) -> int:
        """Lock the directory of pieces, the one that is there.

        While this process waits, the other one may come to its end and remove the directory: a
        lock on what is no longer there keeps nobody out.

        Raises:
            BadInput: another process has the lock, or the directory cannot be written.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                writable_directory(self.pieces)
                lock = locked_directory(self.pieces, max(0.0, end - time.monotonic()))
            except (BadInput, FileNotFoundError) as err:
                removed = isinstance(err.__cause__ or err, FileNotFoundError)
                if not removed or time.monotonic() > end:
                    raise
                continue
            if _is_at(lock, self.pieces):
                return lock
            os.close(lock)

    def _label_and_join(self) -> Iterator[Label | Failure]:
        # What a killed process was about to rename to the file.
        wanted = destination(self.path)
        for path in wanted.parent.glob(f".{glob.escape(wanted.name)}.*.tmp"):
            path.unlink(missing_ok=True)
        for _ in range(_ROUNDS):  # one, unless somebody removes finished pieces meanwhile
            yield from self._label_the_rest()
            if self.stop_requested or self.ndone == len(self.frames):
                break
        if self.ndone == len(self.frames):
            self._join()
        elif not self.stop_requested:
            raise DamagedFile(
                f"{self.pieces} was removed again and again: leave it alone until {self.path} is "
                "there, and run the same command again"
            )

    def _label_the_rest(self) -> Iterator[Label | Failure]:
        began = last = time.monotonic()
        fresh: list[Label | Failure] = []
        results = label_frames(self._tasks(), self.nworkers)
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
        """The frames that are not done, until it is asked to stop."""
        rest = [frame for frame in range(len(self.frames)) if frame not in self._done]
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
        if results and not _is_at(self._lock, self.pieces):  # somebody has removed the directory
            lock = self._take_lock()
            os.close(self._lock)
            self._lock = lock
            self._look()
            results = [each for each in results if each.frame not in self._done]
        if not results:
            return
        part = Labels(
            origin=self.origin,
            labels=tuple(r for r in results if isinstance(r, Label)),
            failures=tuple(r for r in results if isinstance(r, Failure)),
        )
        path = self.pieces / f"{results[0].frame:09d}.h5"
        replace_atomically(path, lambda beside: write_labels(beside, [part]))
        self._done.update(each.frame for each in results)
        self.failures += part.failures

    def _join(self) -> None:
        """One file of all pieces, once it reads as it should.

        Raises:
            BadInput: a file has appeared there, of something else.
            DamagedFile: some of the pieces have gone, or do not read; the others stay.
        """
        if self.finished:
            self._look()
            return
        paths = self._piece_paths()

        def write(beside: Path) -> None:
            write_labels(beside, (read_labels(path) for path in paths))
            found = read_labels(beside)
            if not found.complete:
                raise DamagedFile(
                    f"{self.pieces} holds {len(found.frames)} of the "
                    f"{len(self.frames)} frames that were labelled, files in it were removed: run "
                    "the same command again, which makes what is missing"
                )

        replace_atomically(self.path, write)
        self._delivered = True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open directory is the one that has this name."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _difference(found: LabelOrigin, wanted: LabelOrigin) -> str:
    if found.level != wanted.level:
        what = f"of {found.level}, charge {found.level.charge}, not of {wanted.level}, charge "
        what += f"{wanted.level.charge}"
    elif found.forces != wanted.forces:
        what = "with forces, not without" if found.forces else "without forces, not with them"
    else:
        what = "of other frames"
    return f"{what}: use the same frames and settings, or give another file"
