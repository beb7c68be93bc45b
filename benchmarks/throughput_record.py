"""What `throughput.py` measured: rows, how they came about, and the file that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

#: What computes, in the order of the tables.
KERNELS, TORCH, COLD, WARM = "kernels", "torch", "PySCF, minao", "PySCF, last density"
OURS = (KERNELS, TORCH)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Of one call of the script.

    Attributes:
        command: that was given.
        machine: processor, cores, instruction set of the kernels.
        load: averages of the last minute, before and after.
    """

    command: str
    machine: str
    load: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Medians of one side.

    Attributes:
        molecule: its name.
        natoms: atoms.
        nao: orbitals.
        level: functional/basis.
        work: what was done.
        side: what computed.
        family: of the model; empty for PySCF.
        threads: of everything.
        rounds: timings that the medians are of.
        cpu_ms: CPU time of all threads.
        wall_ms: wall time.
    """

    molecule: str
    natoms: int
    nao: int
    level: str
    work: str
    side: str
    family: str
    threads: int
    rounds: int
    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most memory of an energy with forces, in a process of its own.

    Attributes:
        molecule: its name.
        natoms: atoms.
        nao: orbitals.
        level: functional/basis.
        side: what computed.
        family: of the model; empty for PySCF.
        process_MB: of the process, libraries and all.
        above_MB: above what was in memory before, the same libraries on all sides.
    """

    molecule: str
    natoms: int
    nao: int
    level: str
    side: str
    family: str
    process_MB: float
    above_MB: float


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one call of the script measured."""

    conditions: Conditions
    timings: Sequence[Timing] = ()
    peaks: Sequence[Peak] = ()


def read_pieces(path: Path) -> list[Piece]:
    """All calls that have written to a file, the first one first."""
    return [
        Piece(
            conditions=Conditions(**piece["conditions"]),
            timings=[Timing(**row) for row in piece["timings"]],
            peaks=[Peak(**row) for row in piece["peaks"]],
        )
        for piece in json.loads(path.read_text(encoding="utf-8"))
    ]


def append_piece(path: Path, piece: Piece) -> None:
    """Add a call to those in a file, which may not be there yet."""
    pieces = [*(read_pieces(path) if path.is_file() else []), piece]
    path.write_text(json.dumps([asdict(each) for each in pieces], indent=1), encoding="utf-8")


def all_timings(pieces: Iterable[Piece]) -> list[Timing]:
    """The rows of all calls; what was measured twice counts as it was measured last."""
    latest = {
        (t.molecule, t.level, t.work, t.side, t.family, t.threads): t
        for piece in pieces
        for t in piece.timings
    }
    return list(latest.values())


def all_peaks(pieces: Iterable[Piece]) -> list[Peak]:
    """As `all_timings`."""
    latest = {(p.molecule, p.level, p.side, p.family): p for piece in pieces for p in piece.peaks}
    return list(latest.values())


def exponents(timings: Iterable[Timing]) -> dict[tuple[str, str, str, str, int], float]:
    """Of CPU time in the number of orbitals, fitted to all molecules.

    Returns:
        by level, work, side, family and threads, where there are two molecules or more.
    """
    groups: dict[tuple[str, str, str, str, int], list[Timing]] = {}
    for t in timings:
        groups.setdefault((t.level, t.work, t.side, t.family, t.threads), []).append(t)
    fitted = {}
    for key, members in groups.items():
        if len({member.nao for member in members}) > 1:
            nao = [math.log(member.nao) for member in members]
            fitted[key] = float(np.polyfit(nao, [math.log(m.cpu_ms) for m in members], 1)[0])
    return fitted
