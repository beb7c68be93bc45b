"""A model's error along the simulation that it drives itself.

Overdamped Langevin dynamics (Leimkuhler-Matthews, mobility of the model Hessian) on the model's
energy; every few steps the SCF at the model's own level is converged where the walker is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from ase_srdft import OverdampedLangevin, SRDFTCalculator
from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.units import EV_PER_HARTREE, MICROHARTREE
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.single_point import molecule_of

#: In units of the relaxation time that the model Hessian gives to every mode, as in training.
STEP_SIZE = 0.3


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The errors along one walk.

    Attributes:
        points: step, E - E_SCF and the bracket's width (microhartree), where the SCF converged.
        failure: why it stopped before its end; None if it did not.
    """

    points: list[tuple[int, float, float]]
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
        positions = nuclei_of(atoms).positions
        exact = reference_scf(molecule, positions, density_matrix=density).energy
        yield step, MICROHARTREE * (energy - exact), MICROHARTREE * (energy - lower)


def simulate(
    model: Path | ElectronicStateModel,
    start: Atoms,
    temperature_K: float,
    nsteps: int,
    every: int,
    seed: int,
) -> Simulation:
    """Drive a walker by a model from a start geometry."""
    atoms = start.copy()
    atoms.calc = SRDFTCalculator(
        model, grid_level=None, max_error=None
    )  # its own errors are measured
    points: list[tuple[int, float, float]] = []
    try:
        for point in measured_errors(atoms, temperature_K, nsteps, every, seed):
            points.append(point)  # those before a failure count
    except (CalculationFailed, ReferenceNotConverged) as err:
        return Simulation(points=points, failure=str(err))
    return Simulation(points=points)
