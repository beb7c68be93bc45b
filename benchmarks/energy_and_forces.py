"""Energy and forces of ethanol (PBE/6-31G): a model's answer against PySCF's, in one run.

Both sides start from a bare geometry, have the same threads, level of theory, auxiliary basis
and grid (level 1), and take turns.  Ours is everything that the calculator does: integrals, grid,
guess, network, energy, certified bracket, and forces that are the full derivative, grid included.
PySCF's is a density-fitted SCF from its minao guess to --conv-tol, and its nuclear gradient
without the response of the grid, which is its default and the cheaper choice.

    python benchmarks/energy_and_forces.py
    python benchmarks/energy_and_forces.py --model ethanol-pbe-6-31g

Without --model the weights are fresh, which makes no difference to the time.  The frame is
rMD17's from the folder that ASE_SRDFT_DATA names, else ASE's molecule rattled.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from _common import (
    add_conv_tol,
    bohr,
    ethanol,
    numbers_of,
    pyscf_scf,
    timing_parser,
    untrained,
    use_threads,
)
from side_by_side import Stopwatch, median_seconds, print_seconds

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.grid.molecular_grid import build_grid
from ase_srdft.dft.guess_fock import guess_fock
from ase_srdft.dft.integrals.provider import evaluate_integrals
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import inverse_square_root
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import model_path
from ase_srdft.models.single_point import molecule_of, single_point

#: Of the models with fresh weights.
GUESSES_TIMED = ("roothaan", "minao", "sap")
BACKWARD = {
    "_IntegralOperationBackward": "backward: integrals",
    "_BeckeWeightsBackward": "backward: grid",
    "_XCPotentialBackward": "backward: potential of the guess",
}


def graph(node: torch.autograd.graph.Node) -> Iterator[torch.autograd.graph.Node]:
    """Every node of a backward graph once."""
    seen, stack = {node}, [node]
    while stack:
        node = stack.pop()
        yield node
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)


def time_nodes(energy: torch.Tensor, seconds: dict[str, float]) -> None:
    """Have the named operations of a backward pass add their time."""
    assert energy.grad_fn is not None
    for node in graph(energy.grad_fn):
        label = BACKWARD.get(node.name())
        if label is None:
            continue
        started: list[float] = []

        def start(_: object, started: list[float] = started) -> None:
            started.append(time.perf_counter())

        def stop(_: object, __: object, label: str = label, started: list[float] = started) -> None:
            seconds[label] = seconds.get(label, 0.0) + time.perf_counter() - started.pop()

        node.register_prehook(start)
        node.register_hook(stop)


def parts(model: ElectronicStateModel, molecule: Molecule, positions: torch.Tensor) -> Stopwatch:
    """One evaluation in pieces."""
    leaf = positions.clone().requires_grad_()
    geometry = prepare(molecule, leaf)
    coarse = prepare(molecule, leaf, COARSE_GRID).quadrature  # the guess's
    watch = Stopwatch()
    # once more, what preparing does
    integrals = evaluate_integrals(leaf, molecule.provider)
    watch.lap("integrals")
    build_grid(leaf, molecule.grid_template(molecule.level.grid_level, leaf.device))
    watch.lap("grid")
    orthogonaliser = inverse_square_root(integrals.overlap)
    guess_fock(molecule, integrals, coarse, orthogonaliser)
    watch.lap("guess and orthogonaliser")
    state = model([geometry])[0]
    watch.lap("network and diagonalisation")
    energies, _ = kohn_sham(geometry, state.density_matrix)
    watch.lap("energy, and its derivatives on the grid")
    total = energies.total.sum()
    named: dict[str, float] = {}
    time_nodes(total, named)
    watch.start()
    torch.autograd.grad(total, leaf)
    watch.lap("backward: network and the rest")
    watch.seconds["backward: network and the rest"] -= sum(named.values())
    watch.seconds.update(named)
    return watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both sides, print the ratio and where our time goes."""
    parser = timing_parser(__doc__)
    add_conv_tol(parser)
    parser.add_argument("--model", help="name or file of a model; default: fresh weights")
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    atoms = ethanol(1)[0]
    positions = bohr(atoms)
    if options.model is not None:
        models = [load_model(model_path(options.model)).model]
    else:
        models = [untrained(LevelOfTheory(basis="6-31g"), atoms, guess) for guess in GUESSES_TIMED]
    names = {f"ours, guess {model.guess}": model for model in models}
    molecules = {name: molecule_of(model, numbers_of(atoms)) for name, model in names.items()}
    reference = next(iter(molecules.values()))
    sides: dict[str, Callable[[], object]] = {
        "PySCF": partial(pyscf_scf, reference, positions, options.conv_tol, forces=True)
    }
    for name, model in names.items():
        sides[name] = partial(single_point, model, molecules[name], positions)
    seconds = median_seconds(sides, options.repeats)
    print(f"{reference.formula}, {reference.level}, {options.threads} thread(s), medians")
    for name, value in seconds.items():
        ratio = seconds["PySCF"] / value
        print(f"  {name:<24}{1e3 * value:9.0f} ms {ratio:7.1f} times PySCF's speed")
    for name, model in names.items():
        watches = [parts(model, molecules[name], positions) for _ in range(options.repeats)]
        fastest = min(watches, key=lambda watch: sum(watch.seconds.values()))
        print_seconds(f"where the time goes ({name})", fastest.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
