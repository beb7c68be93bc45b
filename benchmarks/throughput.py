"""What energies, forces, training and sampling cost: compiled kernels, torch and PySCF in turn.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --molecules ethanol aspirin --levels B3LYP/def2-svp --threads 2
    python benchmarks/throughput.py --work training sampling --molecules ethanol uracil
    python benchmarks/throughput.py --memory

All sides start from a bare geometry, have the same level of theory, auxiliary basis and grid
(level 1), the same number of threads, and take turns in one process; what counts is the median,
of CPU time (which another process on the machine disturbs least) and of wall time.  Ours is all
that the calculator does: integrals, grid, guess, network, energy, bracket, and forces that are the
full derivative, grid included.  PySCF's is a density-fitted SCF to --conv-tol and its nuclear
gradient without the response of the grid, its default and the cheaper choice: once from its minao
guess, once from the converged density of the time step before (0.5 fs at 500 K), which is what
its users would run.  For more than one thread say as many in OMP_NUM_THREADS, for numpy's.

What takes long is timed less often (--limit), and a matrix can be measured in pieces: --output adds
to what is in the file, and `plot_throughput.py` makes tables and figures of it.

Models of the shipped levels are the shipped ones, the others have fresh weights, which makes no
difference to the time.  The geometry is a frame of rMD17 from the folder that ASE_SRDFT_DATA
names, or a structure of `benchmarks/structures/` or of ASE, rattled.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from _common import (
    add_conv_tol,
    benchmark_parser,
    use_threads,
)
from throughput_bench import ThroughputBench, parsed_level
from throughput_record import (
    COLD,
    KERNELS,
    OURS,
    TORCH,
    WARM,
    Conditions,
    Peak,
    Piece,
    Timing,
    append_piece,
    exponents,
)

from ase_srdft.dft.kernels import library

MOLECULES = ("water", "ethanol", "uracil", "aspirin", "ibuprofen")
LEVELS = ("PBE/6-31g",)
WORK = ("energy", "forces", "training", "sampling")
FAMILIES = ("fock", "potential")
#: What computes, by its name on the command line.
SIDES = {"kernels": KERNELS, "torch": TORCH, "cold": COLD, "warm": WARM}


def print_timings(timings: Sequence[Timing]) -> None:
    """A table for every molecule, level and number of threads: times, and the first side's lead."""
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
                    f"  {work:<28}{row.side:<20}{row.family:<10}{row.cpu_ms:9.1f} ms CPU"
                    f"{row.wall_ms:9.1f} ms wall{cpu:8.1f} times CPU{wall:7.1f} wall"
                    f"  ({row.rounds})"
                )
    fitted = exponents(timings)
    if fitted:
        print("\nexponent of CPU time in the number of orbitals")
        for (level, work, side, family, threads), value in fitted.items():
            print(f"  {level:<18}{work:<28}{side:<20}{family:<10}{threads} thread(s){value:8.2f}")


def measured_peaks(options: argparse.Namespace) -> list[Peak]:
    """Peak memory of an energy with forces, each in a process of its own; printed as they come."""
    print("\npeak memory of energy + forces")
    peaks = []
    for level in options.levels:
        for name in options.molecules:
            for side in (side for side in options.sides if side != "warm"):
                for family in options.families if SIDES[side] in OURS else options.families[:1]:
                    command = [sys.executable, __file__, "--one-peak", "--molecules", name]
                    command += ["--levels", level, "--sides", side, "--family", family]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    peak = Peak(**json.loads(done.stdout))
                    peaks.append(peak)
                    print(
                        f"  {level:<18}{name:<12}{peak.side:<20}{peak.family:<10}"
                        f"{peak.process_MB:8.0f} MB, {peak.above_MB:.0f} of it above the libraries"
                    )
    return peaks


def one_peak(options: argparse.Namespace) -> Peak:
    """What one energy with forces takes in this process."""
    side, family = SIDES[options.sides[0]], options.families[0]
    level = parsed_level(options.levels[0])
    bench = ThroughputBench(options.molecules[0], level, 1, options.conv_tol, [side], [family])
    ((_, function),) = bench.sides("forces")["energy + forces"].items()
    before = memory_MB("VmRSS")
    function()
    return Peak(
        molecule=bench.name,
        natoms=len(bench.atoms),
        nao=bench.molecule.basis.nao,
        level=options.levels[0],
        side=side,
        family=family if side in OURS else "",
        process_MB=memory_MB("VmHWM"),
        above_MB=memory_MB("VmHWM") - before,
    )


def memory_MB(word: str) -> float:
    """Memory of this process, as Linux names it: now (VmRSS), or its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(dict(line.split(":", 1) for line in lines)[word].split()[0]) / 1e6


def machine() -> str:
    """Processor, cores, and what computes."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {library.description()}"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = benchmark_parser(__doc__)
    add_conv_tol(parser)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5, help="timings, whose median counts")
    parser.add_argument(
        "--limit",
        type=float,
        default=float("inf"),
        help="seconds for a piece of work on a molecule: fewer timings of what takes long",
    )
    parser.add_argument("--molecules", nargs="+", default=MOLECULES)
    parser.add_argument("--levels", nargs="+", default=LEVELS, metavar="XC/BASIS")
    parser.add_argument("--work", nargs="+", choices=WORK, default=("energy", "forces"))
    parser.add_argument("--family", dest="families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--sides", nargs="+", choices=tuple(SIDES), default=tuple(SIDES))
    parser.add_argument("--memory", action="store_true", help="peak memory instead of times")
    parser.add_argument("--output", type=Path, help="JSON file that the numbers are added to")
    parser.add_argument("--one-peak", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def command_of(arguments: Sequence[str] | None) -> str:
    """What to type for the same again; where the numbers go is everybody's own."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--output" in words:
        place = words.index("--output")
        del words[place : place + 2]
    threads = os.environ.get("OMP_NUM_THREADS")
    prefix = f"OMP_NUM_THREADS={threads} " if threads else ""
    return f"{prefix}python benchmarks/throughput.py {shlex.join(words)}".strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Time what is asked for and print it."""
    options = parsed(arguments)
    if options.one_peak:
        print(json.dumps(asdict(one_peak(options))))
        return 0
    load = os.getloadavg()[0]
    print(f"{machine()}, load {load:.1f}")
    timings: list[Timing] = []
    peaks = measured_peaks(options) if options.memory else []
    sides = [SIDES[side] for side in options.sides]
    for threads in [] if options.memory else options.threads:
        use_threads(threads)
        for level in map(parsed_level, options.levels):
            for name in options.molecules:
                bench = ThroughputBench(
                    name, level, threads, options.conv_tol, sides, options.families
                )
                timings += bench.run(options.work, options.repeats, options.limit)
                print(f"timed: {name}, {level.xc}/{level.basis}", flush=True)
    print_timings(timings)
    if options.output:
        conditions = Conditions(
            command=command_of(arguments), machine=machine(), load=(load, os.getloadavg()[0])
        )
        append_piece(options.output, Piece(conditions=conditions, timings=timings, peaks=peaks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
