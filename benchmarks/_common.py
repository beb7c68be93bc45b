"""What the benchmarks share: the head of their command lines, frames, a model, equal threads."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.common.structures import read_frames
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import mean_field
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import build_model

#: Folder of the files of frames, and a molecule's file in it.
DATA = Path(os.environ.get("ASE_SRDFT_DATA", "../shared/data"))
FILES = {
    "ethanol": DATA / "rmd17_ethanol_public.npz",
    "malonaldehyde": DATA / "rmd17_malonaldehyde_public.npz",
    "uracil": DATA / "rmd17_uracil_public.npz",
    "water": DATA / "h2o_gfn2md500k_mp2_public.npz",
}
#: Frames at the end of each file that models are evaluated at.
HELD_OUT = 60


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """For a script, whose docstring is the help as it stands."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def timing_parser(description: str | None) -> argparse.ArgumentParser:
    """For a script that times its sides in turn: --threads and --repeats."""
    parser = benchmark_parser(description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=5, help="timings, of which the median counts"
    )
    return parser


def add_conv_tol(parser: argparse.ArgumentParser) -> None:
    """For a script that has PySCF on one of its sides."""
    parser.add_argument("--conv-tol", type=float, default=1e-9, help="PySCF's, in Hartree")


def use_threads(nthreads: int) -> None:
    """The same number for torch and for PySCF."""
    from pyscf import lib

    torch.set_num_threads(nthreads)
    lib.num_threads(nthreads)


def frames_of(name: str) -> list[Atoms]:
    """All frames of a molecule's file.

    Raises:
        SystemExit: it is not there.
    """
    path = FILES[name]
    if not path.is_file():
        raise SystemExit(f"no {path}: name the folder of the frames in ASE_SRDFT_DATA")
    return read_frames(path)


def ethanol(nframes: int) -> list[Atoms]:
    """Frames of rMD17 from all over its file, or ASE's molecule rattled where it is not at hand."""
    if FILES["ethanol"].is_file():
        frames = frames_of("ethanol")
        return frames[:: len(frames) // nframes][:nframes]
    return [rattled("CH3CH2OH", seed) for seed in range(nframes)]


def rattled(name: str, seed: int) -> Atoms:
    """A molecule of ASE's collection, every coordinate displaced by about 0.05 Angstrom."""
    atoms: Atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    return atoms


def numbers_of(atoms: Atoms) -> tuple[int, ...]:
    """Atomic numbers, plain."""
    return tuple(atoms.numbers.tolist())


def bohr(atoms: Atoms) -> torch.Tensor:
    """Positions (1, natoms, 3) in Bohr."""
    return torch.tensor(nuclei_of(atoms).positions)[None]


def as_numpy(positions: torch.Tensor) -> np.ndarray:
    """Positions (natoms, 3) of a batch of one."""
    return positions[0].numpy()


def pyscf_scf(
    molecule: Molecule,
    positions: torch.Tensor,
    conv_tol: float,
    *,
    forces: bool,
    density: np.ndarray | None = None,
) -> Any:
    """PySCF's converged SCF, from a density or its minao guess, and its gradient if wanted.

    Raises:
        RuntimeError: it did not converge.
    """
    scf = mean_field(molecule, as_numpy(positions))
    scf.conv_tol = conv_tol
    scf.kernel(dm0=density)
    if not scf.converged:
        raise RuntimeError(f"PySCF's SCF did not converge to {conv_tol:g} Hartree")
    if forces:
        scf.nuc_grad_method().kernel()
    return scf


def untrained(level: LevelOfTheory, atoms: Atoms, guess: str) -> ElectronicStateModel:
    """A model of the default size: what its weights are makes no difference to its speed."""
    return build_model("fock", level, tuple(sorted(set(numbers_of(atoms)))), {"guess": guess})
