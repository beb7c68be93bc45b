"""A model's error along the simulation that it drives itself.

Overdamped Langevin dynamics (Leimkuhler-Matthews, mobility of the model Hessian) on the model's
energy from one frame; every few steps the SCF at the model's own level is converged there.  What
is written: the steps, E - E_SCF and the bracket width at each (microhartree), and why the walker
stopped if it did before the end.

    python benchmarks/simulate.py run/model.srdft frames.npz --frame -1 --json walker.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from campaign import write_json

from ase_srdft import OverdampedLangevin, SRDFTCalculator
from ase_srdft.cli.common import Parser, positive, run_command
from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.common.structures import read_frames
from ase_srdft.common.units import ANGSTROM_PER_BOHR, EV_PER_HARTREE, MICROHARTREE
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.single_point import molecule_of

#: In units of the relaxation time that the model Hessian gives to every mode, as in training.
STEP_SIZE = 0.3


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What one walker met.

    Attributes:
        steps: at which the SCF was converged.
        errors_uEh: E - E_SCF there (microhartree).
        widths_uEh: of the bracket there (microhartree).
        failure: why it stopped before its end; None if it did not.
    """

    steps: list[int]
    errors_uEh: list[float]
    widths_uEh: list[float]
    failure: str | None = None


def measured_errors(
    atoms: Atoms, temperature_K: float, nsteps: int, every: int, seed: int
) -> Iterator[tuple[int, float, float]]:
    """Step, E - E_SCF and bracket width (microhartree) along a walk of atoms with a calculator.

    Raises:
        CalculationFailed: the walk left what can be computed.
        ReferenceNotConverged: there is no SCF to compare with.
    """
    calculator = atoms.calc
    molecule = molecule_of(calculator.model_for(atoms), tuple(atoms.numbers.tolist()))
    dynamics = OverdampedLangevin(
        atoms, STEP_SIZE, temperature_K, rng=seed, mobility="model-hessian"
    )
    for step, _ in enumerate(dynamics.irun(nsteps)):
        if step % every:
            continue
        energy = atoms.get_potential_energy() / EV_PER_HARTREE
        lower = calculator.energy_bracket[0] / EV_PER_HARTREE
        density = calculator.electronic_state.density_matrix
        bohr = atoms.positions / ANGSTROM_PER_BOHR
        exact = reference_scf(molecule, bohr, density_matrix=density).energy
        yield step, MICROHARTREE * (energy - exact), MICROHARTREE * (energy - lower)


def simulate(
    model: Path, start: Atoms, temperature_K: float, nsteps: int, every: int, seed: int
) -> Simulation:
    """Drive a walker by a model file from a start geometry."""
    atoms = start.copy()
    atoms.calc = SRDFTCalculator(model)
    points: list[tuple[int, float, float]] = []
    failure = None
    try:
        for point in measured_errors(atoms, temperature_K, nsteps, every, seed):
            points.append(point)  # those before a failure count
    except (CalculationFailed, ReferenceNotConverged) as err:
        failure = str(err)
    return Simulation(
        steps=[point[0] for point in points],
        errors_uEh=[point[1] for point in points],
        widths_uEh=[point[2] for point in points],
        failure=failure,
    )


def _simulate(options: argparse.Namespace) -> int:
    start = read_frames(options.frames)[options.frame]
    result = simulate(
        options.model, start, options.temperature, options.steps, options.every, options.seed
    )
    write_json(options.json, asdict(result))
    return 0


def main() -> int:
    """Run the command; returns the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--frame", type=int, default=-1, help="to start from; -1 is the last")
    parser.add_argument("--temperature", type=float, default=500.0, help="in K")
    parser.add_argument("--steps", type=positive, default=30)
    parser.add_argument("--every", type=positive, default=3, help="steps between two SCFs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    return run_command(parser, _simulate)


if __name__ == "__main__":
    sys.exit(main())
