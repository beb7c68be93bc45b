"""What is made smaller in training: the energy of the predicted states, or their error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.kernels.library import threads as kernel_threads
from ase_srdft.dft.prepared_geometry import Geometry, select
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.reference.label_file import Labels
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import StepRecord

__all__ = ["EnergyLoss", "HamiltonianLoss", "Loss", "loss_of"]

_PerGeometry = tuple[Float[Tensor, " ngeometries"], Float[Tensor, " ngeometries"]]


@runtime_checkable
class Loss(Protocol):
    """What `WeightUpdater` needs of a loss.

    Attributes:
        needs_grid: whether it needs the quadrature of the geometries.
    """

    needs_grid: bool

    def predictor(self, model: ElectronicStateModel) -> nn.Module:
        """What maps batches to the predictions that :meth:`losses_of` looks at.

        It holds the model's weights, so that ranks can average their gradients over it.

        Raises:
            BadInput: the model's family gives no such prediction.
        """
        ...

    def losses_of(
        self, module: nn.Module, batches: Sequence[Geometry], threads: ThreadMap
    ) -> _PerGeometry:
        """The loss of each geometry, differentiable by the weights, and its error, detached.

        Errors are in Hartree: a median far above the usual one is the sign of weights that have
        diverged.
        """
        ...

    def record(self, losses: Tensor, errors: Tensor) -> StepRecord:
        """What these numbers, of a whole batch, say."""
        ...


class EnergyLoss:
    """E[R, f_theta(R)], the Kohn-Sham energy of the predicted state: no labels.

    The error is the width of the bracket around the SCF energy.
    """

    needs_grid = True

    def predictor(self, model: ElectronicStateModel) -> nn.Module:
        """The model itself, which gives states."""
        return model

    def losses_of(
        self, module: nn.Module, batches: Sequence[Geometry], threads: ThreadMap
    ) -> _PerGeometry:
        """E, differentiable by the weights, and bracket widths of all geometries, in order."""
        with kernel_threads(threads.nthreads):  # for models that build fields from densities
            states = module(batches)
        pieces = [
            (select(geometry, piece), state.density_matrix[piece])
            for geometry, state in zip(batches, states, strict=True)
            for piece in threads.slices(len(geometry))
        ]
        grad = torch.is_grad_enabled()  # threads do not inherit it

        def work(piece: tuple[Geometry, Tensor]) -> tuple[Tensor, Tensor]:
            geometry, density_matrix = piece
            with torch.set_grad_enabled(grad), kernel_threads(threads.share(len(pieces))):
                terms, fock = kohn_sham(geometry, density_matrix)
            energy = terms.total
            bracket = energy_bracket(geometry, energy.detach(), density_matrix.detach(), fock)
            return energy, bracket.width

        costs = [len(geometry) * geometry.molecule.nao**2 for geometry, _ in pieces]
        results = threads.map(work, pieces, costs)
        return torch.cat([r[0] for r in results]), torch.cat([r[1] for r in results])

    def record(self, losses: Tensor, errors: Tensor) -> StepRecord:
        """Energies and brackets."""
        return StepRecord(
            energy=float(losses.detach().mean()),
            bracket_width=float(errors.mean()),
            widths=tuple(errors.tolist()),
        )


class _Hamiltonians(nn.Module):
    """A model's Hamiltonians as the output of a module."""

    def __init__(self, model: ElectronicStateModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batches: Sequence[Geometry]) -> list[Tensor]:
        return self.model.hamiltonian(batches)


class HamiltonianLoss:
    """Mean |dH| + mean dH^2 over the elements, atomic-orbital basis, dH = H_theta(R) - H_label(R).

    Supervised: the sum of mean absolute and mean squared error that QHNet is trained on (H. Yu and
    others, ICML 2023, arXiv 2306.04922), numbers in Hartree.  A step needs no energy, no Fock
    build and no quadrature.  The error is mean |dH|.

    Args:
        labels: with one for every geometry that this will be asked about.
    """

    needs_grid = False

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def predictor(self, model: ElectronicStateModel) -> nn.Module:
        """The model as a map to Hamiltonians.

        Raises:
            BadInput: its family predicts none.
        """
        if not model.predicts_hamiltonian:
            model.hamiltonian([])
        return _Hamiltonians(model)

    def losses_of(
        self, module: nn.Module, batches: Sequence[Geometry], threads: ThreadMap
    ) -> _PerGeometry:
        """Loss and mean |dH| of all geometries, in order."""
        differences = [
            hamiltonian - self._targets(geometry)
            for geometry, hamiltonian in zip(batches, module(batches), strict=True)
        ]
        absolute = torch.cat([d.abs().mean((-2, -1)) for d in differences])
        squared = torch.cat([d.square().mean((-2, -1)) for d in differences])
        return absolute + squared, absolute.detach()

    def _targets(self, geometry: Geometry) -> Float[Tensor, "batch nao nao"]:
        numbers, positions = geometry.molecule.numbers, geometry.positions.cpu().numpy()
        focks = [torch.as_tensor(self.labels.fock(numbers, one)) for one in positions]
        return torch.stack(focks).to(geometry.positions.device)

    def record(self, losses: Tensor, errors: Tensor) -> StepRecord:
        """Errors of the Hamiltonian; energies are not computed."""
        return StepRecord(
            energy=math.nan,
            bracket_width=math.nan,
            widths=(math.nan,) * len(errors),
            hamiltonian_error=float(errors.mean()),
        )


def loss_of(config: TrainingConfig, dataset: Dataset) -> Loss:
    """The loss that a configuration asks for.

    Raises:
        BadInput: labels without use, none where they are needed, or of another level of theory.
    """
    return _LOSSES[config.loss](config, dataset.labels)


def _energy_loss(config: TrainingConfig, labels: Labels | None) -> Loss:
    if labels is not None:
        raise BadInput("labels for the loss 'energy', which needs none: use 'hamiltonian'")
    return EnergyLoss()


def _hamiltonian_loss(config: TrainingConfig, labels: Labels | None) -> Loss:
    if labels is None:
        raise BadInput(
            "the loss 'hamiltonian' learns from labels: make them with ase-srdft-label, and give "
            "them to the dataset (labels=read_labels(path))"
        )
    labels.check_level(config.level)
    return HamiltonianLoss(labels)


#: The loss of each of ``LOSSES``.
_LOSSES: dict[str, Callable[[TrainingConfig, Labels | None], Loss]] = {
    "energy": _energy_loss,
    "hamiltonian": _hamiltonian_loss,
}
