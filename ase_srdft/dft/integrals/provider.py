"""Integrals as differentiable operations with a provider behind them.

A provider knows how to evaluate the integrals of one geometry and their vector-Jacobian product
by the nuclei for any cotangent.  Everything above it is torch.  libcint is the first provider
(:mod:`ase_srdft.dft.integrals.libcint`); a batched one on a GPU can take its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.integrals.cotangent_tape import CotangentTape, CoulombCotangent
from ase_srdft.dft.kernels.arrays import as_array

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
        metric: (Q | Q'); None where nothing is to be differentiated.
        metric_factor: L of its Cholesky decomposition L L^T, detached.
        cotangent_slots: where Coulomb nodes leave what belongs to (mu nu | Q) and the metric
            (:mod:`ase_srdft.dft.integrals.cotangent_tape`); None where they are differentiated
            as arrays, or not at all.
        four_center: (mu nu | lambda sigma) (Hartree).
    """

    overlap: Float[Tensor, "batch nao nao"]
    core_hamiltonian: Float[Tensor, "batch nao nao"]
    guess_overlap: Float[Tensor, "batch nao nminimal"] | None = None
    guess_potential: Float[Tensor, "batch nao nao"] | None = None
    three_center: Float[Tensor, "batch npair naux"] | None = None
    metric: Float[Tensor, "batch naux naux"] | None = None
    metric_factor: Float[Tensor, "batch naux naux"] | None = None
    cotangent_slots: Float[Tensor, "batch nslots"] | None = None
    four_center: Float[Tensor, "batch nao nao nao nao"] | None = None


@runtime_checkable
class IntegralProvider(Protocol):
    """Evaluates integrals of one molecule.

    Attributes:
        names: which fields of :class:`Integrals` it gives.
    """

    names: tuple[str, ...]

    @property
    def takes_terms(self) -> bool:
        """Whether :meth:`pull_back` also takes the cotangents that Coulomb nodes leave."""
        ...

    def evaluate(self, positions: Float[np.ndarray, "natoms 3"]) -> Arrays:
        """The integrals at one geometry (Bohr), by name."""
        ...

    def pull_back(
        self,
        positions: Float[np.ndarray, "natoms 3"],
        cotangents: Arrays,
        terms: Sequence[CoulombCotangent] = (),
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei of ``sum(cotangent * integral)``, any cotangents, by name."""
        ...


class _IntegralOperation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, provider: IntegralProvider) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        coordinates = as_array(positions.cpu())
        arrays = [provider.evaluate(geometry) for geometry in coordinates]
        ctx.provider, ctx.coordinates, ctx.device = provider, coordinates, positions.device
        tensors = [
            torch.as_tensor(np.stack([a[name] for a in arrays]), device=positions.device)
            for name in provider.names
        ]
        ctx.tapes = [CotangentTape() for _ in coordinates] if provider.takes_terms else []
        if ctx.tapes:
            tensors.append(torch.cat([tape.slots() for tape in ctx.tapes]).to(positions.device))
        return tuple(tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor, None]:
        names: tuple[str, ...] = ctx.provider.names
        given = {
            name: cotangent.cpu().numpy()
            for name, cotangent in zip(names, cotangents, strict=False)
            if cotangent is not None
        }
        by_slots = cotangents[len(names)] if ctx.tapes else None
        gradients = []
        for i, geometry in enumerate(ctx.coordinates):
            own = {name: cotangent[i] for name, cotangent in given.items()}
            terms = [] if by_slots is None else ctx.tapes[i].taken(by_slots[i].cpu())
            gradients.append(ctx.provider.pull_back(geometry, own, terms))
        return torch.as_tensor(np.stack(gradients), device=ctx.device), None


def evaluate_integrals(
    positions: Float[Tensor, "batch natoms 3"], provider: IntegralProvider
) -> Integrals:
    """Integrals at a batch of geometries (Bohr), differentiable in the positions.

    Raises:
        BadInput: atoms so close that their auxiliary functions are the same.
    """
    tensors: tuple[Tensor, ...] = _IntegralOperation.apply(positions, provider)  # type: ignore[no-untyped-call]
    named: dict[str, Tensor | None] = dict(zip(provider.names, tensors, strict=False))
    metric = named.get("metric")
    if metric is not None:
        factor, failures = torch.linalg.cholesky_ex(metric.detach())
        if bool(failures.any()):
            raise BadInput(
                "the metric of the auxiliary functions is singular: atoms too close together or a "
                "linearly dependent basis"
            )
        named["metric_factor"] = factor
        if not metric.requires_grad:
            named["metric"] = None
        elif len(tensors) > len(provider.names):
            named["cotangent_slots"] = tensors[-1]
    return Integrals(**named)  # type: ignore[arg-type]
