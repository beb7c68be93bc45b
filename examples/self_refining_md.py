"""Molecular dynamics that improves its own calculator.

    python examples/self_refining_md.py
    python examples/self_refining_md.py g2:NH3

It starts from an untrained calculator for water, or for a molecule of your own.  A short training
on rattled copies of the structure makes dynamics safe; from then on the dynamics finds geometries,
a process beside it trains the model on them, and the dynamics goes on with the better model.
Energies and forces are the SCF's to 1 meV from the first step on, since the calculator corrects
the model's states; the bracket of these, before they are corrected, gets narrower along the run.
"""

import argparse

import numpy as np
import torch
from ase import units

from ase_srdft import SelfRefiningLangevin, SRDFTCalculator
from ase_srdft.common.structures import read_frames


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Dynamics that improves its own calculator.")
    parser.add_argument("structure", nargs="?", default="g2:H2O")
    parser.add_argument("--basis", default="6-31g")
    parser.add_argument("--steps", type=int, default=300, help="steps of dynamics")
    parser.add_argument("--temperature", type=float, default=500.0, help="in K")
    parser.add_argument("--trainer-runs", default="beside", choices=["beside", "in_turn"])
    parser.add_argument("--trajectory", default="self_refining_md.traj")
    options = parser.parse_args(arguments)

    calculator = SRDFTCalculator("untrained", xc="PBE", basis=options.basis)
    atoms = read_frames(options.structure)[0]
    atoms.calc = calculator

    def bracket_width() -> float:
        """Of the model by itself, in meV, at the geometry of now."""
        return 1000 * calculator.certificate.start_error

    atoms.get_potential_energy()
    print(f"bracket width of the untrained model: {bracket_width():.0f} meV")

    dynamics = SelfRefiningLangevin(
        atoms,
        timestep=1.0 * units.fs,
        temperature_K=options.temperature,
        trainer_runs=options.trainer_runs,
        train_interval=5,  # steps of dynamics between geometries for the trainer
        rng=0,
        trajectory=options.trajectory,
    )
    frames, widths = [], []

    def record() -> None:
        frames.append(atoms.get_positions())
        widths.append(bracket_width())

    def show() -> None:
        energy = atoms.get_potential_energy()
        ntrained = dynamics.background_trainer.nsteps
        print(f"{dynamics.nsteps:6d}   {ntrained:14d}   {energy:11.4f}   {bracket_width():19.3f}")

    print("  step   training steps   energy / eV   bracket width / meV")
    dynamics.attach(record, interval=max(1, options.steps // 50))
    dynamics.attach(show, interval=max(1, options.steps // 10))
    with dynamics:  # the trainer, a process of its own, ends here
        dynamics.run(options.steps)

    # The width depends on the geometry, so compare at the same ones: those the run began with.
    nfirst = len(frames) // 4
    later = []
    for positions in frames[:nfirst]:
        atoms.positions = positions
        atoms.get_potential_energy()
        later.append(bracket_width())
    then, now = np.mean(widths[:nfirst]), np.mean(later)
    print(f"mean width at the first geometries: {then:.3f} meV when the run met them,")
    print(f"{now:.3f} meV with the model at its end")
    assert 0 < now < 0.5 * then, "the model has not improved"


if __name__ == "__main__":
    torch.set_num_threads(1)  # the molecule is small: threads would get in each other's way
    main()
