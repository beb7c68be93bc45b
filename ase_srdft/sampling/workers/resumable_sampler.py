"""A sampler that can be continued in any process; every pool of samplers runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import numpy as np
import torch

from ase_srdft.common.devices import torch_device
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.kernels.library import threads as kernel_threads
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import build_model
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.models.single_point_result import SinglePointResult, concatenate_single_points
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.sampler import Sampler
from ase_srdft.sampling.walker_group import EnergySurface
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage

__all__ = ["ResumableSampler", "SamplerBlueprint", "model_energy_surface", "starting_checkpoint"]

_START = "start."
_TOGETHER = f"{_START}together"
#: About so many three-centre integrals, or exact ones, of walkers that are evaluated together
#: (32 MB); what is made of them takes several times that.  Small molecules are faster together;
#: with large ones nothing is gained, and the process would grow with the number of walkers.
_INTEGRALS_TOGETHER = 4_000_000
#: Auxiliary functions for each orbital, more or less.
_AUXILIARY = 4


def starting_checkpoint(
    sampler: int,
    placed: Sequence[tuple[int, int, np.ndarray]],
    references: Sequence[np.ndarray],
    seed: np.random.SeedSequence,
    together: int | None = None,
) -> SamplerCheckpoint:
    """A sampler that has not begun.

    Args:
        sampler: which one of the run.
        placed: its walkers: which one of the run, of which molecule, positions (natoms, 3) in
            Bohr.
        references: for each molecule, the given structure (natoms, 3), or all of them
            (nstructures, natoms, 3), in Bohr.
        seed: of its random numbers.
        together: molecules that move at a time; None for all.
    """
    arrays: dict[str, np.ndarray] = {}
    if together is not None:
        arrays[_TOGETHER] = np.array([together])
    walkers_of: dict[int, list[tuple[int, np.ndarray]]] = {}
    for walker, molecule, positions in placed:
        walkers_of.setdefault(molecule, []).append((walker, positions))
    for index, reference in enumerate(references):
        own = walkers_of.get(index, [])
        starts = np.array([positions for _, positions in own])
        arrays[f"{_START}{index}.positions"] = starts.reshape(-1, *reference.shape[-2:])
        arrays[f"{_START}{index}.reference"] = np.asarray(reference)
        arrays[f"{_START}{index}.walkers"] = np.array([w for w, _ in own], dtype=np.int64)
    rng = np.random.default_rng(seed).bit_generator.state
    return SamplerCheckpoint(sampler=sampler, nmessages=0, version=-1, arrays=arrays, rng=dict(rng))


class ResumableSampler:
    """Walkers that go on from a checkpoint, one message of samples at a time.

    Args:
        config: dynamics, temperature, guards, steps of a message.
        molecules: all molecules of the run.
        surface: energy, forces and bracket with the current weights.
        checkpoint: where to go on.
        carried_bytes: see `Sampler`.
    """

    def __init__(
        self,
        config: SamplingConfig,
        molecules: Sequence[Molecule],
        surface: EnergySurface,
        checkpoint: SamplerCheckpoint,
        carried_bytes: float = inf,
    ) -> None:
        self.nsteps = config.steps_per_round
        self.sampler = Sampler(config, molecules, surface, carried_bytes)
        self.checkpoint = checkpoint
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = checkpoint.rng
        self._begun = not any(name.startswith(_START) for name in checkpoint.arrays)
        if self._begun:
            self.sampler.from_arrays(checkpoint.arrays, checkpoint.version)

    def advance(self, version: int) -> SamplerMessage:
        """The next message, made with the weights the surface has now, whose version is given."""
        if not self._begun:
            self._begin(version)
        elif version != self.checkpoint.version:
            self.sampler.update(version)
        result = self.sampler.sample(self.nsteps, self.rng)
        self.checkpoint = SamplerCheckpoint(
            sampler=self.checkpoint.sampler,
            nmessages=self.checkpoint.nmessages + 1,
            version=version,
            arrays=self.sampler.to_arrays(),
            rng=dict(self.rng.bit_generator.state),
        )
        return SamplerMessage(batch=result, checkpoint=self.checkpoint)

    def _begin(self, version: int) -> None:
        arrays = self.checkpoint.arrays
        self.sampler.version = version
        together = int(arrays[_TOGETHER][0]) if _TOGETHER in arrays else None
        count = len(self.sampler.molecules)
        starts, references, walkers = (
            [arrays[f"{_START}{index}.{name}"] for index in range(count)]
            for name in ("positions", "reference", "walkers")
        )
        self.sampler.init(starts, references, self.rng, walkers, together)
        self._begun = True


def walkers_together(molecule: Molecule) -> int:
    """How many walkers of a molecule are evaluated as one batch; one at least."""
    npair = molecule.nao * (molecule.nao + 1) // 2
    columns = _AUXILIARY * molecule.nao if molecule.level.density_fitting else npair
    return max(1, _INTEGRALS_TOGETHER // (npair * columns))


def model_energy_surface(
    model: ElectronicStateModel,
    molecules: Sequence[Molecule],
    coarse_grid: bool,
    device: torch.device,
    threads: ThreadMap,
    sign_of_life: Callable[[], None] = lambda: None,
) -> EnergySurface:
    """The energy surface of a model; walkers are shared out over threads.

    Where there are fewer walkers than threads, their kernels have more than one each.  Of large
    molecules each thread has one walker at a time (`walkers_together`).

    Args:
        model: its weights may change from call to call.
        molecules: all molecules of the run.
        coarse_grid: on the coarse training grid.
        device: where the model is.
        threads: to share them over.
        sign_of_life: called before each evaluation.
    """

    def surface(molecule: int, positions: np.ndarray) -> SinglePointResult:
        sign_of_life()
        tensor = torch.as_tensor(positions, device=device)
        pieces = threads.slices(len(positions), walkers_together(molecules[molecule]))

        def work(piece: slice) -> SinglePointResult:
            with kernel_threads(threads.share(len(pieces))):
                return single_point(
                    model,
                    molecules[molecule],
                    tensor[piece],
                    grid_level=COARSE_GRID if coarse_grid else None,
                )

        return concatenate_single_points(threads.map(work, pieces))

    return surface


@dataclass(frozen=True, kw_only=True)
class SamplerBlueprint:
    """How another process makes the same molecules and model; plain values, for JSON.

    Attributes:
        family: of the model.
        level: of the model, as `LevelOfTheory.to_dict` gives it.
        elements: that the model knows.
        model_config: of the family.
        molecules: atomic numbers and level of theory of each.
        sampling: a `SamplingConfig`.
        coarse_grid: sample on the coarse training grid.
        carried_bytes: see `Sampler`.
    """

    family: str
    level: dict[str, Any]
    elements: tuple[int, ...]
    model_config: dict[str, Any]
    molecules: tuple[tuple[tuple[int, ...], dict[str, Any]], ...]
    sampling: dict[str, Any]
    coarse_grid: bool
    carried_bytes: int

    @classmethod
    def of(
        cls,
        model: ElectronicStateModel,
        molecules: Sequence[Molecule],
        sampling: SamplingConfig,
        coarse_grid: bool,
        carried_bytes: int,
    ) -> SamplerBlueprint:
        """The blueprint of a model and molecules that are at hand."""
        return cls(
            family=model.family,
            level=model.level.to_dict(),
            elements=model.elements,
            model_config=asdict(model.config),
            molecules=tuple((m.numbers, m.level.to_dict()) for m in molecules),
            sampling=asdict(sampling),
            coarse_grid=coarse_grid,
            carried_bytes=carried_bytes,
        )

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> SamplerBlueprint:
        """What `to_plain` was called on; the lists of JSON become tuples again.

        Raises:
            KeyError, TypeError: a name is missing or unknown.
        """
        molecules = tuple((tuple(numbers), level) for numbers, level in plain["molecules"])
        tuples = {"elements": tuple(plain["elements"]), "molecules": molecules}
        return cls(**plain | tuples)

    def model(self) -> ElectronicStateModel:
        """A model that waits for weights, single precision."""
        level = LevelOfTheory(**self.level)
        return build_model(self.family, level, self.elements, self.model_config).float()

    def build(
        self,
        checkpoint: SamplerCheckpoint,
        device: str,
        sign_of_life: Callable[[], None] = lambda: None,
    ) -> tuple[ElectronicStateModel, ResumableSampler]:
        """A model that waits for weights, and the sampler that moves walkers on it."""
        place = torch_device(device)
        model = self.model().to(place).requires_grad_(False)
        molecules = [
            molecule_of(model, numbers, LevelOfTheory(**level)) for numbers, level in self.molecules
        ]
        surface = model_energy_surface(
            model, molecules, self.coarse_grid, place, ThreadMap(), sign_of_life
        )
        return model, ResumableSampler(
            SamplingConfig(**self.sampling), molecules, surface, checkpoint, self.carried_bytes
        )
