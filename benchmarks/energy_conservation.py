"""Energy conservation of dynamics whose every answer is corrected, at constant energy.

Velocity Verlet from a structure at rest with velocities of twice the temperature, so that it
settles near it.  The drift is the slope of the total energy; the scatter about that line is what
the time step leaves, and what answers that differ within the promise add.

    python benchmarks/energy_conservation.py --molecules CH3CH2OH H2O --picoseconds 4
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet

from ase_srdft import SRDFTCalculator


def run(name: str, options: argparse.Namespace) -> None:
    """One molecule; prints a line."""
    xc, _, basis = options.level.partition("/")
    atoms = molecule(name)
    asked = {"xc": xc, "basis": basis, "max_error": options.max_error}
    atoms.calc = SRDFTCalculator(
        options.model, **asked, max_force_error=options.max_force_error, threads=options.threads
    )
    spread = np.sqrt(2 * units.kB * options.temperature * atoms.get_masses())
    atoms.set_momenta(spread[:, None] * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    Stationary(atoms)
    ZeroRotation(atoms)
    dynamics = VelocityVerlet(atoms, options.timestep * units.fs)
    energies: list[float] = []
    paths: Counter[str] = Counter()
    builds: list[int] = []

    def note() -> None:
        energies.append(atoms.get_total_energy())
        certificate = atoms.calc.certificate
        paths[certificate.path] += 1
        builds.append(certificate.builds)

    dynamics.attach(note)
    begin = time.perf_counter()
    steps = round(1e3 * options.picoseconds / options.timestep)
    dynamics.run(steps)
    seconds = time.perf_counter() - begin
    picoseconds = 1e-3 * options.timestep * np.arange(len(energies))
    slope, offset = np.polyfit(picoseconds, energies, 1)
    scatter = np.std(np.array(energies) - slope * picoseconds - offset)
    print(
        f"{name} {options.level}: {steps} steps of {options.timestep} fs, drift "
        f"{1e3 * slope / len(atoms):.4f} meV/atom/ps, scatter {1e3 * scatter / len(atoms):.4f} "
        f"meV/atom, {np.mean(builds):.2f} Fock matrices a step, {dict(paths)}, "
        f"{steps / seconds:.1f} steps/s",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run each molecule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--molecules", nargs="+", default=["CH3CH2OH", "H2O"], help="of ASE's g2")
    parser.add_argument("--model", help="a .srdft file or a shipped model's name")
    parser.add_argument("--level", default="PBE/6-31g")
    parser.add_argument("--picoseconds", type=float, default=4.0)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--temperature", type=float, default=500.0, help="K")
    parser.add_argument("--max-error", type=float, default=1e-3, help="eV")
    parser.add_argument("--max-force-error", type=float, default=5e-3, help="eV/Angstrom")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    for name in options.molecules:
        run(name, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
