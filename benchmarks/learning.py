"""What a calculator gains that learns as ASE's Langevin dynamics runs, from nothing.

Lines of so many steps each: the bracket of the model by itself, the Fock matrices that answers
take, and what the processor is busy with.  The energy at the end tells whether the dynamics was
the same with and without.

    python benchmarks/learning.py --learn off beside in_turn
"""

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin

from ase_srdft import SRDFTCalculator

#: Of ``--learn``, and what the calculator is told.
WAYS: dict[str, bool | str] = {"off": False, "beside": "beside", "in_turn": "in_turn"}


def run(way: str, options: argparse.Namespace) -> None:
    """Dynamics with one way to learn; prints a line for each interval."""
    xc, _, basis = options.level.partition("/")
    atoms = molecule(options.molecule)
    atoms.calc = SRDFTCalculator(options.model, xc=xc, basis=basis, learn=WAYS[way])
    rng = np.random.default_rng(0)
    spread = np.sqrt(units.kB * options.temperature * atoms.get_masses())
    atoms.set_momenta(spread[:, None] * rng.standard_normal((len(atoms), 3)))
    dynamics = Langevin(
        atoms,
        options.timestep * units.fs,
        temperature_K=options.temperature,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=rng,
    )
    found: list[tuple[float, int, int]] = []

    def note() -> None:
        certificate = atoms.calc.certificate
        found.append((certificate.start_error, certificate.builds, certificate.coarse_builds))

    dynamics.attach(note)
    for first in range(0, options.steps, options.interval):
        found.clear()
        started, busy = time.perf_counter(), time.process_time()
        dynamics.run(options.interval)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        error, builds, coarse = np.mean(found, axis=0)
        print(
            f"{way} to step {first + options.interval}: bracket of the model {1e3 * error:.1f} "
            f"meV, {builds:.2f} Fock matrices and {coarse:.2f} coarse ones, version "
            f"{atoms.calc.model_version}, {options.interval / seconds:.2f} steps/s, "
            f"{busy / options.interval:.3f} s of the processor a step, load "
            f"{os.getloadavg()[0]:.1f}",
            flush=True,
        )
    print(f"{way}: {atoms.get_potential_energy():.5f} eV at the end", flush=True)
    atoms.calc.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--learn", nargs="+", default=["off", "beside"], choices=list(WAYS))
    parser.add_argument("--molecule", default="CH3CH2OH", help="of ASE's g2")
    parser.add_argument("--model", help="a .srdft file or a shipped model's name")
    parser.add_argument("--level", default="PBE/6-31g")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--interval", type=int, default=50)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--temperature", type=float, default=500.0, help="K")
    options = parser.parse_args(arguments)
    for way in options.learn:
        run(way, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
