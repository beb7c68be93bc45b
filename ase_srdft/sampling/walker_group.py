"""The walkers of one molecule, and the energy surface as they meet it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ase_srdft.common.connectivity import too_close
from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.models.single_point_result import SinglePointResult
from ase_srdft.sampling.integrators import WalkerState
from ase_srdft.sampling.lindh_mobility import rigid_motions

__all__ = ["EnergySurface", "GroupSurface", "WalkerGroup"]

#: Evaluates positions (nwalkers, natoms, 3), in Bohr, of the molecule of an index with the
#: current weights.
EnergySurface = Callable[[int, np.ndarray], SinglePointResult]

#: Steps that walkers stay with a structure where others wait for a walker; and where, besides,
#: the molecule has to wait for its turn.
_TURN_STEPS, _SHORT_TURN_STEPS = 64, 16


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
        version: of the weights that the energies and forces of ``state`` are of; None where there
            are none yet, since its turn has not come.
    """

    molecule: int
    numbers: np.ndarray
    walkers: np.ndarray
    structures: Float[np.ndarray, "nstructures natoms 3"]
    state: WalkerState
    lowest_energy: float = np.inf
    nsteps: int = 0
    next_structure: int = 0
    version: int | None = None

    @property
    def reference(self) -> Float[np.ndarray, "natoms 3"]:
        """The first of the given structures (Bohr)."""
        first: np.ndarray = self.structures[0]
        return first

    def structures_turn_is_over(self, seldom: bool) -> bool:
        """Whether the walkers have been with their structures for long, and others wait.

        Args:
            seldom: whether the molecule itself has to wait for its turn.
        """
        waiting = len(self.structures) > len(self.walkers)
        return waiting and self.nsteps % (_SHORT_TURN_STEPS if seldom else _TURN_STEPS) == 0

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
        latest: the whole answer to the latest call; None before the first, and once it is taken.
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
        self.latest = None  # its integrals go before there are others
        self.latest = answer = self.surface(group.molecule, usable)
        assert answer.forces is not None
        energy = answer.energy.cpu().numpy()
        forces = answer.forces.cpu().numpy()
        return (
            np.where(hopeless, np.inf, energy),
            np.where(hopeless[:, None, None], np.nan, forces),
        )

    def take(self) -> SinglePointResult:
        """The latest answer, which is kept here no longer."""
        taken, self.latest = self.latest, None
        assert taken is not None  # a step ends where it has asked for the forces
        return taken
