"""Dynamics that begins with nothing trained for its molecule, beside PySCF: path, bracket and time.

    python benchmarks/dynamics.py --picture docs/figures/dynamics.png
    python benchmarks/dynamics.py --molecule CH3CONH2 --level PBE/def2-svp --steps 400

Langevin dynamics of ASE's with ``SRDFTCalculator(xc=, basis=, learn=True)``.  At the end of each
interval PySCF follows some steps of the same trajectory, from the density of the step before
(density-fitted SCF and gradient on the same grid, --conv-tol), which is what its user would run.
Seconds are of the processor in this process, the trainer beside it apart, and of the clock, which
the trainer and whatever else runs slow down alike.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from _common import add_conv_tol, benchmark_parser, use_threads
from _pyscf_calculator import PySCFCalculator
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin

from ase_srdft import SRDFTCalculator
from ase_srdft.calculator.certificate import Certificate
from ase_srdft.dft.level_of_theory import ANSWER_GRID_LEVEL, LevelOfTheory


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Some steps of dynamics.

    Attributes:
        last: step.
        paths: how many answers came by each.
        alone: brackets of the model by itself (eV).
        error: the widest bracket of an answer (eV).
        builds: Fock matrices of the level's grid a step.
        coarse_builds: of the coarse grid.
        cpu: seconds a step, and PySCF's.
        wall: likewise.
        off: largest difference to PySCF of an energy (eV) and of a component of forces (eV/Å).
    """

    last: int
    paths: Counter[str]
    alone: list[float]
    error: float
    builds: float
    coarse_builds: float
    cpu: tuple[float, float]
    wall: tuple[float, float]
    off: tuple[float, float]

    def row(self) -> str:
        """Of the table."""
        paths = ", ".join(f"{name} {count}" for name, count in sorted(self.paths.items()))
        ratios = [theirs / ours for ours, theirs in (self.cpu, self.wall)]
        return (
            f"| {self.last} | {paths} | {1e3 * np.mean(self.alone):.2f} | {1e3 * self.error:.1e} "
            f"| {self.builds:.2f} + {self.coarse_builds:.1f} | {self.cpu[0]:.3f} | "
            f"{self.cpu[1]:.2f} | {ratios[0]:.1f} | {ratios[1]:.1f} | {1e3 * self.off[0]:.3f} | "
            f"{1e3 * self.off[1]:.2f} |"
        )


HEAD = (
    "| to step | answers by path | model alone / meV | widest bracket / meV | Fock matrices, fine "
    "+ coarse | s of CPU a step | PySCF | times | by the clock | energies off / meV | forces off / "
    "(meV/Å) |\n" + 11 * "| --- " + "|"
)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    busy, started = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - busy, time.perf_counter() - started


