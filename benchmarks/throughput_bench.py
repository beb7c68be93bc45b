"""What `throughput.py` times: every piece of work on one molecule, by every side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _common import (
    FILES,
    as_numpy,
    bohr,
    frames_of,
    numbers_of,
    pyscf_scf,
)
from ase import Atoms, units
from ase.build import molecule as molecule_of_ase
from ase.io import read
from side_by_side import Seconds, medians
from throughput_record import (
    COLD,
    OURS,
    TORCH,
    WARM,
    Timing,
)

from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.dft.kernels import library
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.shipped_models import list_models, model_path
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.workers.resumable_sampler import model_energy_surface
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.weight_updater import WeightUpdater

STRUCTURES = Path(__file__).parent / "structures"
BATCH = 8

#: What computes, and the family of the model.
Side = tuple[str, str]
Sides = dict[Side, Callable[[], object]]


def structure(name: str) -> Atoms:
    """A geometry away from the minimum."""
    if name in FILES and FILES[name].is_file():
        return frames_of(name)[-1]
    path = STRUCTURES / f"{name}.xyz"
    named = {"water": "H2O", "ethanol": "CH3CH2OH"}
    if not path.is_file() and name not in named:
        raise SystemExit(f"no structure of {name}: name the folder of the frames in ASE_SRDFT_DATA")
    atoms = read(path) if path.is_file() else molecule_of_ase(named[name])
    assert isinstance(atoms, Atoms)
    atoms.rattle(0.03, seed=0)
    return atoms


def model_for(family: str, name: str, level: LevelOfTheory, atoms: Atoms) -> ElectronicStateModel:
    """The shipped model of a molecule and level, or fresh weights."""
    shipped = f"{name}-{level.xc}-{level.basis}".lower()
    if shipped in list_models():
        model = load_model(model_path(shipped)).model
        if model.family == family:
            return model
    return build_model(family, level, tuple(sorted(set(numbers_of(atoms)))), {})


def step_before(atoms: Atoms) -> Atoms:
    """The geometry of 0.5 fs earlier, at thermal velocities of 500 K."""
    earlier: Atoms = atoms.copy()
    normal = np.random.default_rng(0).standard_normal(atoms.positions.shape)
    velocities = normal * np.sqrt(units.kB * 500.0 / atoms.get_masses())[:, None]
    earlier.positions -= 0.5 * units.fs * velocities
    return earlier


class ThroughputBench:
    """The sides of every piece of work on one molecule.

    Args:
        name: molecule.
        level: of theory.
        threads: of kernels, torch, PySCF and the workers of a batch.
        conv_tol: PySCF's (Hartree).
        sides: names of those that take part.
        families: of the models.
    """

    def __init__(
        self,
        name: str,
        level: LevelOfTheory,
        threads: int,
        conv_tol: float,
        sides: Sequence[str],
        families: Sequence[str],
    ) -> None:
        self.name, self.level, self.threads, self.conv_tol = name, level, threads, conv_tol
        there = OURS if library.loaded() is not None else (TORCH,)
        self.ours = [side for side in there if side in sides]
        self.pyscfs = [side for side in (COLD, WARM) if side in sides]
        self.atoms = structure(name)
        self.positions = bohr(self.atoms)
        self.models = {f: model_for(f, name, level, self.atoms) for f in families}
        numbers = numbers_of(self.atoms)
        self.molecules = {f: molecule_of(m, numbers, level) for f, m in self.models.items()}
        self.molecule = self.molecules[families[0]]

    def run(self, work: Sequence[str], repeats: int, limit: float) -> list[Timing]:
        """The medians of all pieces of work."""
        timings: list[Timing] = []
        for piece in work:
            for label, sides in self.sides(piece).items():
                for side, seconds in medians(sides, repeats, limit).items():
                    timings.append(self.timing(label, side, seconds))
        return timings

    def timing(self, work: str, side: Side, seconds: Seconds) -> Timing:
        """A row of the table."""
        return Timing(
            molecule=self.name,
            natoms=len(self.atoms),
            nao=self.molecule.basis.nao,
            level=f"{self.level.xc}/{self.level.basis}",
            work=work,
            side=side[0],
            family=side[1],
            threads=self.threads,
            rounds=seconds.rounds,
            cpu_ms=1e3 * seconds.cpu,
            wall_ms=1e3 * seconds.wall,
        )

    def sides(self, piece: str) -> dict[str, Sides]:
        """What is timed against what, by the name of the work."""
        if piece == "training":
            return self._training()
        if piece == "sampling":
            return {"sampler step": self._by_family(self._sampler_step)}
        forces = piece == "forces"
        sides = self._by_family(
            lambda family: partial(
                single_point,
                self.models[family],
                self.molecules[family],
                self.positions,
                forces=forces,
            )
        )
        return {"energy + forces" if forces else "energy": sides | self._pyscf(forces)}

    def _pyscf(self, forces: bool) -> Sides:
        if not self.pyscfs:
            return {}
        scf = partial(pyscf_scf, self.molecule, self.positions, self.conv_tol, forces=forces)
        sides: Sides = {(COLD, ""): scf}
        if WARM in self.pyscfs:
            earlier = bohr(step_before(self.atoms))
            before = pyscf_scf(self.molecule, earlier, self.conv_tol, forces=False)
            sides[WARM, ""] = partial(scf, density=before.make_rdm1())
        return {side: function for side, function in sides.items() if side[0] in self.pyscfs}

    def _by_family(self, work: Callable[[str], Callable[[], object]]) -> Sides:
        """The sides of ours for the same work with every family's model."""
        return {
            (side, family): self.on(side, function)
            for family in self.models
            for function in [work(family)]
            for side in self.ours
        }

    def on(self, side: str, function: Callable[[], object]) -> Callable[[], object]:
        """A function that is computed by the kernels, or by torch."""

        def run() -> None:
            with path_of(side), library.computing_threads(self.threads):
                function()

        return run

    def _batch(self) -> list[np.ndarray]:
        """Geometries of a training step."""
        rng = np.random.default_rng(0)
        amplitude = 0.05 / ANGSTROM_PER_BOHR
        return [
            as_numpy(self.positions) + amplitude * rng.standard_normal(self.atoms.positions.shape)
            for _ in range(BATCH)
        ]

    def _training(self) -> dict[str, Sides]:
        workers = ThreadMap(self.threads)
        frames = self._batch()
        # A rate this small leaves the weights in place: every step is the same work.
        config = OptimiserConfig(learning_rate=1e-9, final_learning_rate=1e-9)

        def cache(family: str) -> tuple[GeometryCache, list[int]]:
            molecules, device = [self.molecules[family]], torch.device("cpu")
            made = GeometryCache(molecules, 2**33, coarse_grid=True, device=device, threads=workers)
            return made, [made.add(0, positions) for positions in frames]

        new: Sides = {}
        revisited: Sides = {}
        for family in self.models:
            updater = WeightUpdater(self._fresh(family), config, workers)
            for side in self.ours:

                def on_new(family: str = family, updater: WeightUpdater = updater) -> None:
                    made, keys = cache(family)
                    updater.update(made.batches(keys), 0.0)

                known, keys = cache(family)
                with path_of(side):  # geometries as the side itself prepares them
                    updater.update(known.batches(keys), 0.0)

                def on_known(
                    known: GeometryCache = known,
                    keys: list[int] = keys,
                    updater: WeightUpdater = updater,
                ) -> None:
                    updater.update(known.batches(keys), 0.0)

                new[side, family] = self.on(side, on_new)
                revisited[side, family] = self.on(side, on_known)
        return {
            f"training step, {BATCH} new": new,
            f"training step, {BATCH} revisited": revisited,
        }

    def _fresh(self, family: str) -> ElectronicStateModel:
        """A model that may be trained without changing that of the other work."""
        return model_for(family, self.name, self.level, self.atoms)

    def _sampler_step(self, family: str) -> Callable[[], object]:
        molecules, device = [self.molecules[family]], torch.device("cpu")
        workers = ThreadMap(self.threads)
        surface = model_energy_surface(self._fresh(family), molecules, True, device, workers)
        walkers = np.array(self._batch())
        return lambda: surface(0, walkers)


def path_of(side: str) -> AbstractContextManager[object]:
    """Within it, the side computes."""
    return library.using_torch() if side == TORCH else nullcontext()


def parsed_level(text: str) -> LevelOfTheory:
    """Of `functional/basis`."""
    xc, _, basis = text.partition("/")
    return LevelOfTheory(xc=xc, basis=basis)
