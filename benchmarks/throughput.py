"""What energies, forces, training and sampling cost: compiled kernels, torch and PySCF in turn.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --molecules ethanol aspirin --levels PBE/def2-svp --threads 1 2
    python benchmarks/throughput.py --work training sampling --molecules ethanol uracil
    python benchmarks/throughput.py --memory

All sides start from a bare geometry, have the same level of theory, auxiliary basis and grid
(level 1), the same number of threads, and take turns in one process; what counts is the median,
of CPU time (which another process on the machine disturbs least) and of wall time.  Ours is all
that the calculator does: integrals, grid, guess, network, energy, bracket, and forces that are the
full derivative, grid included.  PySCF's is a density-fitted SCF to --conv-tol and its nuclear
gradient without the response of the grid, its default and the cheaper choice: once from its minao
guess, once from the converged density of the time step before (0.5 fs at 500 K), which is what
its users would run.

Models of the shipped levels are the shipped ones, the others have fresh weights, which makes no
difference to the time.  The geometry is a frame of rMD17 from the folder that ASE_SRDFT_DATA
names, or a structure of `benchmarks/structures/` or of ASE, rattled.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _common import (
    FILES,
    add_conv_tol,
    as_numpy,
    benchmark_parser,
    bohr,
    frames_of,
    numbers_of,
    pyscf_scf,
    untrained,
    use_threads,
)
from ase import Atoms, units
from ase.build import molecule as molecule_of_ase
from ase.io import read
from side_by_side import Seconds, medians

from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.dft.kernels import library
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import list_models, model_path
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.workers.resumable_sampler import model_energy_surface
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.weight_updater import WeightUpdater

STRUCTURES = Path(__file__).parent / "structures"
MOLECULES = ("water", "ethanol", "uracil", "aspirin", "ibuprofen")
LEVELS = ("PBE/6-31g",)
WORK = ("energy", "forces", "training", "sampling")
BATCH = 8
#: Sides of the table, in its order.
KERNELS, TORCH, COLD, WARM = "kernels", "torch", "PySCF, minao", "PySCF, last density"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Medians of one side, and what it did."""

    molecule: str
    natoms: int
    nao: int
    level: str
    work: str
    side: str
    threads: int
    cpu_ms: float
    wall_ms: float


def structure(name: str) -> Atoms:
    """A geometry away from the minimum."""
    if name in FILES and FILES[name].is_file():
        return frames_of(name)[-1]
    path = STRUCTURES / f"{name}.xyz"
    named = {"water": "H2O", "ethanol": "CH3CH2OH"}
    if not path.is_file() and name not in named:
        raise SystemExit(f"no structure of {name}: name the folder of the frames in ASE_SRDFT_DATA")
    atoms = read(path) if path.is_file() else molecule_of_ase(named[name])
    assert isinstance(atoms, Atoms)
    atoms.rattle(0.03, seed=0)
    return atoms


def model_for(name: str, level: LevelOfTheory, atoms: Atoms) -> ElectronicStateModel:
    """The shipped model of a molecule and level, or fresh weights."""
    shipped = f"{name}-{level.xc}-{level.basis}".lower()
    if shipped in list_models():
        return load_model(model_path(shipped)).model
    return untrained(level, atoms, "roothaan")


def step_before(atoms: Atoms) -> Atoms:
    """The geometry of 0.5 fs earlier, at thermal velocities of 500 K."""
    earlier: Atoms = atoms.copy()
    normal = np.random.default_rng(0).standard_normal(atoms.positions.shape)
    velocities = normal * np.sqrt(units.kB * 500.0 / atoms.get_masses())[:, None]
    earlier.positions -= 0.5 * units.fs * velocities
    return earlier


