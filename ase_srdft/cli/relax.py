r"""``ase-srdft-relax``: the nearest minimum of a molecule, and its vibrations.

``ase run`` relaxes as well.  As of ASE 3.29 it knows calculators of ASE itself and those that were
registered by an import, and does not ask its plugins, where ours is listed (``ase info
--plugins``).  So the import comes first::

    python -c "import ase_srdft; from ase.cli.main import main; main()" \
        run srdft water.xyz -f 0.01 -p xc=PBE,basis=def2-svp -o relaxed.xyz

What it lacks, and this command has: structures by SMILES and by names, a charge that is checked, a
promise tight enough for the forces that are asked for, what the energy is worth in words, and
vibrations.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ase_srdft.cli.calculator_flags import (
    add_calculator,
    calculator_parameters,
    chosen_structure,
)
from ase_srdft.cli.common import Parser, above_zero, command_parser, positive, run_command
from ase_srdft.cli.frames import with_progress
from ase_srdft.cli.stop_request import INTERRUPTED
from ase_srdft.common.atomic_files import replace_atomically, writable_file
from ase_srdft.common.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from ase_srdft.dynamics.normal_modes import NormalModes

__all__ = ["main"]

_DESCRIPTION = """\
Move a molecule to the nearest minimum of its Kohn-Sham energy, by forces that
are those of the SCF to within a fifth of --fmax at least, and write it with
energy, forces and what they are worth.  With --frequencies also the harmonic
vibrations there, the zero-point energy, and each mode as a frame of an
extended xyz file (columns mode, in its comment frequency_per_cm)."""
_EPILOG = """\
examples:
  ase-srdft-relax smiles:CCO -o ethanol.xyz
      ethanol, with the general model
  ase-srdft-relax guess.xyz --xc B3LYP --frequencies -o relaxed.xyz
      with vibrations, in relaxed-modes.xyz

