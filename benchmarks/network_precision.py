"""What single precision in the network changes: energy, forces and their cost, family by family.

The physics around the network is in double precision on both sides.  Models are those that ship,
at the frames they are tested on, and one of each family that is trained for a moment here, at
frames of ethanol (PBE/STO-3G) that it has not seen.  Calculators run the network in double
precision unless the forces of a family change by less than 1e-5 meV/Å.

    python benchmarks/network_precision.py --steps 20 200
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from _common import (
    benchmark_parser,
    bohr,
    ethanol,
    frames_of,
    numbers_of,
    rattled,
    use_threads,
)
from ase import Atoms

from ase_srdft.common.units import EV_PER_ANGSTROM_PER_ATOMIC_FORCE
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.preparation import prepare
from ase_srdft.models.electronic_state import FAMILIES, ElectronicStateModel
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.shipped_models import list_models, model_path
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.weight_updater import WeightUpdater

#: Geometries that a family is trained on.
_TRAINED_ON = 8


@dataclass(kw_only=True)
class Change:
    """What was found of one model.

    Attributes:
        energies: |E32 - E64| at each frame (Hartree).
        forces: largest |F32 - F64| at each frame (meV/Å).
        largest_force: in double precision, over all frames (meV/Å).
        widths: of the bracket in double precision (Hartree), at each frame.
        seconds: CPU time of energy and forces in double and in single precision, at each frame.
    """

    energies: list[float] = field(default_factory=list)
    forces: list[float] = field(default_factory=list)
    largest_force: float = 0.0
    widths: list[float] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)


def shipped(nframes: int) -> Iterator[tuple[str, ElectronicStateModel, list[Atoms]]]:
    """The models that ship and the last frames of their molecule's file."""
    for name in list_models():
        molecule = name.split("-")[0]
        if molecule == "water":  # trained on structures of its own
            frames = [rattled("H2O", seed) for seed in range(nframes)]
        else:
            frames = frames_of(molecule)[-nframes:]
        yield name, load_model(model_path(name)).model, frames


def trained(family: str, nsteps: int, frames: Sequence[Atoms]) -> ElectronicStateModel:
    """A model of a family after so many steps on a few geometries, in double precision."""
    numbers = numbers_of(frames[0])
    torch.manual_seed(0)
    model = build_model(family, LevelOfTheory(basis="sto-3g"), tuple(sorted(set(numbers))), {})
    rate = model.learning_rate
    optimiser = OptimiserConfig(learning_rate=rate, final_learning_rate=0.1 * rate, warmup_steps=10)
    updater = WeightUpdater(model, optimiser, ThreadMap())
    with torch.no_grad():
        geometry = prepare(
            molecule_of(model, numbers), torch.cat([bohr(atoms) for atoms in frames])
        )
    for step in range(nsteps):
        updater.update([geometry], step / max(1, nsteps))
    return updater.model.double().eval().requires_grad_(False)


def change(model: ElectronicStateModel, frames: Sequence[Atoms]) -> Change:
    """Energy and forces at each frame with the network in double and in single precision."""
    found = Change()
    single = copy.deepcopy(model).float()
    to_meV = 1e3 * EV_PER_ANGSTROM_PER_ATOMIC_FORCE
    for atoms in frames:
        molecule = molecule_of(model, numbers_of(atoms))
        results, seconds = [], []
        for side in (model, single):
            start = time.process_time()
            results.append(single_point(side, molecule, bohr(atoms)))
            seconds.append(time.process_time() - start)
        exact, rounded = results
        assert exact.forces is not None
        assert rounded.forces is not None
        found.energies.append(float((exact.energy - rounded.energy).abs()))
        found.forces.append(to_meV * float((exact.forces - rounded.forces).abs().max()))
        largest = to_meV * float(exact.forces.abs().max())
        found.largest_force = max(found.largest_force, largest)
        found.widths.append(float(exact.bracket.width))
        found.seconds.append((seconds[0], seconds[1]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each model."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--frames", type=int, default=6, help="that each model is asked about")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 200], help="of training")
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    options = parser.parse_args(arguments)
    use_threads(1)
    print(f"{'':<30}{'bracket':>10}{'max |dE|':>11}{'max |dF|':>11}{'max |F|':>10}{'CPU, ms':>16}")
    print(f"{'':<30}{'µEh':>10}{'Eh':>11}{'meV/Å':>11}{'meV/Å':>10}{'double  single':>16}")
    for name, model, frames in shipped(options.frames):
        _print(name, change(model, frames))
    frames = ethanol(_TRAINED_ON + options.frames)
    for family in options.families:
        for nsteps in options.steps:
            model = trained(family, nsteps, frames[:_TRAINED_ON])
            _print(f"{family}, {nsteps} steps", change(model, frames[_TRAINED_ON:]))
    return 0


def _print(name: str, found: Change) -> None:
    double, single = 1e3 * np.median(np.array(found.seconds), axis=0)
    width = 1e6 * float(np.mean(found.widths))
    print(
        f"{name:<30}{width:10.3g}{max(found.energies):11.1e}{max(found.forces):11.1e}"
        f"{found.largest_force:10.0f}{double:9.0f}{single:7.0f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