class Bench:
    """The sides of every piece of work on one molecule.

    Args:
        name: molecule.
        level: of theory.
        threads: of kernels, torch, PySCF and the workers of a batch.
        conv_tol: PySCF's (Hartree).
        with_pyscf: whether it takes part.
    """

    def __init__(
        self, name: str, level: LevelOfTheory, threads: int, conv_tol: float, with_pyscf: bool
    ) -> None:
        self.name, self.level, self.threads, self.conv_tol = name, level, threads, conv_tol
        self.with_pyscf = with_pyscf
        self.atoms = structure(name)
        self.positions = bohr(self.atoms)
        self.model = model_for(name, level, self.atoms)
        self.molecule = molecule_of(self.model, numbers_of(self.atoms))

    def run(self, work: Sequence[str], repeats: int) -> list[Timing]:
        """The medians of all pieces of work."""
        timings: list[Timing] = []
        for piece in work:
            for label, sides in self.sides(piece).items():
                for side, seconds in medians(sides, repeats).items():
                    timings.append(self.timing(label, side, seconds))
        return timings

    def timing(self, work: str, side: str, seconds: Seconds) -> Timing:
        """A row of the table."""
        return Timing(
            molecule=self.name,
            natoms=len(self.atoms),
            nao=self.molecule.basis.nao,
            level=f"{self.level.xc}/{self.level.basis}",
            work=work,
            side=side,
            threads=self.threads,
            cpu_ms=1e3 * seconds.cpu,
            wall_ms=1e3 * seconds.wall,
        )

    def sides(self, piece: str) -> dict[str, dict[str, Callable[[], object]]]:
        """What is timed against what, by the name of the work."""
        if piece == "training":
            return self._training()
        if piece == "sampling":
            return {"sampler step": self._both(self._sampler_step())}
        forces = piece == "forces"
        label = "energy + forces" if forces else "energy"
        sides = self._both(
            lambda: single_point(self.model, self.molecule, self.positions, forces=forces)
        )
        if self.with_pyscf:
            earlier = bohr(step_before(self.atoms))
            before = pyscf_scf(self.molecule, earlier, self.conv_tol, forces=False)
            pyscf = partial(pyscf_scf, self.molecule, self.positions, self.conv_tol, forces=forces)
            sides |= {COLD: pyscf, WARM: partial(pyscf, density=before.make_rdm1())}
        return {label: sides}

    def _both(self, function: Callable[[], object]) -> dict[str, Callable[[], object]]:
        """A side of ours by the kernels, where there are any, and by torch."""

        def on(path: Callable[[], AbstractContextManager[object]]) -> Callable[[], object]:
            def run() -> None:
                with path(), library.threads(self.threads):
                    function()

            return run

        sides = {TORCH: on(library.using_torch)}
        return sides if library.loaded() is None else {KERNELS: on(nullcontext), **sides}

    def _batch(self) -> list[np.ndarray]:
        """Geometries of a training step."""
        rng = np.random.default_rng(0)
        amplitude = 0.05 / ANGSTROM_PER_BOHR
        return [
            as_numpy(self.positions) + amplitude * rng.standard_normal(self.atoms.positions.shape)
            for _ in range(BATCH)
        ]

    def _training(self) -> dict[str, dict[str, Callable[[], object]]]:
        workers = ThreadMap(self.threads)
        # A rate this small leaves the weights in place: every step is the same work.
        config = OptimiserConfig(learning_rate=1e-9, final_learning_rate=1e-9)
        updater = WeightUpdater(model_for(self.name, self.level, self.atoms), config, workers)
        frames = self._batch()
        device = torch.device("cpu")

        def cache() -> tuple[GeometryCache, list[int]]:
            made = GeometryCache(
                [self.molecule], 2**32, coarse_grid=True, device=device, threads=workers
            )
            return made, [made.add(0, positions) for positions in frames]

        def new() -> None:
            fresh, keys = cache()
            updater.update(fresh.batches(keys), 0.0)

        def revisited(path: AbstractContextManager[object]) -> Callable[[], object]:
            # geometries as the path itself prepares them
            with path:
                known, keys = cache()
                updater.update(known.batches(keys), 0.0)
            return lambda: updater.update(known.batches(keys), 0.0)

        again = {TORCH: self._both(revisited(library.using_torch()))[TORCH]}
        if library.loaded() is not None:
            again = {KERNELS: self._both(revisited(nullcontext()))[KERNELS], **again}
        return {
            f"training step, {BATCH} new": self._both(new),
            f"training step, {BATCH} revisited": again,
        }

    def _sampler_step(self) -> Callable[[], object]:
        workers = ThreadMap(self.threads)
        model = model_for(self.name, self.level, self.atoms)
        surface = model_energy_surface(model, [self.molecule], True, torch.device("cpu"), workers)
        walkers = np.array(self._batch())
        return lambda: surface(0, walkers)


