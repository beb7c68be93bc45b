"""Sampling geometries by Langevin dynamics on the model's own energy, with guards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Bool, Float

from ase_srdft.common.connectivity import same_connectivity, too_close
from ase_srdft.common.units import (
    ANGSTROM_PER_BOHR,
    ELECTRON_MASSES_PER_DALTON,
    FS_PER_ATOMIC_TIME,
    HARTREE_PER_KELVIN,
)
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.prepared_geometry import select
from ase_srdft.models.single_point_result import SinglePointResult
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.integrators import (
    BAOAB,
    BAOABState,
    LeimkuhlerMatthews,
    LeimkuhlerMatthewsState,
    MetropolisLangevin,
    MetropolisState,
    Mobility,
    WalkerState,
)
from ase_srdft.sampling.lindh_mobility import mobility_square_root, rigid_motions
from ase_srdft.sampling.sample import Sample, SampleBatch

__all__ = [
    "EnergySurface",
    "GroupSurface",
    "Sampler",
    "WalkerGroup",
    "thermal_copies",
]

#: Evaluates (molecule index, positions (nwalkers, natoms, 3) in Bohr) with the current weights.
EnergySurface = Callable[[int, np.ndarray], SinglePointResult]

#: Steps that walkers stay with a structure where others wait for a walker.
_TURN_STEPS = 64

_STATES: dict[str, type[WalkerState]] = {
    "overdamped": LeimkuhlerMatthewsState,
    "metropolis": MetropolisState,
    "langevin": BAOABState,
}


@dataclass(kw_only=True, eq=False)
class WalkerGroup:
    """The walkers of one molecule.

    Attributes:
        molecule: index of the molecule.
        numbers: atomic numbers.
        walkers: which walkers of the run they are.
        structures: those given (Bohr), the reference first: its bonds, which all of them have,
            are kept; failed walkers start again at one after the other.
        state: where the walkers are.
        lowest_energy: seen so far (Hartree).
        nsteps: steps made.
        next_structure: where the next failed walker starts again.
    """

    molecule: int
    numbers: np.ndarray
    walkers: np.ndarray
    structures: Float[np.ndarray, "nstructures natoms 3"]
    state: WalkerState
    lowest_energy: float = np.inf
    nsteps: int = 0
    next_structure: int = 0

    @property
    def reference(self) -> Float[np.ndarray, "natoms 3"]:
        """The first of the given structures (Bohr)."""
        first: np.ndarray = self.structures[0]
        return first

    @property
    def turn_is_over(self) -> bool:
        """Whether the walkers have been with their structures for long, and others wait."""
        waiting = len(self.structures) > len(self.walkers)
        return waiting and self.nsteps % _TURN_STEPS == 0

    def next_starts(self, count: int) -> Float[np.ndarray, "count natoms 3"]:
        """Where so many walkers start again (Bohr): one structure after the other."""
        places = (self.next_structure + np.arange(count)) % len(self.structures)
        self.next_structure = (self.next_structure + count) % len(self.structures)
        starts: np.ndarray = self.structures[places]
        return starts

    @property
    def nmodes(self) -> int:
        """Internal degrees of freedom."""
        return int(3 * len(self.numbers) - rigid_motions(self.reference).shape[1])

    def note_lowest_energy(self) -> None:
        """Keep the lowest finite energy seen so far."""
        energy = self.state.energy
        lowest = np.min(energy, where=np.isfinite(energy), initial=np.inf)
        self.lowest_energy = min(self.lowest_energy, float(lowest))


class GroupSurface:
    """Energy and forces of a group's positions, as an integrator asks for them.

    An integrator's contract carries no more than these; samples need all of the single point.

    Args:
        group: whose walkers move.
        surface: of all molecules.

    Attributes:
        latest: the whole answer to the latest call; None before the first.
    """

    def __init__(self, group: WalkerGroup, surface: EnergySurface) -> None:
        self.group = group
        self.surface = surface
        self.latest: SinglePointResult | None = None

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energy (Hartree) and forces (Hartree/Bohr); infinite and NaN where atoms clash."""
        group = self.group
        hopeless = too_close(group.numbers, positions * ANGSTROM_PER_BOHR)
        usable = np.where(hopeless[:, None, None], group.reference, positions)
        self.latest = self.surface(group.molecule, usable)
        assert self.latest.forces is not None
        energy = self.latest.energy.cpu().numpy()
        forces = self.latest.forces.cpu().numpy()
        return (
            np.where(hopeless, np.inf, energy),
            np.where(hopeless[:, None, None], np.nan, forces),
        )