Exit codes: 0 done, 1 failed or not converged, 2 bad input, 75 interrupted."""
_PROGRAM = "ase-srdft-relax"
_OPTIMISERS = ("model-BFGS", "BFGS", "FIRE")
#: Of the largest force that is left, what it may be wrong by.
_SHARE_OF_FMAX = 0.2
_SUFFIXES = (".xyz", ".extxyz")
#: Displacement (Å) of finite differences, and what forces there may be wrong by (eV/Å).
_STEP, _FINE_FORCES = 0.01, 1e-4


def _parser() -> Parser:
    parser = command_parser(_PROGRAM, _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "structure", metavar="STRUCTURE", help="any format of ASE, smiles:CCO, or g2:CH3OH"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.xyz", help="in extended xyz"
    )
    group = parser.add_argument_group("relaxation")
    group.add_argument(
        "--fmax",
        type=above_zero,
        default=0.01,
        metavar="FLOAT",
        help="largest force on an atom that is left (eV/Å) (default: %(default)s)",
    )
    group.add_argument(
        "--optimiser",
        choices=_OPTIMISERS,
        default=_OPTIMISERS[0],
        help="BFGS from a model Hessian, or ASE's (default: %(default)s)",
    )
    group.add_argument(
        "--steps", type=positive, default=500, metavar="N", help="at most (default: %(default)s)"
    )
    group.add_argument(
        "--trajectory", type=Path, metavar="FILE.traj", help="every geometry on the way"
    )
    group.add_argument("--frequencies", action="store_true", help="vibrations at the end")
    add_calculator(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    # the calculator's threads share the kernels; loops inside operations would get in their way
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return run_command(_parser(), _relax, arguments)


def _relax(options: argparse.Namespace) -> int:
    import torch
    from ase.calculators.calculator import CalculationFailed, SCFError

    torch.set_num_threads(1)
    _check_files(options)
    atoms = _structure(options)
    try:
        try:
            converged = _descend(atoms, options)
        except KeyboardInterrupt:
            _write(options.output, [_without_results(atoms)])
            where = f"the geometry so far is in {options.output}; go on from there"
            print(f"{_PROGRAM}: interrupted: {where}", file=sys.stderr)
            return INTERRUPTED
        _write(options.output, [_with_results(atoms)])
        print(f"energy: {atoms.get_potential_energy():.6f} eV")
        print(atoms.calc.certificate)
        print(f"structure: {options.output}")
        if not converged:
            print(
                f"{_PROGRAM}: error: not converged in {options.steps} steps: the last geometry is "
                f"in {options.output}; go on from there, or with --optimiser FIRE",
                file=sys.stderr,
            )
            return 1
        if options.frequencies:
            _show_modes(atoms, _modes_beside(options.output))
    except (CalculationFailed, SCFError) as err:
        print(f"{_PROGRAM}: error: {err}", file=sys.stderr)
        return 1
    finally:
        atoms.calc.close()
    return 0


def _modes_beside(output: Path) -> Path:
    return output.with_name(f"{output.stem}-modes.xyz")


def _check_files(options: argparse.Namespace) -> None:
    """Make sure, before the work, that results can be written, and over nothing that is read.

    Raises:
        BadInput: they cannot.
    """
    if options.output.suffix not in _SUFFIXES:
        raise BadInput(f"{options.output}: the structure is written as .xyz or .extxyz, give one")
    wanted = [options.output, options.trajectory]
    wanted += [_modes_beside(options.output)] if options.frequencies else []
    for path in filter(None, wanted):
        writable_file(path)
        if path.exists() and Path(options.structure).exists() and path.samefile(options.structure):
            raise BadInput(f"{path} is the structure to begin with: give another file")


def _structure(options: argparse.Namespace) -> Atoms:
    from ase_srdft.calculator.srdft_calculator import SRDFTCalculator

    parameters = calculator_parameters(options)
    atoms = chosen_structure(options.structure, parameters["charge"])
    tight = min(parameters["max_force_error"], _SHARE_OF_FMAX * options.fmax)
    atoms.calc = SRDFTCalculator(**(parameters | {"max_force_error": tight}))
    level = atoms.calc.todict()["level"]
    print(f"{atoms.get_chemical_formula()} ({options.structure}) at {level}", flush=True)
    return atoms


def _descend(atoms: Atoms, options: argparse.Namespace) -> bool:
    """Relax, with a line for each step; whether it has converged."""
    from ase import optimize

    from ase_srdft.dynamics.model_hessian_bfgs import ModelHessianBFGS

    own = options.optimiser == _OPTIMISERS[0]
    optimiser = ModelHessianBFGS if own else getattr(optimize, options.optimiser)
    trajectory = None if options.trajectory is None else str(options.trajectory)
    with optimiser(atoms, logfile="-", trajectory=trajectory) as descent:
        return bool(descent.run(fmax=options.fmax, steps=options.steps))


def _with_results(atoms: Atoms) -> Atoms:
    """A copy with the energy, forces and the certificate of the atoms, and no more."""
    from ase.calculators.singlepoint import SinglePointCalculator

    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    kept: Atoms = atoms.copy()
    kept.calc = SinglePointCalculator(kept, energy=energy, free_energy=energy, forces=forces)
    return kept


def _without_results(atoms: Atoms) -> Atoms:
    """A copy of a geometry of which nothing is known yet."""
    kept: Atoms = atoms.copy()
    kept.info = {k: value for k, value in atoms.info.items() if not str(k).startswith("srdft_")}
    return kept


def _write(path: Path, frames: list[Atoms]) -> None:
    from ase.io import write

    replace_atomically(path, lambda beside: write(beside, frames, format="extxyz"))


def _show_modes(atoms: Atoms, path: Path) -> None:
    from ase_srdft.dynamics.normal_modes import displaced, normal_modes

    atoms.calc.set(max_force_error=min(_FINE_FORCES, atoms.calc.parameters["max_force_error"]))
    images = displaced(atoms, _STEP)
    forces = list(with_progress(_forces_of(images, atoms), len(images)))
    found = normal_modes(atoms, forces, _STEP)
    print("vibrations in 1/cm (i: imaginary):")
    words = [f"{abs(f):8.1f}{'i' if f < 0.0 else ' '}" for f in found.frequencies_per_cm]
    for first in range(0, len(words), 6):
        print("".join(words[first : first + 6]).rstrip())
    print(f"zero-point energy: {found.zero_point_energy_eV:.4f} eV")
    if found.nimaginary:
        print(f"{_PROGRAM}: {found.nimaginary} imaginary: no minimum", file=sys.stderr)
    _write(path, _mode_frames(atoms, found))
    print(f"modes: {path}")


def _forces_of(images: Sequence[Atoms], atoms: Atoms) -> Iterator[np.ndarray]:
    """As many at once as there are threads."""
    size = max(1, atoms.calc.parameters["threads"])
    for start in range(0, len(images), size):
        for results in atoms.calc.evaluate_batch(images[start : start + size]):
            yield results["forces"]


def _mode_frames(atoms: Atoms, found: NormalModes) -> list[Atoms]:
    frames = []
    for frequency, mode in zip(found.frequencies_per_cm, found.modes, strict=True):
        frame = atoms.copy()
        frame.info = {"frequency_per_cm": float(frequency)}
        frame.new_array("mode", mode)
        frames.append(frame)
    return frames


if __name__ == "__main__":
    sys.exit(main())