def exponents(timings: Sequence[Timing]) -> dict[tuple[str, str, str, int], float]:
    """Of CPU time in the number of orbitals, from the smallest molecule to the largest."""
    groups: dict[tuple[str, str, str, int], list[Timing]] = {}
    for timing in timings:
        key = (timing.level, timing.work, timing.side, timing.threads)
        groups.setdefault(key, []).append(timing)
    fitted = {}
    for key, members in groups.items():
        if len({member.nao for member in members}) > 1:
            nao = [math.log(member.nao) for member in members]
            fitted[key] = float(np.polyfit(nao, [math.log(m.cpu_ms) for m in members], 1)[0])
    return fitted


def print_timings(timings: Sequence[Timing]) -> None:
    """A table for every molecule, level and number of threads: times, and the kernels' lead."""
    groups: dict[tuple[str, str, int], list[Timing]] = {}
    for timing in timings:
        groups.setdefault((timing.molecule, timing.level, timing.threads), []).append(timing)
    for (molecule, level, threads), rows in groups.items():
        print(
            f"\n{molecule}, {rows[0].natoms} atoms, {rows[0].nao} orbitals, {level}, "
            f"{threads} thread(s): medians"
        )
        for work in dict.fromkeys(row.work for row in rows):
            sides = [row for row in rows if row.work == work]
            best = sides[0]
            for row in sides:
                cpu, wall = row.cpu_ms / best.cpu_ms, row.wall_ms / best.wall_ms
                print(
                    f"  {work:<28}{row.side:<22}{row.cpu_ms:9.1f} ms CPU{row.wall_ms:9.1f} ms wall"
                    f"{cpu:8.1f} times CPU{wall:7.1f} wall"
                )
    fitted = exponents(timings)
    if fitted:
        print("\nexponent of CPU time in the number of orbitals")
        for (level, work, side, threads), value in fitted.items():
            print(f"  {level:<18}{work:<28}{side:<22}{threads} thread(s){value:8.2f}")


def print_memory(names: Sequence[str], levels: Sequence[str]) -> None:
    """Peak memory of an energy with forces above the imports', each in a process of its own."""
    print("\npeak memory of energy + forces above the imports'")
    for level in levels:
        for name in names:
            for side in (KERNELS, TORCH):
                if side == KERNELS and library.loaded() is None:
                    continue
                command = [sys.executable, __file__, "--one-peak", side, name, level]
                answer = subprocess.run(command, check=True, capture_output=True, text=True)
                print(f"  {level:<18}{name:<12}{side:<10}{float(answer.stdout):8.0f} MB")


def one_peak(side: str, name: str, level: str) -> float:
    """MB that one energy with forces takes above what is in memory before it."""
    path = library.using_torch if side == TORCH else nullcontext
    with path():
        bench = Bench(name, parsed_level(level), 1, 1e-9, with_pyscf=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        single_point(bench.model, bench.molecule, bench.positions)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024.0


def parsed_level(text: str) -> LevelOfTheory:
    """Of `functional/basis`."""
    xc, _, basis = text.partition("/")
    return LevelOfTheory(xc=xc, basis=basis)


def main(arguments: Sequence[str] | None = None) -> int:
    """Time what is asked for and print it."""
    parser = benchmark_parser(__doc__)
    add_conv_tol(parser)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5, help="timings, whose median counts")
    parser.add_argument("--molecules", nargs="+", default=MOLECULES)
    parser.add_argument("--levels", nargs="+", default=LEVELS, metavar="XC/BASIS")
    parser.add_argument("--work", nargs="+", choices=WORK, default=("energy", "forces"))
    parser.add_argument("--no-pyscf", action="store_true", help="ours alone")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of times")
    parser.add_argument("--json", type=Path, help="file for the numbers as well")
    parser.add_argument("--one-peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one_peak:
        print(one_peak(*options.one_peak))
        return 0
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {library.description()}")
    if options.memory:
        print_memory(options.molecules, options.levels)
        return 0
    timings: list[Timing] = []
    for threads in options.threads:
        use_threads(threads)
        for level in options.levels:
            for name in options.molecules:
                bench = Bench(
                    name, parsed_level(level), threads, options.conv_tol, not options.no_pyscf
                )
                timings += bench.run(options.work, options.repeats)
    print_timings(timings)
    if options.json:
        options.json.write_text(json.dumps([asdict(timing) for timing in timings], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
