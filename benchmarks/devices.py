"""What a GPU brings: the same work on the CPU, by the kernels, and on a CUDA device, by torch.

The work is energy and forces of the general model's own state, of one geometry and of a batch, the
answer that is corrected to 1 meV, and training steps on new geometries and on known ones.  Sides
take turns in one process; a training step leaves the weights where they are.

    python benchmarks/devices.py --devices cpu cuda --threads 16
    python benchmarks/devices.py --devices cpu --molecules water --levels PBE/sto-3g
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from _common import as_numpy, bohr, numbers_of, timing_parser, use_threads
from ase import Atoms
from side_by_side import medians
from throughput_bench import parsed_level, structure

from ase_srdft import SRDFTCalculator
from ase_srdft.common.devices import torch_device
from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import model_path
from ase_srdft.models.single_point import molecule_of
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.weight_updater import WeightUpdater

Work = dict[str, Callable[[], object]]
#: No step of this rate changes a weight by what a double can hold.
STILL = OptimiserConfig(learning_rate=1e-30, final_learning_rate=1e-30)


def geometries(atoms: Atoms, count: int) -> torch.Tensor:
    """Positions (count, natoms, 3) in Bohr, rattled by 0.05 Angstrom."""
    normal = np.random.default_rng(0).standard_normal((count, len(atoms), 3))
    return bohr(atoms) + torch.tensor(0.05 / ANGSTROM_PER_BOHR * normal)


class DeviceBench:
    """All work on one molecule at one level, on one device.

    Args:
        name: of the device.
        atoms: the molecule.
        level: of theory.
        batch: geometries at a time.
        threads: of the kernels, and workers of a batch.
    """

    def __init__(
        self, name: str, atoms: Atoms, level: LevelOfTheory, batch: int, threads: int
    ) -> None:
        self.device, self.workers = torch_device(name), ThreadMap(threads)
        self.model = load_model(model_path("organics")).model.to(self.device)
        self.molecule = molecule_of(self.model, numbers_of(atoms), level)
        self.batch = geometries(atoms, batch)
        self.images = [self.moved(atoms, positions) for positions in self.batch]
        calculator = partial(SRDFTCalculator, xc=level.xc, basis=level.basis, device=name)
        self.own = calculator(threads=threads, max_error=None)
        self.corrected = calculator(threads=threads)

    def work(self) -> Work:
        """The pieces, by name."""
        count = len(self.batch)
        updater = WeightUpdater(self.model, STILL, self.workers)
        known, keys = self.cache()
        return {
            "energy + forces, one geometry": partial(self.answer, self.own, 1),
            f"energy + forces, batch of {count}": partial(self.answer, self.own, count),
            "corrected to 1 meV, with forces": partial(self.answer, self.corrected, 1),
            f"training step, {count} new": lambda: self.train(updater, *self.cache()),
            f"training step, {count} known": lambda: self.train(updater, known, keys),
        }

    @staticmethod
    def moved(atoms: Atoms, positions: torch.Tensor) -> Atoms:
        """The molecule at other positions (Bohr)."""
        image: Atoms = atoms.copy()
        image.positions = ANGSTROM_PER_BOHR * positions.numpy()
        return image

    def answer(self, calculator: SRDFTCalculator, count: int) -> None:
        """Energies and forces of the first images, which a calculator does not remember."""
        calculator.evaluate_batch(self.images[:count], batch_size=count)

    def cache(self) -> tuple[GeometryCache, list[int]]:
        """The batch, with nothing prepared."""
        made = GeometryCache(
            [self.molecule], 2**33, coarse_grid=True, device=self.device, threads=self.workers
        )
        return made, [made.add(0, as_numpy(each[None])) for each in self.batch]

    def train(self, updater: WeightUpdater, cache: GeometryCache, keys: list[int]) -> None:
        """One step."""
        updater.update(cache.batches(keys), 0.0)
        self.wait()

    def wait(self) -> None:
        """Until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = timing_parser(__doc__)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"])
    parser.add_argument("--molecules", nargs="+", default=["ethanol", "aspirin"])
    parser.add_argument("--levels", nargs="+", default=["PBE/def2-svp", "B3LYP/6-31g*"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for a piece of work")
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    names = list(dict.fromkeys(options.devices))
    print(f"| molecule | level | work | {' | '.join(f'{name}, ms' for name in names)} |")
    print("| --- " * (3 + len(names)) + "|")
    for molecule in options.molecules:
        atoms = structure(molecule)
        for text in options.levels:
            sides = {
                name: DeviceBench(
                    name, atoms, parsed_level(text), options.batch, options.threads
                ).work()
                for name in names
            }
            for piece in sides[names[0]]:
                found = medians(
                    {name: sides[name][piece] for name in names}, options.repeats, options.limit
                )
                cells = [f"{1e3 * found[name].wall:.0f}" for name in names]
                print(f"| {molecule} | {text} | {piece} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
