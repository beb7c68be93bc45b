"""Sampling geometries by Langevin dynamics on the model's own energy, with guards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf, sqrt
from typing import Any

import numpy as np
from jaxtyping import Bool

from ase_srdft.common.connectivity import same_connectivity
from ase_srdft.common.units import ANGSTROM_PER_BOHR, HARTREE_PER_KELVIN
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.prepared_geometry import select
from ase_srdft.models.single_point_result import SinglePointResult
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.integrators import WalkerState
from ase_srdft.sampling.sample import Sample, SampleBatch
from ase_srdft.sampling.schemes import SCHEMES
from ase_srdft.sampling.turns import Turns
from ase_srdft.sampling.walker_group import EnergySurface, GroupSurface, WalkerGroup

__all__ = ["Sampler"]

#: Stands for the version of a molecule that has not moved yet, in arrays.
_NEVER = -1


class Sampler:
    """Walkers over one or several molecules: ``init / sample / update``.

    Where there are many molecules they may take turns: some move for a round, then others do, from
    where they were left.  Nothing is computed for those that wait.

    Args:
        config: dynamics, temperature, guards.
        molecules: all molecules.
        surface: energy, forces and bracket with the current weights.
        carried_bytes: of the integrals that the samples of a round bring along; those of later
            steps, where there is no room for all walkers, come without.
    """

    def __init__(
        self,
        config: SamplingConfig,
        molecules: Sequence[Molecule],
        surface: EnergySurface,
        carried_bytes: float = inf,
    ) -> None:
        self.config = config
        self.scheme = SCHEMES[config.dynamics]
        self.molecules = tuple(molecules)
        self.surface = surface
        self.carried_bytes = carried_bytes
        self.groups: list[WalkerGroup] = []
        self.turns = Turns(count=0)
        self.version = 0
        self._thermal_energy = HARTREE_PER_KELVIN * config.temperature_K

    def init(
        self,
        starts: Sequence[np.ndarray],
        references: Sequence[np.ndarray],
        rng: np.random.Generator,
        walkers: Sequence[np.ndarray] | None = None,
        together: int | None = None,
    ) -> None:
        """Place the walkers.

        Args:
            starts: for each molecule, positions (nwalkers, natoms, 3) in Bohr; may be empty.
            references: for each molecule, the given structure (natoms, 3), or all of them
                (nstructures, natoms, 3), in Bohr.
            rng: of the dynamics.
            walkers: for each molecule, which walkers of the run these are; None to count them.
            together: molecules that move at a time; None for all.
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
            self.groups.append(group)
        self.turns = Turns(count=len(self.groups), together=together)
        if not self.turns.are_taken:
            self._make_ready(rng)

    @property
    def _moving(self) -> list[WalkerGroup]:
        """The groups whose turn it is."""
        return [self.groups[index] for index in self.turns.now]

    def _make_ready(self, rng: np.random.Generator) -> None:
        """Energies and forces, with the weights of now, of those whose turn has come."""
        for group in self._moving:
            if group.version is None:
                surface = GroupSurface(group, self.surface)
                group.state = self._integrator(group).init(group.state.positions, surface, rng)
                group.note_lowest_energy()
                group.version = self.version
            elif group.version != self.version:
                self._refresh(group)

    def _refresh(self, group: WalkerGroup) -> None:
        group.state = group.state.refresh(GroupSurface(group, self.surface))
        group.note_lowest_energy()
        group.version = self.version

    def update(self, version: int = 0) -> None:
        """The weights have changed: energies and forces of all walkers that move now anew.

        Args:
            version: of the new weights; every sample carries it.
        """
        self.version = version
        for group in self._moving:
            if group.version is not None:
                self._refresh(group)

    def sample(self, nsteps: int, rng: np.random.Generator) -> SampleBatch:
        """Advance the walkers whose turn it is; what passes the guards after a step is a sample.

        With ``metropolis`` a proposal that is refused gives none, though the chain counts the old
        geometry again.  A copy would teach nothing new, take another's place in the buffer, and
        could be held out while its twin is trained on.  So what is trained on is exp(-E/kT) times
        the probability to move on.  Averages over exp(-E/kT) count a sample once for every step
        (`Sample.step`) until its walker's next sample.
        """
        samples: list[Sample] = []
        resets: Counter[str] = Counter()
        temperature = np.zeros(2)
        accepted: list[float] = []
        room = self.carried_bytes
        self._make_ready(rng)
        for group in self._moving:
            # A mobility belongs to a geometry: constant within a round, anew for the next.
            integrator = self._integrator(group)
            surface = GroupSurface(group, self.surface)
            for _ in range(nsteps):
                before = group.state
                group.state = integrator.step(before, surface, rng)
                group.nsteps += 1
                evaluation = surface.take()
                good = self._guard(group, resets)
                temperature += self.scheme.temperature(integrator, before, group.state)
                moved = getattr(group.state, "accepted", good)
                accepted.append(float(np.mean(moved)))
                room -= evaluation.geometry.nbytes
                samples += _collect(group, evaluation, good & moved, self.version, room >= 0)
                del evaluation  # its integrals go before those of the next step are there
                over = group.structures_turn_is_over(self.turns.are_taken)
                self._start_again(group, integrator, ~good | over, rng)
        self.turns = self.turns.passed_on()
        return SampleBatch(
            samples=samples,
            acceptance=float(np.mean(accepted)),
            temperature_K=_ratio(temperature) / HARTREE_PER_KELVIN,
            resets=resets,
        )

    def _integrator(self, group: WalkerGroup) -> Any:
        return self.scheme.integrator(self.config, group.numbers, group.state.positions)

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
        fresh = integrator.init(start, GroupSurface(group, self.surface), rng)
        group.state = group.state.replace_walkers(chosen, fresh)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything a restart needs, by name."""
        arrays: dict[str, np.ndarray] = {}
        if self.turns.together is not None:
            arrays["turns"] = np.array([self.turns.together, self.turns.first])
        for group in self.groups:
            prefix = f"walkers.{group.molecule}."
            if self.turns.are_taken:
                version = _NEVER if group.version is None else group.version
                arrays[prefix + "version"] = np.array([version])
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

    def from_arrays(self, arrays: dict[str, np.ndarray], version: int = 0) -> None:
        """Put the walkers back where :meth:`to_arrays` found them.

        Args:
            arrays: of :meth:`to_arrays`.
            version: of the weights then.
        """
        self.groups, self.version = [], version
        for index, molecule in enumerate(self.molecules):
            prefix = f"walkers.{index}."
            own = {k[len(prefix) :]: a for k, a in arrays.items() if k.startswith(prefix)}
            if not own:
                continue
            states = {k[len("state.") :]: a for k, a in own.items() if k.startswith("state.")}
            of_group = int(own.get("version", np.array([version]))[0])
            scheme = WalkerState if of_group == _NEVER else self.scheme.state
            self.groups.append(
                WalkerGroup(
                    molecule=index,
                    numbers=np.array(molecule.numbers),
                    walkers=own["walkers"],
                    structures=own.get("structures", own["reference"][None]),
                    next_structure=int(own.get("next_structure", np.zeros(1))[0]),
                    state=scheme.from_arrays(states),
                    lowest_energy=float(own["lowest_energy"][0]),
                    nsteps=int(own["nsteps"][0]),
                    version=None if of_group == _NEVER else of_group,
                )
            )
        together, first = arrays["turns"].tolist() if "turns" in arrays else (None, 0)
        self.turns = Turns(count=len(self.groups), together=together, first=first)


def _collect(
    group: WalkerGroup,
    evaluation: SinglePointResult,
    good: np.ndarray,
    version: int,
    with_integrals: bool,
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
            geometry=select(evaluation.geometry, slice(int(walker), int(walker) + 1))
            if with_integrals
            else None,
        )
        for walker in np.flatnonzero(good)
    ]


def _ratio(pair: np.ndarray) -> float:
    return float(pair[0] / pair[1]) if pair[1] > 0 else float("nan")