def thermal_copies(
    molecule: Molecule,
    reference: Float[np.ndarray, "natoms 3"],
    count: int,
    temperature_K: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "count natoms 3"]:
    """Copies of a structure, rattled as its model Hessian vibrates: R0 + sqrt(kT) M^(1/2) xi.

    Copies with other bonds than the structure are drawn again with half the amplitude.
    """
    numbers = np.array(molecule.numbers)
    root = mobility_square_root(numbers, reference)
    amplitude = np.full(count, sqrt(HARTREE_PER_KELVIN * temperature_K))
    copies = np.repeat(reference[None], count, 0)
    wanted = np.ones(count, dtype=bool)
    while wanted.any():
        noise = rng.standard_normal((int(wanted.sum()), reference.size))
        moved = (amplitude[wanted, None] * (noise @ root)).reshape(-1, *reference.shape)
        copies[wanted] = reference + moved
        good = same_connectivity(numbers, reference * ANGSTROM_PER_BOHR, copies * ANGSTROM_PER_BOHR)
        wanted = ~good & (amplitude > 1e-6)
        amplitude[wanted] *= 0.5
    return copies


class Sampler:
    """Walkers over one or several molecules: ``init / sample / update``.

    Args:
        config: dynamics, temperature, guards.
        molecules: all molecules.
        surface: energy, forces and bracket with the current weights.
    """

    def __init__(
        self, config: SamplingConfig, molecules: Sequence[Molecule], surface: EnergySurface
    ) -> None:
        self.config = config
        self.molecules = tuple(molecules)
        self.surface = surface
        self.groups: list[WalkerGroup] = []
        self.version = 0
        self._thermal_energy = HARTREE_PER_KELVIN * config.temperature_K

    def init(
        self,
        starts: Sequence[np.ndarray],
        references: Sequence[np.ndarray],
        rng: np.random.Generator,
        walkers: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Place the walkers.

        Args:
            starts: for each molecule, positions (nwalkers, natoms, 3) in Bohr; may be empty.
            references: for each molecule, the given structure (natoms, 3), or all of them
                (nstructures, natoms, 3), in Bohr.
            rng: of the dynamics.
            walkers: for each molecule, which walkers of the run these are; None to count them.
        """
        self.groups = []
        ends = np.cumsum([len(start) for start in starts])
        which = walkers or [
            np.arange(end - len(start), end) for start, end in zip(starts, ends, strict=True)
        ]
        for index, (start, reference) in enumerate(zip(starts, references, strict=True)):
            if len(start) == 0:
                continue
            numbers = np.array(self.molecules[index].numbers)
            group = WalkerGroup(
                molecule=index,
                numbers=numbers,
                walkers=which[index],
                structures=np.array(reference).reshape(-1, len(numbers), 3),
                next_structure=len(start),
                state=WalkerState(
                    positions=start, energy=np.zeros(len(start)), forces=np.zeros_like(start)
                ),
            )
            group.state = self._integrator(group).init(
                start, GroupSurface(group, self.surface), rng
            )
            group.note_lowest_energy()
            self.groups.append(group)

    def update(self, version: int = 0) -> None:
        """The weights have changed: energies and forces of all walkers anew.

        Args:
            version: of the new weights; every sample carries it.
        """
        self.version = version
        for group in self.groups:
            group.state = group.state.refresh(GroupSurface(group, self.surface))
            group.note_lowest_energy()

    def sample(self, nsteps: int, rng: np.random.Generator) -> SampleBatch:
        """Advance every walker; what passes the guards after each step is a sample.

        With ``metropolis`` a proposal that is refused gives none: what was sampled before is not
        counted again.
        """
        samples: list[Sample] = []
        resets: Counter[str] = Counter()
        temperature = np.zeros(2)
        accepted: list[float] = []
        for group in self.groups:
            # A mobility belongs to a geometry: constant within a round, anew for the next.
            integrator = self._integrator(group)
            surface = GroupSurface(group, self.surface)
            for _ in range(nsteps):
                before = group.state
                group.state = integrator.step(before, surface, rng)
                group.nsteps += 1
                evaluation = surface.latest
                assert evaluation is not None  # a step ends where it has asked for the forces
                good = self._guard(group, resets)
                temperature += self._temperature(group, integrator, before)
                moved = getattr(group.state, "accepted", good)
                accepted.append(float(np.mean(moved)))
                samples += _collect(group, evaluation, good & moved, self.version)
                self._start_again(group, integrator, ~good | group.turn_is_over, rng)
        return SampleBatch(
            samples=samples,
            acceptance=float(np.mean(accepted)),
            temperature_K=_ratio(temperature) / HARTREE_PER_KELVIN,
            resets=resets,
        )

    def _integrator(self, group: WalkerGroup) -> Any:
        config = self.config
        if config.dynamics == "langevin":
            return BAOAB(
                timestep=config.timestep_fs / FS_PER_ATOMIC_TIME,
                thermal_energy=self._thermal_energy,
                friction=config.friction_per_fs * FS_PER_ATOMIC_TIME,
                masses=atomic_masses[group.numbers] * ELECTRON_MASSES_PER_DALTON,
            )
        roots = [mobility_square_root(group.numbers, p) for p in group.state.positions]
        scheme = MetropolisLangevin if config.dynamics == "metropolis" else LeimkuhlerMatthews
        return scheme(
            step_size=config.step_size,
            thermal_energy=self._thermal_energy,
            mobility=Mobility(square_root=np.array(roots)),
        )

    def _guard(self, group: WalkerGroup, resets: Counter[str]) -> Bool[np.ndarray, " nwalkers"]:
        """Which walkers are where a sample may be; the reasons of the others are counted."""
        state, nmodes = group.state, group.nmodes
        finite = np.isfinite(state.energy) & np.isfinite(state.forces).all((1, 2))
        group.note_lowest_energy()
        # half kT times a chi-squared variable of so many degrees of freedom, and some room
        spread = self.config.energy_spike * (sqrt(2.0 * nmodes) + 2.0)
        limit = group.lowest_energy + 0.5 * self._thermal_energy * (nmodes + spread)
        calm = finite & (np.where(finite, state.energy, np.inf) < limit)
        bonded: np.ndarray = calm.copy()
        if not self.config.allow_reactions:
            bonded &= same_connectivity(
                group.numbers,
                group.reference * ANGSTROM_PER_BOHR,
                state.positions * ANGSTROM_PER_BOHR,
            )
        resets["not finite or too close"] += int((~finite).sum())
        resets["energy spike"] += int((finite & ~calm).sum())
        resets["bonds changed"] += int((calm & ~bonded).sum())
        return bonded

    def _start_again(
        self, group: WalkerGroup, integrator: Any, chosen: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Walkers that have failed, or whose turn is over, start at the next given structures."""
        if not chosen.any():
            return
        start = group.next_starts(int(chosen.sum()))
        if isinstance(integrator, BAOAB):
            own = integrator
        else:
            roots = integrator.mobility.square_root[chosen]
            own = replace(integrator, mobility=Mobility(square_root=roots))
        fresh = own.init(start, GroupSurface(group, self.surface), rng)
        group.state = group.state.replace_walkers(chosen, fresh)

    def _temperature(self, group: WalkerGroup, integrator: Any, before: WalkerState) -> np.ndarray:
        """Numerator and denominator of kT (Hartree), summed over walkers.

        Kinetic for ``langevin``.  Configurational for the overdamped scheme: kT = <|g|^2> / <tr A>
        with g = M^(1/2) f and A = M^(1/2) (Hessian) M^(1/2).  The step itself probes the Hessian:
        its fresh noise moves x by (s/2) M^(1/2) xi, s = sqrt(2 kT h), so
        <(g_new - g_old) . xi> = -(s/2) tr A.  ``metropolis`` has no estimator: 0 / 0.
        """
        state = group.state
        finite = np.isfinite(state.forces).all((1, 2)) & np.isfinite(before.forces).all((1, 2))
        if isinstance(state, BAOABState):
            kinetic = (integrator.masses[:, None] * state.velocities[finite] ** 2).sum()
            return np.array([kinetic, 3.0 * len(group.numbers) * finite.sum()])
        if not isinstance(state, LeimkuhlerMatthewsState):
            return np.zeros(2)
        old = integrator.mobility.apply_square_root(before.forces)[finite]
        new = integrator.mobility.apply_square_root(state.forces)[finite]
        width = sqrt(2.0 * self._thermal_energy * integrator.step_size)
        trace = -2.0 / width * ((new - old) * state.noise[finite]).sum()
        return np.array([(old**2).sum(), trace])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything a restart needs, by name."""
        arrays: dict[str, np.ndarray] = {}
        for group in self.groups:
            prefix = f"walkers.{group.molecule}."
            arrays[prefix + "reference"] = group.reference
            if len(group.structures) > 1:
                arrays[prefix + "structures"] = group.structures
                arrays[prefix + "next_structure"] = np.array([group.next_structure])
            arrays[prefix + "lowest_energy"] = np.array([group.lowest_energy])
            arrays[prefix + "walkers"] = group.walkers
            arrays[prefix + "nsteps"] = np.array([group.nsteps])
            for name, array in group.state.to_arrays().items():
                arrays[f"{prefix}state.{name}"] = array
        return arrays

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Put the walkers back where :meth:`to_arrays` found them."""
        self.groups = []
        for index, molecule in enumerate(self.molecules):
            prefix = f"walkers.{index}."
            own = {k[len(prefix) :]: a for k, a in arrays.items() if k.startswith(prefix)}
            if not own:
                continue
            states = {k[len("state.") :]: a for k, a in own.items() if k.startswith("state.")}
            self.groups.append(
                WalkerGroup(
                    molecule=index,
                    numbers=np.array(molecule.numbers),
                    walkers=own["walkers"],
                    structures=own.get("structures", own["reference"][None]),
                    next_structure=int(own.get("next_structure", np.zeros(1))[0]),
                    state=_STATES[self.config.dynamics].from_arrays(states),
                    lowest_energy=float(own["lowest_energy"][0]),
                    nsteps=int(own["nsteps"][0]),
                )
            )


def _collect(
    group: WalkerGroup, evaluation: SinglePointResult, good: np.ndarray, version: int
) -> list[Sample]:
    assert evaluation.forces is not None
    return [
        Sample(
            molecule=group.molecule,
            walker=int(group.walkers[walker]),
            step=group.nsteps,
            weights_version=version,
            positions=group.state.positions[walker].copy(),
            energy=float(evaluation.energy[walker]),
            forces=evaluation.forces[walker].cpu().numpy(),
            bracket_width=float(evaluation.bracket.width[walker]),
            geometry=select(evaluation.geometry, slice(int(walker), int(walker) + 1)),
        )
        for walker in np.flatnonzero(good)
    ]


def _ratio(pair: np.ndarray) -> float:
    return float(pair[0] / pair[1]) if pair[1] > 0 else float("nan")