class Comparison:
    """Dynamics, and PySCF behind it.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        xc, _, basis = options.level.partition("/")
        level = LevelOfTheory(xc=xc, basis=basis, grid_level=ANSWER_GRID_LEVEL)
        self.atoms = molecule(options.molecule)
        self.ours = SRDFTCalculator(options.model, xc=xc, basis=basis, learn=options.learn)
        self.theirs = PySCFCalculator(level, options.conv_tol)
        self.atoms.calc = self.ours
        random = np.random.default_rng(0)
        spread = np.sqrt(units.kB * options.temperature * self.atoms.get_masses())
        self.atoms.set_momenta(spread[:, None] * random.standard_normal((len(self.atoms), 3)))
        self.dynamics = Langevin(
            self.atoms,
            options.timestep * units.fs,
            temperature_K=options.temperature,
            friction=0.01 / units.fs,
            fixcm=False,
            rng=random,
        )
        self._certificates: list[Certificate] = []
        self._frames: list[Atoms] = []
        self.dynamics.attach(self._note)

    def _note(self) -> None:
        self._certificates.append(self.ours.certificate)
        frame = self.atoms.copy()
        frame.info = {
            "energy": self.atoms.get_potential_energy(),
            "forces": self.atoms.get_forces(),
        }
        self._frames.append(frame)

    def interval(self, last: int) -> Interval:
        """Go on to a step."""
        nsteps = last - self.dynamics.nsteps
        self._certificates.clear()
        self._frames.clear()
        cpu, wall = timed(lambda: self.dynamics.run(nsteps))
        followed = self._frames[-self.options.followed - 1 :]
        self._follow(followed[:1])  # the density of the step before
        their_cpu, their_wall = timed(lambda: self._follow(followed[1:]))
        found = self._certificates
        return Interval(
            last=last,
            paths=Counter(each.path for each in found),
            alone=[each.start_error for each in found],
            error=max(each.error for each in found),
            builds=float(np.mean([each.builds for each in found])),
            coarse_builds=float(np.mean([each.coarse_builds for each in found])),
            cpu=(cpu / nsteps, their_cpu / len(followed[1:])),
            wall=(wall / nsteps, their_wall / len(followed[1:])),
            off=self._differences(followed[1:]),
        )

    def _follow(self, frames: Sequence[Atoms]) -> None:
        for frame in frames:
            self.theirs.energy_and_forces(frame)

    def _differences(self, frames: Sequence[Atoms]) -> tuple[float, float]:
        """Largest (eV, eV/Å); PySCF remembers these frames."""
        energies, forces = [], []
        for frame in frames:
            energy, expected = self.theirs.energy_and_forces(frame)
            energies.append(frame.info["energy"] - energy)
            forces.append(np.abs(frame.info["forces"] - expected).max())
        return float(np.abs(energies).max()), float(max(forces))


def plot(intervals: Sequence[Interval], title: str, path: str) -> None:
    """Bracket of the model alone, step by step, and how many times faster than PySCF it goes."""
    alone = 1e3 * np.concatenate([each.alone for each in intervals])
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 5.5), sharex=True, layout="constrained", height_ratios=[2, 1]
    )
    above.semilogy(np.linspace(0, intervals[-1].last, len(alone)), alone, ".", ms=2)
    above.axhline(1.0, color="grey", lw=0.8)
    above.set(ylabel="bracket of the model alone / meV", title=title)
    edges = [0, *(each.last for each in intervals)]
    for name, seconds in (("CPU", "cpu"), ("clock", "wall")):
        times = [getattr(each, seconds) for each in intervals]
        below.stairs([theirs / ours for ours, theirs in times], edges, label=name, baseline=None)
    below.set(xlabel="step", ylabel="times PySCF's speed\n(from the last density)")
    below.set_ylim(bottom=0)
    below.legend()
    figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--molecule", default="CH3CH2OH", help="of ASE's g2")
    parser.add_argument("--model", help="a .srdft file or a shipped model's name")
    parser.add_argument("--level", default="B3LYP/6-31g*")
    parser.add_argument("--learn", default="beside", choices=["beside", "in_turn", "pause"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--interval", type=int, default=200)
    parser.add_argument(
        "--followed", type=int, default=8, help="steps of each interval that PySCF follows"
    )
    parser.add_argument("--temperature", type=float, default=500.0, help="in K")
    parser.add_argument("--timestep", type=float, default=0.5, help="in fs")
    parser.add_argument("--picture", help="file to draw into")
    add_conv_tol(parser)
    options = parser.parse_args(arguments)
    use_threads(1)
    comparison = Comparison(options)
    print(f"{comparison.ours}, {options.molecule}, {options.temperature:g} K\n\n{HEAD}", flush=True)
    intervals = []
    for last in range(options.interval, options.steps + 1, options.interval):
        intervals.append(comparison.interval(last))
        print(intervals[-1].row(), flush=True)
    comparison.ours.close()
    if options.picture:
        title = f"{options.molecule}, {options.level}, {options.temperature:g} K"
        plot(intervals, title, options.picture)


if __name__ == "__main__":
    main()
