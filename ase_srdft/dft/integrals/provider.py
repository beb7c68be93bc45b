"""Integrals as differentiable operations with a provider behind them.

A provider knows how to evaluate the integrals of one geometry and their vector-Jacobian product
by the nuclei for any cotangent.  Everything above it is torch.  libcint is the first provider
(:mod:`ase_srdft.dft.integrals.libcint`); a batched one on a GPU can take its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["IntegralProvider", "Integrals", "evaluate_integrals"]

Arrays = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Integrals:
    """Integrals of a batch of geometries of one molecule; those not needed are None.

    Attributes:
        overlap: S.
        core_hamiltonian: h = T + V_ne (Hartree).
        guess_overlap: S between the basis and the minimal basis (``minao``, ``roothaan``).
        guess_potential: superposition of atomic potentials (guess ``sap``, Hartree).
        three_center: (mu nu | Q), mu >= nu packed by rows (Hartree).
        metric: (Q | Q').
        four_center: (mu nu | lambda sigma) (Hartree).
    """

    overlap: Float[Tensor, "batch nao nao"]
    core_hamiltonian: Float[Tensor, "batch nao nao"]
    guess_overlap: Float[Tensor, "batch nao nminimal"] | None = None
    guess_potential: Float[Tensor, "batch nao nao"] | None = None
    three_center: Float[Tensor, "batch npair naux"] | None = None
    metric: Float[Tensor, "batch naux naux"] | None = None
    four_center: Float[Tensor, "batch nao nao nao nao"] | None = None


@runtime_checkable
class IntegralProvider(Protocol):
    """Evaluates integrals of one molecule.

    Attributes:
        names: which fields of :class:`Integrals` it gives.
    """

    names: tuple[str, ...]

    def evaluate(self, positions: Float[np.ndarray, "natoms 3"]) -> Arrays:
        """The integrals at one geometry (Bohr), by name."""
        ...

    def pull_back(
        self, positions: Float[np.ndarray, "natoms 3"], cotangents: Arrays
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei of ``sum(cotangent * integral)``, any cotangents, by name."""
        ...


class _IntegralOperation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, provider: IntegralProvider) -> tuple[Tensor, ...]:
        coordinates = positions.detach().cpu().numpy()
        arrays = [provider.evaluate(geometry) for geometry in coordinates]
        ctx.provider, ctx.coordinates, ctx.device = provider, coordinates, positions.device
        return tuple(
            torch.as_tensor(np.stack([a[name] for a in arrays]), device=positions.device)
            for name in provider.names
        )

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor, None]:
        given = {
            name: cotangent.cpu().numpy()
            for name, cotangent in zip(ctx.provider.names, cotangents, strict=True)
            if cotangent is not None
        }
        gradients = [
            ctx.provider.pull_back(geometry, {name: c[i] for name, c in given.items()})
            for i, geometry in enumerate(ctx.coordinates)
        ]
        return torch.as_tensor(np.stack(gradients), device=ctx.device), None


def evaluate_integrals(
    positions: Float[Tensor, "batch natoms 3"], provider: IntegralProvider
) -> Integrals:
    """Integrals at a batch of geometries (Bohr), differentiable in the positions."""
    tensors = _IntegralOperation.apply(positions, provider)  # type: ignore[no-untyped-call]
    return Integrals(**dict(zip(provider.names, tensors, strict=True)))
