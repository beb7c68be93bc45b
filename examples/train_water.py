"""Train a calculator for water from one structure and no data.

    python examples/train_water.py -o water-run

The same as ``ase-srdft-train water.xyz --basis 6-31g -o water-run``, in Python.  A network
predicts the electronic state, its Kohn-Sham energy is the loss, and the geometries to train on
come from Langevin dynamics on the model's own energy.  The run leaves ``model.srdft``,
``samples.traj``, ``metrics.jsonl`` and ``report.html`` in its directory; calling it again goes on
where it stopped.
At the end one converged SCF calculation checks what the model has certified by itself.
"""

import argparse
from pathlib import Path

import torch
from ase import units
from ase.build import molecule

from ase_srdft import LevelOfTheory, SRDFTCalculator
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.runs.checkpoint import Checkpoints
from ase_srdft.runs.run_directory import RunDirectory
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.trainer import Trainer


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a calculator for water.")
    parser.add_argument("-o", "--output", type=Path, default=Path("water-run"))
    parser.add_argument("--basis", default="6-31g")
    parser.add_argument("--steps", type=int, default=500, help="training steps")
    parser.add_argument("--temperature", type=float, default=500.0, help="of the geometries in K")
    parser.add_argument("--target", type=float, default=100.0, help="certified error in µEh")
    options = parser.parse_args(arguments)

    # 1. What to learn: a structure, a level of theory, the temperature of the geometries.
    water = molecule("H2O")
    level = LevelOfTheory(xc="PBE", basis=options.basis)
    sampling = SamplingConfig(temperature_K=options.temperature)
    config = TrainingConfig(level=level, steps=options.steps, sampling=sampling)

    # 2. Learn it.  The trainer says what happens, and the directory writes it down.
    #    Samplers in other processes get the weights that a checkpoint holds.
    checkpoints = Checkpoints(options.output)
    trainer = Trainer(config, Dataset.of([water]), may_publish=checkpoints.save_if_due)
    directory = RunDirectory(options.output, trainer, checkpoints)
    print("steps   geometries   certified error / µEh")
    for event in trainer.run():
        directory.record(event)
        if event.validation is not None:
            width = 1e6 * event.validation.bracket_width
            print(f"{event.step:5d}   {event.nsamples:10d}   {width:21.2f}")
    directory.finish("steps done")

    # 3. Ask it.  The bracket holds the energy that an SCF would converge to.  By default a
    #    calculator corrects what the model predicts to 1 meV, on a finer grid; here it is the
    #    model that counts, on the grid that the SCF below has, too.
    path = options.output / "model.srdft"
    water.calc = SRDFTCalculator(path, grid_level=level.grid_level, max_error=None)
    energy = water.get_potential_energy()
    lower, upper = water.calc.energy_bracket
    print(f"energy of the structure given: {energy:.5f} eV")
    print(f"certified error there:         {1000 * (upper - lower):.4f} meV")

    # 4. Do not take its word for it: converge the SCF once.
    numbers = tuple(int(number) for number in water.numbers)
    reference = reference_scf(Molecule(numbers=numbers, level=level), water.positions / units.Bohr)
    error = energy - reference.energy * units.Hartree
    print(f"true error there:              {1000 * error:.4f} meV")

    certified = 1e6 * trainer.counters.best_width
    assert certified < options.target, f"certified only {certified:.1f} µEh: train longer"
    assert 0 < error < upper - lower, "the SCF energy lies outside the bracket"


if __name__ == "__main__":
    torch.set_num_threads(1)  # the molecule is small: threads would get in each other's way
    main()
