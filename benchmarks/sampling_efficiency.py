"""Which dynamics gives the most independent geometries per force call.

Walkers of one molecule move on one energy surface by each scheme in turn: overdamped dynamics
with the mobility of the model Hessian and with the same mobility for every coordinate,
Metropolis-adjusted, and Langevin dynamics with inertia (BAOAB).  For every distance between two
atoms and every torsion angle about a bond the table gives how many force calls of a walker lie
between two independent values: its statistical inefficiency

    g = 1 + 2 sum_t rho(t)

with rho the autocorrelation, estimated from the scatter of means over blocks that are ten times
as long.  A quantity is as slow as the slower of its value and its squared deviation: with inertia
a stiff bond swings through its mean again and again, which makes for a good mean but not for new
geometries.  (A torsion angle phi enters as exp(i phi).)  The energy above the lowest seen shows
that the schemes sample the same distribution, or how far a step is too long.

    python benchmarks/sampling_efficiency.py                                # STO-3G, some minutes
    python benchmarks/sampling_efficiency.py --molecule CH3OH --force-calls 2000
    python benchmarks/sampling_efficiency.py --model run/model.srdft --step-sizes 0.15 0.3 0.6

Without a model the surface is the energy of the guess that an untrained model starts from, in
STO-3G.  All of it is on the coarse grid that training samples on.  ``>`` before a figure: the
run was too short to see the end of the correlation, so that the truth is worse.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from _common import benchmark_parser, numbers_of, use_threads
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.data import atomic_masses

from ase_srdft.common.connectivity import bond_matrix, same_connectivity
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.units import (
    ANGSTROM_PER_BOHR,
    ELECTRON_MASSES_PER_DALTON,
    EV_PER_HARTREE,
    FS_PER_ATOMIC_TIME,
    HARTREE_PER_KELVIN,
)
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.shipped_models import model_path
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.models.single_point_result import concatenate_single_points
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.integrators import (
    BAOAB,
    EnergyAndForces,
    LeimkuhlerMatthews,
    MetropolisLangevin,
    Mobility,
    WalkerState,
)
from ase_srdft.sampling.lindh_mobility import mobility_square_root, model_hessian
from ase_srdft.sampling.thermal_copies import thermal_copies

DEFAULTS = SamplingConfig()
#: Blocks, of all walkers together, that a scatter of block means is taken from.
FEWEST_BLOCKS = 24
#: Lengths of a block in units of the inefficiency, from where its means count as independent.
LONG_BLOCK = 10

_State = TypeVar("_State", bound=WalkerState)


class Integrator(Protocol[_State]):
    """What the schemes of `ase_srdft.sampling.integrators` have in common."""

    def init(
        self, positions: np.ndarray, energy_and_forces: EnergyAndForces, rng: np.random.Generator
    ) -> _State:
        """Walkers at ``positions``, by one force call."""
        ...

    def step(
        self, state: _State, energy_and_forces: EnergyAndForces, rng: np.random.Generator
    ) -> _State:
        """One step, by one force call."""
        ...


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One row of the table.

    Attributes:
        name: of the row.
        walk: from positions (nwalkers, natoms, 3) in Bohr, by force calls and random numbers, the
            walkers after each step; see `walk`.
    """

    name: str
    walk: Callable[[np.ndarray, EnergyAndForces, np.random.Generator], Iterator[WalkerState]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the walkers did.

    Attributes:
        positions: (nsteps, nwalkers, natoms, 3), Bohr.
        energy: (nsteps, nwalkers), Hartree.
        acceptance: share of proposals taken; 1 where there are none.
        seconds: wall time.
    """

    positions: np.ndarray
    energy: np.ndarray
    acceptance: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A statistical inefficiency in force calls, and whether the run was long enough for it."""

    calls: float
    seen: bool

    def __str__(self) -> str:
        return f"{'' if self.seen else '>'}{self.calls:.0f}"

    @property
    def per_thousand(self) -> str:
        """Independent values per 1000 force calls."""
        return f"{'' if self.seen else '<'}{1000 / self.calls:.1f}"


def surface(model: ElectronicStateModel, molecule: Molecule, workers: ThreadMap) -> EnergyAndForces:
    """The model's energy and forces (Hartree, Bohr) on the coarse grid."""

    def energy_and_forces(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tensor = torch.as_tensor(positions)
        result = concatenate_single_points(
            workers.map(
                lambda piece: single_point(model, molecule, tensor[piece], grid_level=COARSE_GRID),
                workers.slices(len(tensor)),
            )
        )
        assert result.forces is not None
        return result.energy.numpy(), result.forces.numpy()

    return energy_and_forces


def schemes(
    options: argparse.Namespace, numbers: np.ndarray, reference: np.ndarray
) -> list[Scheme]:
    """The rows of the table, in the units of the core (Hartree, Bohr)."""
    thermal_energy = HARTREE_PER_KELVIN * options.temperature
    stiffest = np.linalg.eigvalsh(model_hessian(numbers, reference))[-1]

    def mobility(positions: np.ndarray) -> Mobility:
        roots = [mobility_square_root(numbers, walker) for walker in positions]
        return Mobility(square_root=np.array(roots))

    def overdamped(step_size: float, positions: np.ndarray) -> LeimkuhlerMatthews:
        return LeimkuhlerMatthews(
            step_size=step_size, thermal_energy=thermal_energy, mobility=mobility(positions)
        )

    def metropolis(step_size: float, positions: np.ndarray) -> MetropolisLangevin:
        return MetropolisLangevin(
            step_size=step_size, thermal_energy=thermal_energy, mobility=mobility(positions)
        )

    def identity(step_size: float, positions: np.ndarray) -> LeimkuhlerMatthews:
        # the same dimensionless step for the stiffest mode, which is what limits it
        return LeimkuhlerMatthews(step_size=step_size / stiffest, thermal_energy=thermal_energy)

    def inertial(friction_per_fs: float, positions: np.ndarray) -> BAOAB:
        return BAOAB(
            timestep=options.timestep / FS_PER_ATOMIC_TIME,
            thermal_energy=thermal_energy,
            friction=friction_per_fs * FS_PER_ATOMIC_TIME,
            masses=atomic_masses[numbers] * ELECTRON_MASSES_PER_DALTON,
        )

    rows = []
    for step in options.step_sizes:
        for name, walkers in (
            ("overdamped", partial(walk, partial(overdamped, step), options.interval)),
            ("metropolis", partial(walk, partial(metropolis, step), options.interval)),
            ("identity", partial(walk, partial(identity, step), None)),
        ):
            rows.append(Scheme(name=f"{name} {step:g}", walk=walkers))
    for friction in options.frictions:
        name = f"langevin {options.timestep:g} fs, {friction:g}/fs"
        rows.append(Scheme(name=name, walk=partial(walk, partial(inertial, friction), None)))
    return rows


def walk(
    integrator_at: Callable[[np.ndarray], Integrator[_State]],
    interval: int | None,
    start: np.ndarray,
    calls: EnergyAndForces,
    rng: np.random.Generator,
) -> Iterator[_State]:
    """Walkers after each step, one force call of each a step and one at the start, without end.

    Args:
        integrator_at: for walkers at positions (nwalkers, natoms, 3) in Bohr.
        interval: steps after which it is made anew, where the walkers are; None for never.
        start: positions (nwalkers, natoms, 3) in Bohr.
        calls: energy and forces (Hartree, Bohr).
        rng: of the dynamics.
    """
    integrator = integrator_at(start)
    state = integrator.init(start, calls, rng)
    for step in count():
        if interval is not None and step % interval == 0:
            integrator = integrator_at(state.positions)
        state = integrator.step(state, calls, rng)
        yield state


def simulate(
    scheme: Scheme, start: np.ndarray, calls: EnergyAndForces, nsteps: int, seed: int
) -> Run:
    """Walkers from ``start`` (nwalkers, natoms, 3), one force call of each per step."""
    rng = np.random.default_rng(seed)
    began = time.perf_counter()
    positions, energy = np.empty((nsteps, *start.shape)), np.empty((nsteps, len(start)))
    naccepted = 0.0
    for step, state in zip(range(nsteps), scheme.walk(start, calls, rng), strict=False):
        if not np.isfinite(state.forces).all():
            raise RuntimeError(
                f"{scheme.name}: a walker is lost at step {step}; use a smaller step"
            )
        positions[step], energy[step] = state.positions, state.energy
        naccepted += float(np.mean(getattr(state, "accepted", 1.0)))
    seconds = time.perf_counter() - began
    return Run(positions=positions, energy=energy, acceptance=naccepted / nsteps, seconds=seconds)


def check_bonds(scheme: Scheme, run: Run, atoms: Atoms) -> None:
    """Refuse walkers that have fallen apart: their memory is of no interest."""
    frames = run.positions.reshape(-1, len(atoms), 3) * ANGSTROM_PER_BOHR
    broken = 1.0 - same_connectivity(atoms.numbers, atoms.positions, frames).mean()
    if broken > 0.02:
        raise RuntimeError(f"{scheme.name}: {100 * broken:.0f} % of the frames have other bonds")


def inefficiency(series: np.ndarray) -> Memory:
    """g of a series (nsteps, nwalkers), real or complex, by block means.

    The variance of the means of independent blocks of length B is g var / B.  The largest g of
    all lengths counts, so that a swing through the mean does not pass for forgetting.
    """
    nsteps, nwalkers = series.shape
    deviation = series - series.mean()
    variance = np.mean(np.abs(deviation) ** 2)
    length, memory = 1, Memory(calls=1.0, seen=False)
    while nwalkers * (nsteps // length) >= FEWEST_BLOCKS and variance > 0:
        nblocks = nsteps // length
        blocks = deviation[: nblocks * length].reshape(nblocks, length, nwalkers).mean(axis=1)
        calls = length * float(np.mean(np.abs(blocks) ** 2)) / variance
        # the mean of all was taken from the same blocks
        calls /= 1.0 - 1.0 / blocks.size
        calls = max(calls, memory.calls)
        memory = Memory(calls=calls, seen=length >= LONG_BLOCK * calls)
        if memory.seen:
            break
        length *= 2
    return memory


def slower(series: np.ndarray) -> Memory:
    """Of a quantity and of its squared deviation, the one with the longer memory."""
    squared = np.abs(series - series.mean()) ** 2
    return slowest([inefficiency(series), inefficiency(squared)])


def slowest(memories: list[Memory]) -> Memory:
    """The longest memory of all."""
    return max(memories, key=lambda memory: memory.calls)


def distances(positions: np.ndarray) -> list[np.ndarray]:
    """Every distance between two atoms, (nsteps, nwalkers) each."""
    natoms = positions.shape[2]
    pairs = zip(*np.triu_indices(natoms, 1), strict=True)
    return [np.linalg.norm(positions[:, :, i] - positions[:, :, j], axis=-1) for i, j in pairs]


def torsions(positions: np.ndarray, bonded: np.ndarray) -> list[np.ndarray]:
    """exp(i phi) of every chain of bonds i-j-k-l, (nsteps, nwalkers) each."""
    found = []
    for j, k in zip(*np.nonzero(np.triu(bonded)), strict=True):
        for i in np.flatnonzero(bonded[j]):
            for l in np.flatnonzero(bonded[k]):  # noqa: E741
                if len({i, j, k, l}) == 4:
                    found.append(_phase(*(positions[:, :, atom] for atom in (i, j, k, l))))
    return found


def _phase(i: np.ndarray, j: np.ndarray, k: np.ndarray, l: np.ndarray) -> np.ndarray:  # noqa: E741
    axis = k - j
    first, last = np.cross(i - j, axis), np.cross(l - k, axis)
    real = (first * last).sum(-1)
    imaginary = (np.cross(first, last) * axis).sum(-1) / np.linalg.norm(axis, axis=-1)
    phase: np.ndarray = (real + 1j * imaginary) / np.hypot(real, imaginary)
    return phase


def row(scheme: Scheme, run: Run, bonded: np.ndarray, lowest: float) -> str:
    """A line of the table."""
    by_distance = sorted((slower(d) for d in distances(run.positions)), key=lambda m: m.calls)
    by_torsion = [slower(phase) for phase in torsions(run.positions, bonded)]
    median, longest = by_distance[len(by_distance) // 2], by_distance[-1]
    energy_memory = inefficiency(run.energy)
    heights = EV_PER_HARTREE * 1000 * (run.energy - lowest)
    error = heights.std() * np.sqrt(energy_memory.calls / heights.size)
    torsion = slowest(by_torsion) if by_torsion else None
    columns = [
        *(str(memory) if memory else "-" for memory in (median, longest, torsion)),
        *(memory.per_thousand if memory else "-" for memory in (median, longest, torsion)),
        f"{heights.mean():.0f}+-{error:.0f}",
        f"{100 * run.acceptance:.0f} %",
        f"{run.seconds:.0f} s",
    ]
    return f"{scheme.name:<24}" + "".join(f"{column:>10}" for column in columns)


HEADER = "\n".join(
    f"{title:<24}" + "".join(f"{column:>10}" for column in columns)
    for title, columns in (
        ("", ("force", "calls", "between", "new per", "1000", "calls", "energy", "", "")),
        ("", ("distance", "distance", "torsion", "distance", "distance", "torsion", "", "", "")),
        (
            "scheme",
            (
                "median",
                "slowest",
                "slowest",
                "median",
                "slowest",
                "slowest",
                "meV",
                "accepted",
                "time",
            ),
        ),
    )
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what it leaves out is as training samples by default."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--molecule", default="CH3CH2OH", help="name in ASE's collection")
    parser.add_argument("--model", help="model file, or the name of a shipped model")
    parser.add_argument("--force-calls", type=int, default=3000, help="per scheme, all walkers")
    parser.add_argument("--walkers", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=DEFAULTS.temperature_K, help="K")
    parser.add_argument("--step-sizes", type=float, nargs="+", default=[DEFAULTS.step_size])
    parser.add_argument("--timestep", type=float, default=DEFAULTS.timestep_fs, help="fs")
    parser.add_argument("--frictions", type=float, nargs="+", default=[DEFAULTS.friction_per_fs])
    parser.add_argument(
        "--interval", type=int, default=DEFAULTS.steps_per_round, help="steps of one mobility"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def chosen_model(options: argparse.Namespace, atoms: Atoms) -> ElectronicStateModel:
    """The model of the command line, or one whose state is its guess's."""
    if options.model is not None:
        return load_model(model_path(Path(options.model))).model
    elements = tuple(sorted(set(numbers_of(atoms))))
    # minao: on the surface of the guess "sap", which is cheaper, molecules fall apart
    config = {"features": 4, "layers": 1, "guess": "minao"}
    return build_model("fock", LevelOfTheory(basis="sto-3g"), elements, config).double()


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate by every scheme, print the table."""
    options = parse(arguments)
    use_threads(1)
    atoms = ase_molecule(options.molecule)
    model = chosen_model(options, atoms).requires_grad_(False)
    molecule = molecule_of(model, numbers_of(atoms))
    calls = surface(model, molecule, ThreadMap(options.threads))
    reference = nuclei_of(atoms).positions
    rng = np.random.default_rng(options.seed)
    start = thermal_copies(molecule, reference, options.walkers, options.temperature, rng)
    nsteps = options.force_calls // options.walkers
    # away from the start by the scheme that forgets fastest, for all alike
    rows = schemes(options, atoms.numbers, reference)
    start = simulate(rows[0], start, calls, max(20, nsteps // 10), options.seed).positions[-1]
    state = "model" if options.model else "guess"
    print(
        f"{molecule.formula} at {options.temperature:g} K, {molecule.level}, energy of the {state},"
    )
    print(f"{options.walkers} walkers of {nsteps} steps, mobility anew every {options.interval}\n")
    print(HEADER, flush=True)
    bonded = bond_matrix(atoms.numbers, atoms.positions)
    lowest = np.inf
    for index, scheme in enumerate(rows):
        run = simulate(scheme, start, calls, nsteps, options.seed + 1 + index)
        check_bonds(scheme, run, atoms)
        lowest = min(lowest, run.energy.min())
        print(row(scheme, run, bonded, lowest), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
