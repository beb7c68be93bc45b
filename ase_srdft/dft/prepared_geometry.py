"""What Kohn-Sham theory needs at given nuclei: integrals, grid, orthogonaliser, guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.grid.molecular_grid import Grid
from ase_srdft.dft.integrals.provider import Integrals
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.xc.quadrature import Quadrature

__all__ = [
    "Geometry",
    "concatenate",
    "detached",
    "from_tensors",
    "select",
    "to_tensors",
]

#: The tensors of a geometry itself, besides its integrals and its grid.
_OWN = ("positions", "orthogonaliser", "guess_fock", "guess_step", "guess_changes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """A batch of geometries of one molecule, ready to evaluate states on.

    If the positions require gradients, so does everything that follows from them.

    Attributes:
        molecule: what does not depend on the positions.
        positions: nuclei (Bohr).
        integrals: as the level of theory needs them.
        grid: quadrature.
        orthogonaliser: X = S^(-1/2).
        guess_fock: F_guess(R) (Hartree), its quadrature on the coarse grid.
        guess_step: the undamped Roothaan step that is part of it (Hartree), if there is one.
        guess_changes: what a model of a potential reads of the guess
            (`ase_srdft.dft.guess_fock.guess_changes`).
    """

    molecule: Molecule
    positions: Float[Tensor, "batch natoms 3"]
    integrals: Integrals
    grid: Grid
    orthogonaliser: Float[Tensor, "batch nao nao"]
    guess_fock: Float[Tensor, "batch nao nao"]
    guess_step: Float[Tensor, "batch nao nao"] | None = None
    guess_changes: Float[Tensor, "batch 2 nchanges naux"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def quadrature(self) -> Quadrature:
        """The exchange-correlation integral of these geometries."""
        return Quadrature(
            basis=self.molecule.basis,
            functional=self.molecule.level.functional,
            positions=self.positions,
            grid=self.grid,
        )

    @property
    def nbytes(self) -> int:
        """Memory of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in to_tensors(self).values())

    def orthogonal(self, matrix: Float[Tensor, "batch nao nao"]) -> Float[Tensor, "batch nao nao"]:
        """A Fock-like matrix in the orthonormal basis, X F X."""
        return self.orthogonaliser @ matrix @ self.orthogonaliser

    def density_matrix(
        self, projector: Float[Tensor, "batch nao nao"]
    ) -> Float[Tensor, "batch nao nao"]:
        """P = 2 X Gamma X, spin-summed."""
        return 2.0 * self.orthogonaliser @ projector @ self.orthogonaliser

    def projector(
        self, density_matrix: Float[Tensor, "batch nao nao"]
    ) -> Float[Tensor, "batch nao nao"]:
        """Gamma = S^(1/2) P S^(1/2) / 2, the occupied projector in Loewdin's basis."""
        root = self.integrals.overlap @ self.orthogonaliser
        return 0.5 * root @ density_matrix @ root


def to_tensors(geometry: Geometry) -> dict[str, Tensor]:
    """The numbers by name, to be sent to another process."""
    named = {f.name: getattr(geometry.integrals, f.name) for f in fields(Integrals)}
    named |= {name: getattr(geometry, name) for name in _OWN}
    named["weights"] = geometry.grid.weights
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def from_tensors(molecule: Molecule, tensors: dict[str, Tensor], grid_level: int) -> Geometry:
    """The geometry of a molecule on a grid that `to_tensors` gave these numbers of."""
    template = molecule.grid_template(grid_level, tensors["weights"].device)
    own: dict[str, Any] = {name: tensors.get(name) for name in _OWN}
    integrals = {f.name: tensors.get(f.name) for f in fields(Integrals)}
    return Geometry(
        molecule=molecule,
        integrals=Integrals(**integrals),  # type: ignore[arg-type]
        grid=Grid(template=template, weights=tensors["weights"]),
        **own,
    )


def _mapped(geometry: Geometry, change: Callable[[Tensor], Tensor]) -> Geometry:
    """The geometry with every tensor changed."""
    changed = {name: change(tensor) for name, tensor in to_tensors(geometry).items()}
    return from_tensors(geometry.molecule, changed, geometry.grid.template.level)


def detached(geometry: Geometry) -> Geometry:
    """The same numbers without their history, and without what only its derivatives need."""
    plain = _mapped(geometry, Tensor.detach)
    return replace(plain, integrals=plain.integrals.detached())


def concatenate(geometries: Sequence[Geometry]) -> Geometry:
    """One batch from several of the same molecule (and the same grid).

    Raises:
        ValueError: some of them have lost what their derivatives need, others not.
    """
    if len(geometries) == 1:
        return geometries[0]
    parts = [to_tensors(geometry) for geometry in geometries]
    if any(part.keys() != parts[0].keys() for part in parts):
        raise ValueError("geometries with and without their history do not make one batch")
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return from_tensors(geometries[0].molecule, joined, geometries[0].grid.template.level)


def select(geometry: Geometry, index: slice) -> Geometry:
    """Some geometries of a batch, as views."""
    return _mapped(geometry, lambda tensor: tensor[index])
