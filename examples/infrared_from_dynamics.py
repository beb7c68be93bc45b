"""The infrared spectrum of a molecule from dynamics: what its dipole moment does in time.

    python examples/infrared_from_dynamics.py g2:H2O --steps 2000

Velocity Verlet after thermal velocities; the spectrum is the power spectrum of the rate of change
of the dipole moment, smoothed.  Unlike harmonic lines it has the anharmonic shifts, and rotation
broadens its bands.  Energy is conserved as well as the promise of the forces allows: the script
says how well.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import units
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from ase_srdft import SRDFTCalculator
from ase_srdft.common.structures import read_frames

#: Speed of light in cm/fs.
_LIGHT = 2.99792458e-5


def power_spectrum(dipoles: np.ndarray, timestep: float) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers (1/cm), and the spectrum (arbitrary units) of moments (steps, 3) in e Å.

    Args:
        dipoles: at equal intervals.
        timestep: between them (fs).
    """
    rates = np.gradient(dipoles, timestep, axis=0)
    rates -= rates.mean(axis=0)
    window = np.hanning(len(rates))[:, None]
    spectrum = (np.abs(np.fft.rfft(window * rates, n=4 * len(rates), axis=0)) ** 2).sum(axis=1)
    wavenumbers = np.fft.rfftfreq(4 * len(rates), timestep) / _LIGHT
    return wavenumbers, spectrum / spectrum.max()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Infrared spectrum from dynamics.")
    parser.add_argument("structure", nargs="?", default="g2:H2O")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--timestep", type=float, default=0.5, help="in fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="in K")
    parser.add_argument("--picture", default="infrared_from_dynamics.png")
    options = parser.parse_args(arguments)

    atoms = read_frames(options.structure)[0]
    atoms.calc = SRDFTCalculator(xc=options.xc, basis=options.basis)
    random = np.random.default_rng(0)
    # twice the kinetic energy: half of it becomes potential energy
    spread = np.sqrt(2 * units.kB * options.temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * random.standard_normal((len(atoms), 3)))
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, options.timestep * units.fs)
    dipoles, energies = [], []

    def note() -> None:
        dipoles.append(atoms.get_dipole_moment())
        energies.append(atoms.get_total_energy())

    dynamics.attach(note)
    dynamics.run(options.steps)
    wandered = 1e3 * (max(energies) - min(energies)) / len(atoms)
    print(f"the total energy stays within {wandered:.3f} meV an atom")

    wavenumbers, spectrum = power_spectrum(np.array(dipoles), options.timestep)
    shown = (wavenumbers > 700) & (wavenumbers < 4200)  # rotation is below
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(wavenumbers[shown], spectrum[shown] / spectrum[shown].max())
    title = (
        f"{atoms.get_chemical_formula()}, {options.xc}/{options.basis}, {options.temperature:g} K"
    )
    axes.set(xlabel="wave number / (1/cm)", ylabel="intensity / arbitrary units", title=title)
    axes.invert_xaxis()
    figure.savefig(options.picture, dpi=150)
    assert wandered < 5.0, "energy is not conserved: use a shorter --timestep"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
