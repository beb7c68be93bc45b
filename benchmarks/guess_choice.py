"""Which guess Fock matrix to correct, and what the network's reading of it is worth.

First the guesses themselves: the bracket of the aufbau state of F0 + d (F[P0] - F0), F0 that of
superposed atoms, for several d, on held-out frames of the paper's molecules, and the same for the
mixing of the QPT family's three iterations from there (d = 0).  Then training, if there are any
--guesses: one model from each guess, with and without the guess's matrices among the network's
input, on the same frames for the same time, geometry preparation included; the certified error
(mean bracket width on the last 60 frames, level-1 grid); and the time of energy and forces of all
of them, interleaved, in the same run.

    python benchmarks/guess_choice.py --minutes 5 --guesses roothaan minao minao-unread sap
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from _common import HELD_OUT, frames_of, timing_parser

from ase_srdft.common.units import MICROHARTREE
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.guess_fock import DAMPING
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import GUESSES
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.models.model_file import build_model
from ase_srdft.models.single_point import single_point
from ase_srdft.training.config import OptimiserConfig, TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.trainer import Trainer

DAMPINGS = (0.0, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 1.0)
MIXINGS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
#: Molecules, and frames of each, that the guesses alone are looked at; PBE in these bases.
BASES = {"ethanol": "6-31g", "malonaldehyde": "6-31g", "uracil": "sto-3g"}
FEW = 4


@torch.no_grad()
def few_frames(name: str, guess: str) -> Geometry:
    """Some held-out frames of a molecule, prepared."""
    level = LevelOfTheory(basis=BASES[name])
    dataset = Dataset.of([], frames_of(name)[-HELD_OUT :: HELD_OUT // FEW])
    (molecule,) = dataset.molecules([level], guess)
    return prepare(molecule, torch.as_tensor(np.array([each for _, each in dataset.frames])))


@torch.no_grad()
def damped_width(geometry: Geometry, damping: float) -> float:
    """Mean bracket (Hartree) of a damped Roothaan step."""
    assert geometry.guess_step is not None
    fock = geometry.guess_fock + (damping - DAMPING) * geometry.guess_step
    projector, _, _ = occupied_projector(geometry.orthogonal(fock), geometry.molecule.nocc)
    return mean_width(geometry, geometry.density_matrix(projector))


@torch.no_grad()
def mixed_width(geometry: Geometry, mixing: float) -> float:
    """Mean bracket (Hartree) of an untrained QPT model, which adds nothing to its iterations."""
    molecule = geometry.molecule
    elements = tuple(sorted(set(molecule.numbers)))
    settings = {"mixing": mixing, "features": 8, "layers": 1, "orbital_layers": 1}
    model = build_model("qpt", molecule.level, elements, settings)
    return mean_width(geometry, model([geometry])[0].density_matrix)


def mean_width(geometry: Geometry, density_matrix: torch.Tensor) -> float:
    """Mean bracket (Hartree) of a state."""
    energies, matrix = kohn_sham(geometry, density_matrix)
    bracket = energy_bracket(geometry, energies.total, density_matrix, matrix)
    return float(bracket.width.mean())


def train(dataset: Dataset, choice: str, minutes: float, threads: int) -> Trainer:
    """A model from one guess, trained for so long."""
    guess, _, unread = choice.partition("-")
    config = TrainingConfig(
        model_config={"guess": guess, "reads_guess": not unread},
        self_refine=False,
        steps=1_000_000,
        minutes=minutes,
        validation_frames=HELD_OUT,
        optimiser=OptimiserConfig(batch_size=4),
        threads=threads,
    )
    trainer = Trainer(config, dataset)
    for event in trainer.run():
        if event.validation is not None:
            width = MICROHARTREE * event.validation.bracket_width
            print(f"  {choice}: step {event.step}, held out {width:.1f} uEh", flush=True)
    return trainer


def seconds(trainer: Trainer, positions: np.ndarray) -> float:
    """One evaluation of energy and forces on the level's own grid."""
    start = time.perf_counter()
    single_point(trainer.best_model(), trainer.molecules[0], torch.as_tensor(positions)[None])
    return time.perf_counter() - start


def show(
    what: str,
    guess: str,
    values: Sequence[float],
    width: Callable[[Geometry, float], float],
) -> None:
    """A table of states that nothing has been trained for."""
    print(f"mean bracket/mEh of {what}")
    print(f"{'':14s}" + "".join(f"{value:8.2f}" for value in values))
    for name in BASES:
        geometry = few_frames(name, guess)
        widths = (f"{1e3 * width(geometry, value):8.1f}" for value in values)
        print(f"{name:14s}" + "".join(widths), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, time, print the tables."""
    parser = timing_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    choices = [*GUESSES, *(f"{guess}-unread" for guess in GUESSES)]
    default = ["roothaan", "minao", "minao-unread", "sap"]
    parser.add_argument("--guesses", nargs="*", choices=choices, default=default)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    show("the untrained guess; columns: damping", "roothaan", DAMPINGS, damped_width)
    show("an untrained QPT model; columns: mixing", "minao", MIXINGS, mixed_width)
    if not options.guesses:
        return 0
    dataset = Dataset.of([], frames_of("ethanol"))
    trainers = {g: train(dataset, g, options.minutes, options.threads) for g in options.guesses}
    times: dict[str, list[float]] = {guess: [] for guess in trainers}
    for repeat in range(options.repeats):
        for guess, trainer in trainers.items():
            times[guess].append(seconds(trainer, dataset.frames[-1 - repeat][1]))
    fastest = min(statistics.median(t) for t in times.values())
    print("guess          steps  certified error/uEh  energy+forces (relative)")
    for guess, trainer in trainers.items():
        width = MICROHARTREE * trainer.counters.best_width
        relative = statistics.median(times[guess]) / fastest
        print(f"{guess:14s} {trainer.updater.step:5d}  {width:19.1f}  {relative:24.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
