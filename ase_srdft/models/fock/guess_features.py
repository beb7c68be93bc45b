"""What the guess knows of the electrons, in Loewdin's basis, as input of a network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.guess_fock import minimal_density_matrix
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector

__all__ = ["guess_matrices", "nguess_matrices"]

#: Bring the elements of the matrices to one scale: Fock matrix (Hartree) and change of density.
_FOCK_SCALE, _CHANGE_SCALE = 0.3, 3.0


def nguess_matrices(guess: str) -> int:
    """How many matrices :func:`guess_matrices` gives."""
    return {"companion": 4, "roothaan": 4, "minao": 3, "sap": 2, "core": 2}[guess]


def guess_matrices(geometry: Geometry) -> Float[Tensor, "batch nmatrices nao nao"]:
    """Matrices of the guess, each of order one; differentiable in the nuclei.

    In this order: the guess Fock matrix; the occupied projector of its aufbau state; the
    difference of that state's density matrix from the superposed atoms' (not ``sap`` and ``core``);
    the Roothaan step F[P0] - F0, or what takes its place (``companion`` and ``roothaan``).
    """
    fock = geometry.orthogonal(geometry.guess_fock)
    projector, _, _ = occupied_projector(fock, geometry.molecule.nocc)
    matrices = [_FOCK_SCALE * fock, projector]
    if geometry.integrals.guess_overlap is not None:
        atoms = minimal_density_matrix(geometry.molecule, geometry.integrals)
        root = geometry.integrals.overlap @ geometry.orthogonaliser  # S^(1/2)
        matrices.append(_CHANGE_SCALE * (2.0 * projector - root @ atoms @ root))
    if geometry.guess_step is not None:
        matrices.append(geometry.orthogonal(geometry.guess_step))
    return torch.stack(matrices, 1)
