"""Molecular dynamics of water with a trained calculator.

    ase-srdft-train water.xyz -o run
    python examples/water_md.py run/model.srdft

Any dynamics of ASE will do: here velocity Verlet, which conserves the total energy as well as
the forces are the derivative of the energy, or Langevin dynamics with ``--thermostat``.  The last
columns of the table are what only this calculator has: the width of the bracket around the energy
that a converged SCF would give at this very geometry, and that of the model's state before it was
corrected.  Without a model file it is the general model that is corrected.
"""

import argparse
from math import isfinite

import numpy as np
import torch
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from ase_srdft import SRDFTCalculator


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Molecular dynamics of water.")
    parser.add_argument("model", nargs="?", help="model.srdft of a training run")
    parser.add_argument("--basis", help="without a model file (def2-SVP)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--timestep", type=float, default=0.5, help="in fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="in K")
    parser.add_argument("--thermostat", action="store_true", help="Langevin, friction 0.02/fs")
    parser.add_argument("--trajectory", default="water_md.traj")
    options = parser.parse_args(arguments)

    atoms = molecule("H2O")
    atoms.calc = SRDFTCalculator(options.model, basis=options.basis)
    rng = np.random.default_rng(4)
    thermal = np.sqrt(atoms.get_masses() * units.kB * options.temperature)[:, None]
    atoms.set_momenta(thermal * rng.standard_normal((len(atoms), 3)))

    settings = {"timestep": options.timestep * units.fs, "trajectory": options.trajectory}
    scheme: type[MolecularDynamics] = VelocityVerlet
    if options.thermostat:
        scheme = Langevin
        settings |= {"temperature_K": options.temperature, "friction": 0.02 / units.fs}
        # fixcm=False: with ASE's default, a molecule as small as this gets far too hot.
        settings |= {"fixcm": False, "rng": rng}
    dynamics = scheme(atoms, **settings)

    energies, total_energies, widths, widths_of_model = [], [], [], []

    def record() -> None:
        energies.append(atoms.get_potential_energy())
        total_energies.append(atoms.get_total_energy())
        certificate = atoms.calc.certificate
        widths.append(1000 * certificate.error)
        widths_of_model.append(1000 * certificate.start_error)

    def show() -> None:
        columns = f"{energies[-1]:11.4f}   {total_energies[-1]:17.4f}"
        columns += f"   {atoms.get_temperature():15.0f}   {widths[-1]:19.1e}"
        columns += f"   {widths_of_model[-1]:17.1e}"
        print(f"{dynamics.nsteps:6d}   {columns}")

    titles = ("  step", "energy / eV", "total energy / eV", "temperature / K")
    print("   ".join([*titles, "bracket width / meV", "model alone / meV"]))
    dynamics.attach(record)
    dynamics.attach(show, interval=max(1, options.steps // 10))
    dynamics.run(options.steps)

    print(f"mean bracket width: {np.mean(widths):.1e} meV, of the model alone")
    print(f"{np.mean(widths_of_model):.1e} meV; frames in {options.trajectory}")
    assert len(widths) > options.steps
    assert all(width <= 1.0 for width in widths), "the promise is not kept"
    assert all(isfinite(width) and width > 0 for width in widths_of_model)
    if not options.thermostat:
        exchanged, lost = 1000 * np.ptp(energies), 1000 * np.ptp(total_energies)
        print(f"the potential energy moved by {exchanged:.1f} meV, the total energy by {lost:.1f}")
        assert lost < 0.05 * exchanged, "the total energy is not conserved: shorten the timestep"


if __name__ == "__main__":
    torch.set_num_threads(1)  # the molecule is small: threads would get in each other's way
    main()
