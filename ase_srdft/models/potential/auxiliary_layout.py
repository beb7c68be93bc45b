"""Auxiliary functions of atoms as equivariant tensors of one scale.

Functions of one l on one atom overlap strongly.  With their one-centre Coulomb metric
M_l = L L^T, the network writes y with u = L^-T y, and reads L^T d of a fitted density and L^-1 w
of a potential: unit vectors of all of these have unit Coulomb energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ase_srdft.dft.basis.auxiliary_basis import auxiliary_shells
from ase_srdft.dft.basis.element_basis import lone_atom
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.layers.spherical_tensors import ncomponents

__all__ = ["ATOM_LMAX", "AuxiliaryLayout", "auxiliary_layout", "functions_per_momentum"]

#: Highest l of the functions that are written and read.
ATOM_LMAX = 2
#: Where component m = -l ... l of a shell stands in PySCF's order: p is (x, y, z).
_COMPONENTS = {0: (0,), 1: (1, 2, 0), 2: tuple(range(5))}
#: Relative size of what is added to a nearly singular one-centre metric.
_REGULARISATION = 1.0e-10


@lru_cache(maxsize=64)
def _functions(name: str, number: int) -> dict[int, np.ndarray]:
    """For each l up to ``ATOM_LMAX``: where its functions stand on the atom, (nfunctions, 2l+1)."""
    places: dict[int, list[np.ndarray]] = {}
    start = 0
    for shell in auxiliary_shells((number,), name):
        if shell.angular <= ATOM_LMAX:
            components = start + np.array(_COMPONENTS[shell.angular])
            places.setdefault(shell.angular, []).append(components)
        start += 2 * shell.angular + 1
    return {angular: np.array(own) for angular, own in places.items()}


def functions_per_momentum(name: str, numbers: tuple[int, ...]) -> int:
    """The most functions of one l that an atom of these elements has, up to ``ATOM_LMAX``."""
    return max(len(own) for number in numbers for own in _functions(name, number).values())


@lru_cache(maxsize=256)
def _tables(name: str, number: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """L^T and L^-1 from the functions of an atom to (component, function of its l) of a tensor.

    Functions beyond ``ATOM_LMAX`` are left out at the end: PySCF has them last.
    """
    metric = lone_atom(name, number).intor("int2c2e")
    of_atom = _functions(name, number)
    size = sum(own.size for own in of_atom.values())
    densities, potentials = (np.zeros((ncomponents(ATOM_LMAX), width, size)) for _ in range(2))
    for angular, own in of_atom.items():
        block = metric[np.ix_(own[:, 0], own[:, 0])]
        scale = _REGULARISATION * np.trace(block) / len(block)
        factor = np.linalg.cholesky(block + scale * np.eye(len(block)))
        inverse = np.linalg.inv(factor)
        for component in range(2 * angular + 1):
            row, columns = angular**2 + component, own[:, component]
            densities[row, : len(own), columns] = factor
            potentials[row, : len(own), columns] = inverse.T
    return densities, potentials


@dataclass(frozen=True, kw_only=True, eq=False)
class AuxiliaryLayout:
    """A molecule's auxiliary functions, atom by atom, all atoms padded to the same number.

    Attributes:
        places: where each function of each atom stands among all; naux for one that is not there.
        own: where each function that the network knows stands among ``places``, flattened, and
            the functions these are.
        densities: L^T, from fitted densities to tensors.
        potentials: L^-1, from potentials to tensors; its transpose takes tensors to u.
        elements: which of the model's elements each atom is, as a row of the unit matrix.
    """

    places: Int[Tensor, "natoms nfunctions"]
    own: tuple[Int[Tensor, " nknown"], Int[Tensor, " nknown"]]
    naux: int
    densities: Float[Tensor, "natoms ncomponents width nfunctions"]
    potentials: Float[Tensor, "natoms ncomponents width nfunctions"]
    elements: Float[Tensor, "natoms nelements"]

    def read(
        self, changes: Float[Tensor, "batch 2 n naux"]
    ) -> Float[Tensor, "batch natoms ncomponents channels"]:
        """Potentials and densities (`guess_changes`) as tensors, 2 * n * width channels."""
        padded = torch.cat([changes, changes.new_zeros((*changes.shape[:-1], 1))], -1)
        by_atom = padded[..., self.places]  # (batch, 2, n, natoms, nfunctions)
        tables = torch.stack([self.potentials, self.densities])
        tensors = torch.einsum("bknaf,kacwf->backnw", by_atom, tables)
        return tensors.flatten(3)

    def coefficients(
        self, tensors: Float[Tensor, "batch natoms ncomponents width"]
    ) -> Float[Tensor, "batch naux"]:
        """u = L^-T y."""
        by_atom = torch.einsum("bacw,acwf->baf", tensors, self.potentials)
        sources, targets = self.own
        result = by_atom.new_zeros((len(tensors), self.naux))
        return result.index_copy(1, targets, by_atom.flatten(1)[:, sources])


@lru_cache(maxsize=128)
def auxiliary_layout(
    molecule: Molecule, elements: tuple[int, ...], width: int, device: torch.device
) -> AuxiliaryLayout:
    """The layout of a molecule.

    Args:
        molecule: with a ``potential_basis``.
        elements: that the model knows, in its order.
        width: functions of one l that a tensor has room for.
        device: where the tensors are to be.
    """
    name = molecule.potential_basis
    assert name is not None
    sizes = np.zeros(molecule.natoms, dtype=np.int64)
    for shell in molecule.potential_shells:
        sizes[shell.atom] += 2 * shell.angular + 1
    starts, naux = np.cumsum([0, *sizes[:-1]]), int(sizes.sum())
    tables = [_tables(name, number, width) for number in molecule.numbers]
    nfunctions = max(density.shape[-1] for density, _ in tables)
    places = np.full((molecule.natoms, nfunctions), naux)
    stacked = np.zeros((2, molecule.natoms, ncomponents(ATOM_LMAX), width, nfunctions))
    for atom, both in enumerate(tables):
        known = both[0].shape[-1]
        places[atom, :known] = starts[atom] + np.arange(known)
        stacked[:, atom, ..., :known] = both
    flat = torch.as_tensor(places.ravel())
    sources = (flat < naux).nonzero()[:, 0]
    rows = [elements.index(number) for number in molecule.numbers]
    return AuxiliaryLayout(
        places=torch.as_tensor(places, device=device),
        own=(sources.to(device), flat[sources].to(device)),
        naux=naux,
        densities=torch.as_tensor(stacked[0], device=device),
        potentials=torch.as_tensor(stacked[1], device=device),
        elements=torch.eye(len(elements), dtype=torch.float64, device=device)[rows],
    )
