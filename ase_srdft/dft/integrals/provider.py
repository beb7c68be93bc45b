"""Integrals as differentiable operations with a provider behind them.

A provider knows how to evaluate the integrals of one geometry and their vector-Jacobian product
by the nuclei for any cotangent.  Everything above it is torch.  libcint is the first provider
(:mod:`ase_srdft.dft.integrals.libcint`); a batched one on a GPU can take its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.integrals.cotangent_tape import Cotangent, CotangentTape
from ase_srdft.dft.kernels.arrays import as_array
from ase_srdft.dft.kernels.library import wide_loops

__all__ = [
    "AUXILIARY_SETS",
    "HIGHEST_OF_POTENTIAL",
    "IntegralProvider",
    "Integrals",
    "evaluate_integrals",
]

Arrays = dict[str, NDArray[np.float64]]
#: What the fields of each auxiliary set begin with: that of the level of theory, and that of a
#: model's potential where it is another.
AUXILIARY_SETS = ("", "potential_")
#: Highest angular momentum of a set that is there for a potential alone.
HIGHEST_OF_POTENTIAL = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Integrals:
    """Integrals of a batch of geometries of one molecule; those not needed are None.

    Attributes:
        overlap: S.
        core_hamiltonian: h = T + V_ne (Hartree).
        guess_overlap: S between the basis and the minimal basis (``companion``,
            ``roothaan``, ``minao``).
        guess_potential: superposition of atomic potentials (guess ``sap``, Hartree).
        three_center: (mu nu | Q), mu >= nu packed by rows (Hartree).
        metric: (Q | Q'); None where nothing is to be differentiated.
        metric_factor: L of its Cholesky decomposition L L^T, detached.
        cotangent_slots: where nodes of Coulomb and exchange leave what belongs to (mu nu | Q) and
            the metric (:mod:`ase_srdft.dft.integrals.cotangent_tape`); None where they are
            differentiated as arrays, or not at all.
        potential_three_center: the same for the auxiliary functions of a model's potential, where
            they are others than the level of theory's; so are the next three.
        potential_metric: likewise.
        potential_metric_factor: likewise.
        potential_cotangent_slots: likewise.
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
    potential_three_center: Float[Tensor, "batch npair npotential"] | None = None
    potential_metric: Float[Tensor, "batch npotential npotential"] | None = None
    potential_metric_factor: Float[Tensor, "batch npotential npotential"] | None = None
    potential_cotangent_slots: Float[Tensor, "batch nslots"] | None = None
    four_center: Float[Tensor, "batch nao nao nao nao"] | None = None

    @property
    def leaves_no_array(self) -> bool:
        """Whether (mu nu | Q) and the metric need no derivative, or have slots for it."""
        return self.cotangent_slots is not None or self.metric is None

    @cached_property
    def orthogonalised(self) -> Float[Tensor, "batch npair naux"]:
        """B = (mu nu | Q) L^-T, detached: B B^T are the fitted four-centre integrals."""
        assert self.three_center is not None
        assert self.metric_factor is not None
        upper = self.metric_factor.transpose(1, 2)
        with wide_loops(self.overlap.shape[-1]):
            fitted: Tensor = torch.linalg.solve_triangular(
                upper, self.three_center.detach(), upper=True, left=False
            )
        return fitted

    def detached(self) -> Integrals:
        """The same numbers without their history, and without what only its derivatives need."""
        kept: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            tensor = getattr(self, name)
            history = name in {p + n for p in AUXILIARY_SETS for n in ("metric", "cotangent_slots")}
            kept[name] = None if history or tensor is None else tensor.detach()
        return Integrals(**kept)

    def of_potential(self) -> Integrals:
        """These with the auxiliary functions of a model's potential as the fitting ones."""
        if self.potential_three_center is None:
            return self
        return replace(
            self,
            three_center=self.potential_three_center,
            metric=self.potential_metric,
            metric_factor=self.potential_metric_factor,
            cotangent_slots=self.potential_cotangent_slots,
            four_center=None,
        )


@runtime_checkable
class IntegralProvider(Protocol):
    """Evaluates integrals of one molecule.

    Attributes:
        names: which fields of :class:`Integrals` it gives.
    """

    names: tuple[str, ...]

    @property
    def taped_sets(self) -> tuple[str, ...]:
        """The auxiliary sets for which :meth:`pull_back` takes what Coulomb nodes leave."""
        ...

    def evaluate(self, positions: Float[np.ndarray, "natoms 3"]) -> Arrays:
        """The integrals at one geometry (Bohr), by name."""
        ...

    def pull_back(
        self,
        positions: Float[np.ndarray, "natoms 3"],
        cotangents: Arrays,
        terms: Mapping[str, Sequence[Cotangent]] | None = None,
    ) -> Float[np.ndarray, "natoms 3"]:
        """Gradient by the nuclei of ``sum(cotangent * integral)``, any cotangents, by name."""
        ...


class _IntegralOperation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, provider: IntegralProvider) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.caller = copy_context()
        coordinates = as_array(positions.cpu())
        arrays = [provider.evaluate(geometry) for geometry in coordinates]
        ctx.provider, ctx.coordinates, ctx.device = provider, coordinates, positions.device
        tensors = [
            torch.as_tensor(_stacked([a[name] for a in arrays]), device=positions.device)
            for name in provider.names
        ]
        ctx.taped_sets = provider.taped_sets
        ctx.tapes = [[CotangentTape() for _ in coordinates] for _ in ctx.taped_sets]
        for tapes in ctx.tapes:
            tensors.append(torch.cat([tape.slots() for tape in tapes]).to(positions.device))
        return tuple(tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor, None]:
        # what is on a GPU is differentiated in a thread of torch's, which knows nothing of the
        # threads that the caller gives to the kernels
        gradients: Tensor = ctx.caller.copy().run(_IntegralOperation._pulled, ctx, cotangents)
        return gradients, None

    @staticmethod
    def _pulled(ctx: Any, cotangents: Sequence[Tensor | None]) -> Tensor:
        names: tuple[str, ...] = ctx.provider.names
        given = {
            name: cotangent.cpu().numpy()
            for name, cotangent in zip(names, cotangents, strict=False)
            if cotangent is not None
        }
        by_slots = [None if c is None else c.cpu() for c in cotangents[len(names) :]]
        gradients = []
        for i, geometry in enumerate(ctx.coordinates):
            own = {name: cotangent[i] for name, cotangent in given.items()}
            terms = {
                prefix: tapes[i].taken(by_slot[i])
                for prefix, tapes, by_slot in zip(ctx.taped_sets, ctx.tapes, by_slots, strict=True)
                if by_slot is not None
            }
            gradients.append(ctx.provider.pull_back(geometry, own, terms))
        return torch.as_tensor(np.stack(gradients), device=ctx.device)


