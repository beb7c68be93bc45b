"""How many steps a relaxation takes, with ASE's BFGS and with the model Hessian to begin with.

    python benchmarks/relaxation_steps.py
    python benchmarks/relaxation_steps.py --structures ibuprofen --xc PBE --basis def2-svp

Molecules by SMILES, as the force field left them, to forces of --fmax; which minimum is reached is
the optimiser's affair, so its energy is shown beside.
"""

from __future__ import annotations

from collections.abc import Sequence

from _common import benchmark_parser, use_threads
from ase.optimize import BFGS
from throughput_bench import STRUCTURES

from ase_srdft import ModelHessianBFGS, SRDFTCalculator
from ase_srdft.common.structures import read_frames

NAMES = (
    "smiles:CO",
    "smiles:CCO",
    "smiles:CC(=O)N",
    "smiles:NCC(=O)O",
    "smiles:O=c1cc[nH]c(=O)[nH]1",
    "smiles:CC(=O)Nc1ccc(O)cc1",
    "aspirin",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Relax and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--structures", nargs="+", default=list(NAMES))
    parser.add_argument("--xc", default="LDA")
    parser.add_argument("--basis", default="sto-3g")
    parser.add_argument("--fmax", type=float, default=0.01, help="eV/Å")
    options = parser.parse_args(arguments)
    use_threads(1)
    print("| structure | atoms | ASE's BFGS: steps | energy / eV | model Hessian: steps | energy |")
    print(6 * "| --- " + "|")
    for name in options.structures:
        path = STRUCTURES / f"{name}.xyz"
        cells = []
        for optimiser in (BFGS, ModelHessianBFGS):
            atoms = read_frames(path if path.is_file() else name)[0]
            atoms.calc = SRDFTCalculator(xc=options.xc, basis=options.basis)
            with optimiser(atoms, logfile=None) as relaxation:
                relaxation.run(fmax=options.fmax, steps=500)
            cells.append(f"{relaxation.nsteps} | {atoms.get_potential_energy():.4f}")
        print(f"| {name} | {len(atoms)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
