"""The axes in which a network without rotation symmetry sees a molecule.

Turning a molecule by Q turns its orbitals by an orthogonal matrix U(Q): S, h and P become
``U M U^T``, exactly, so that the molecule in other axes needs no other integrals.  What is
predicted there, ``M'``, is ``U^T M' U`` here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.basis.element_basis import element_basis
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.layers.spherical_tensors import real_clebsch_gordan

__all__ = ["Frame", "orbital_rotation", "random_rotations"]

#: Rows and columns (y, z, x) of the harmonics with l = 1 from (x, y, z).
_CYCLE = [1, 2, 0]


def random_rotations(count: int, seed: int) -> Float[Tensor, "count 3 3"]:
    """Rotations evenly distributed over all, from unit quaternions; on the CPU, float64."""
    generator = torch.Generator().manual_seed(seed)
    quaternions = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    w, x, y, z = (quaternions / quaternions.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _shell_rotation(rotations: Tensor, angular: int) -> Tensor:
    """U of the orbitals of one shell, in PySCF's order: p is (x, y, z)."""
    if angular == 0:
        return torch.ones_like(rotations[:, :1, :1])
    if angular == 1:
        return rotations
    # d is what couples from two vectors, f from a vector and d: the tables are orthonormal
    vectors = rotations[:, _CYCLE][:, :, _CYCLE]
    lower = vectors if angular == 2 else _shell_rotation(rotations, angular - 1)
    table = torch.as_tensor(real_clebsch_gordan(1, angular - 1, angular), device=rotations.device)
    return torch.einsum("abm,zac,zbd,cdn->zmn", table, vectors, lower, table)


def orbital_rotation(
    molecule: Molecule, rotations: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch nao nao"]:
    """U(Q): orthogonal, one block per shell."""
    matrix = rotations.new_zeros(len(rotations), molecule.nao, molecule.nao)
    start = 0
    for number in molecule.numbers:
        for angular in element_basis(molecule.level.basis, number).angular_momenta:
            end = start + 2 * angular + 1
            matrix[:, start:end, start:end] = _shell_rotation(rotations, angular)
            start = end
    return matrix


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """Axes for a batch of geometries of one molecule.

    Attributes:
        rotations: Q of each geometry; None for the axes that the positions are given in.
        orbitals: U(Q), likewise.
    """

    rotations: Float[Tensor, "batch 3 3"] | None = None
    orbitals: Float[Tensor, "batch nao nao"] | None = None

    @classmethod
    def of(cls, molecule: Molecule, rotations: Float[Tensor, "batch 3 3"]) -> Frame:
        """The frame in which a molecule is turned."""
        return cls(rotations=rotations, orbitals=orbital_rotation(molecule, rotations))

    def vectors(self, vectors: Float[Tensor, "batch natoms 3 c"]) -> Tensor:
        """Vectors as they are seen there."""
        if self.rotations is None:
            return vectors
        return torch.einsum("zab,znbc->znac", self.rotations.to(vectors), vectors)

    def there(self, matrix: Float[Tensor, "batch nao nao"]) -> Float[Tensor, "batch nao nao"]:
        """U M U^T."""
        if self.orbitals is None:
            return matrix
        return self.orbitals @ matrix @ self.orbitals.transpose(-1, -2)

    def back(self, matrix: Float[Tensor, "batch nao nao"]) -> Float[Tensor, "batch nao nao"]:
        """U^T M' U."""
        if self.orbitals is None:
            return matrix
        return self.orbitals.transpose(-1, -2) @ matrix @ self.orbitals

    def columns_back(self, columns: Float[Tensor, "batch nao n"]) -> Float[Tensor, "batch nao n"]:
        """U^T C'."""
        return columns if self.orbitals is None else self.orbitals.transpose(-1, -2) @ columns