def evaluate_integrals(
    positions: Float[Tensor, "batch natoms 3"], provider: IntegralProvider
) -> Integrals:
    """Integrals at a batch of geometries (Bohr), differentiable in the positions.

    Raises:
        BadInput: atoms so close that their auxiliary functions are the same.
    """
    tensors: tuple[Tensor, ...] = _IntegralOperation.apply(positions, provider)  # type: ignore[no-untyped-call]
    named: dict[str, Tensor | None] = dict(zip(provider.names, tensors, strict=False))
    slots = tensors[len(provider.names) :]
    taped = dict(zip(provider.taped_sets, slots, strict=True))
    for prefix in AUXILIARY_SETS:
        metric = named.get(f"{prefix}metric")
        if metric is None:
            continue
        named[f"{prefix}metric_factor"] = _cholesky_factor(metric.detach())
        if not metric.requires_grad:
            named[f"{prefix}metric"] = None
        elif prefix in taped:
            named[f"{prefix}cotangent_slots"] = taped[prefix]
    return Integrals(**named)  # type: ignore[arg-type]


def _stacked(arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """As numpy does, but one array alone is not copied."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def _cholesky_factor(metric: Float[Tensor, "batch naux naux"]) -> Float[Tensor, "batch naux naux"]:
    factor: Tensor
    factor, failures = torch.linalg.cholesky_ex(metric)
    if bool(failures.any()):
        raise BadInput(
            "the metric of the auxiliary functions is singular: atoms too close together or a "
            "linearly dependent basis"
        )
    return factor
