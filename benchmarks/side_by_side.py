"""What the benchmarks against PySCF share: frames, a model, equal threads, interleaved timing."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from ase_srdft.common.structures import read_frames
from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import build_model


def ethanol(nframes: int) -> list[Atoms]:
    """Frames of rMD17 from all over its file, or ASE's molecule rattled where it is not at hand."""
    path = Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data")) / "rmd17_ethanol_public.npz"
    if path.is_file():
        frames = read_frames(path)
        return frames[:: len(frames) // nframes][:nframes]
    return [rattled("CH3CH2OH", seed) for seed in range(nframes)]


def rattled(name: str, seed: int) -> Atoms:
    """A molecule of ASE's collection, every coordinate displaced by about 0.05 Angstrom."""
    atoms: Atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    return atoms


def bohr(atoms: Atoms) -> torch.Tensor:
    """Positions (1, natoms, 3) in Bohr."""
    return torch.tensor(atoms.positions / ANGSTROM_PER_BOHR)[None]


def untrained(level: LevelOfTheory, atoms: Atoms, guess: str) -> ElectronicStateModel:
    """A model of the default size: what its weights are makes no difference to its speed."""
    elements = tuple(sorted({int(number) for number in atoms.numbers}))
    return build_model("fock", level, elements, {"guess": guess})


def use_threads(nthreads: int) -> None:
    """The same number for torch and for PySCF."""
    from pyscf import lib

    torch.set_num_threads(nthreads)
    lib.num_threads(nthreads)


def median_seconds(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median wall time of each side, taken in turn after a first round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if repeat > 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


class Stopwatch:
    """Seconds by label, summed over laps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def start(self) -> None:
        """Begin a lap that :meth:`lap` will end."""
        self._last = time.perf_counter()

    def lap(self, label: str) -> None:
        """Give the time since the last call to a label."""
        now = time.perf_counter()
        self.seconds[label] = self.seconds.get(label, 0.0) + now - self._last
        self._last = now


def print_seconds(title: str, seconds: Mapping[str, float]) -> None:
    """A table of milliseconds and shares."""
    total = sum(seconds.values())
    print(f"\n{title}")
    for label, value in [*seconds.items(), ("sum", total)]:
        print(f"  {label:<44}{1e3 * value:9.1f} ms {100 * value / total:5.0f} %")


def as_numpy(positions: torch.Tensor) -> np.ndarray:
    """Positions (natoms, 3) of a batch of one."""
    return positions[0].numpy()
