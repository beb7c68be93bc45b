"""Dynamics with a calculator that learns from the geometries it is asked for.

    python examples/learn_as_you_go.py g2:CH3CH2OH --steps 500

Langevin dynamics of ASE's, and nothing trained for the molecule: the general model begins, every
step is corrected to 1 meV, and a process beside it trains on the geometries whose bracket is wide.
The picture shows how far the model by itself is off, step by step.  ``learned.srdft`` is the model
at the end: ``SRDFTCalculator("learned.srdft")``.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import units
from ase.md.langevin import Langevin

from ase_srdft import CertificateLogger, SRDFTCalculator
from ase_srdft.common.structures import read_frames


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Dynamics with a calculator that learns.")
    parser.add_argument("structure", nargs="?", default="g2:CH3CH2OH")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="6-31g*")
    parser.add_argument("--learn", default="beside", choices=["beside", "in_turn"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--temperature", type=float, default=500.0, help="in K")
    parser.add_argument("--trajectory", default="learn_as_you_go.traj")
    parser.add_argument("--picture", default="learn_as_you_go.png")
    options = parser.parse_args(arguments)

    atoms = read_frames(options.structure)[0]
    calculator = SRDFTCalculator(xc=options.xc, basis=options.basis, learn=options.learn)
    atoms.calc = calculator
    random = np.random.default_rng(0)
    spread = np.sqrt(atoms.get_masses() * units.kB * options.temperature)[:, None]
    atoms.set_momenta(spread * random.standard_normal((len(atoms), 3)))
    dynamics = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=options.temperature,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=random,
        trajectory=options.trajectory,
    )
    dynamics.attach(CertificateLogger(dynamics, atoms, "-"), interval=max(1, options.steps // 20))
    alone, kept = [], []

    def note() -> None:
        certificate = calculator.certificate
        alone.append(certificate.start_error)
        kept.append(certificate.error)

    dynamics.attach(note)
    dynamics.run(options.steps)
    calculator.save("learned.srdft")
    calculator.close()

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.semilogy(1e3 * np.array(alone), ".", ms=3, label="of the model by itself")
    axes.semilogy(1e3 * np.maximum(kept, 1e-9), ".", ms=3, label="of the answer")
    axes.axhline(1.0, color="grey", lw=0.8)
    axes.set(xlabel="step", ylabel="bracket around the SCF energy / meV")
    axes.legend()
    figure.savefig(options.picture, dpi=150)
    assert max(kept) < 1e-3, "the promise is not kept"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
