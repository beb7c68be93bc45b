"""Geometries that a molecule takes at a temperature, of the general model's potential surface.

The structure is relaxed and its Hessian H made from forces, both by the model ``organics`` as it
is, with no SCF; then come classical harmonic draws, R = R0 + sum_k sqrt(kT / h_k) xi_k v_k over the
eigenvectors of H that are no translation and no rotation.  For a model whose own level, of a
minimal basis, would not lead to the geometries of a better one.

    python benchmarks/harmonic_frames.py benchmarks/structures/uracil.xyz uracil-frames.xyz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _common import benchmark_parser, use_threads
from ase import Atoms, units
from ase.io import write
from ase.optimize import BFGS
from ase.vibrations import Vibrations
from jaxtyping import Float

from ase_srdft import SRDFTCalculator
from ase_srdft.common.connectivity import same_connectivity
from ase_srdft.common.structures import read_frames


def unit_displacements(atoms: Atoms) -> Float[np.ndarray, "modes natoms 3"]:
    """v_k / sqrt(h_k), in Å / sqrt(eV), of a relaxed molecule that is not linear."""
    with TemporaryDirectory() as folder:
        vibrations = Vibrations(atoms, name=str(Path(folder) / "vibrations"))
        vibrations.run()
        hessian = vibrations.get_vibrations().get_hessian_2d()
    values, vectors = np.linalg.eigh(hessian)
    # Moved or turned as a whole, a molecule costs nothing: the six curvatures nearest to zero.
    inner = np.sort(np.argsort(np.abs(values))[6:])
    values, vectors = values[inner], vectors[:, inner]
    if values[0] <= 0.0:
        raise SystemExit(f"not a minimum: a curvature of {values[0]:.2g} eV/Å²")
    print(f"softest: {values[0]:.2f} eV/Å², stiffest: {values[-1]:.0f} eV/Å²")
    displacements: np.ndarray = (vectors / np.sqrt(values)).T.reshape(-1, len(atoms), 3)
    return displacements


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the frames."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("structure")
    parser.add_argument("output", help="extxyz")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--temperature", type=float, default=500.0, help="in K")
    parser.add_argument("--xc", default="PBE")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    use_threads(1)

    atoms = read_frames(options.structure)[0]
    atoms.calc = SRDFTCalculator("organics", xc=options.xc, basis=options.basis, max_error=None)
    with BFGS(atoms) as relaxation:
        if not relaxation.run(fmax=0.005, steps=200):
            raise SystemExit("not relaxed in 200 steps: give a structure nearer to the minimum")
    modes = unit_displacements(atoms)

    draws = np.random.default_rng(options.seed).standard_normal((options.count, len(modes)))
    moves = np.sqrt(units.kB * options.temperature) * np.tensordot(draws, modes, axes=1)
    positions = atoms.positions + moves
    kept = positions[same_connectivity(atoms.numbers, atoms.positions, positions)]
    atoms.calc = None
    frames = [atoms.copy() for _ in kept]
    for frame, one in zip(frames, kept, strict=True):
        frame.positions = one
    write(options.output, frames, format="extxyz")
    print(f"{options.output}: {len(kept)} of {options.count} geometries, the others broke a bond")


if __name__ == "__main__":
    main()
