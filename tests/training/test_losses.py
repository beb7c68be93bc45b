"""Losses: regression on labels has its zero at the label, and its gradient is its slope."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft import energy
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.xc import quadrature
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.single_point import molecule_of
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.losses import EnergyLoss, HamiltonianLoss, loss_of
from ase_srdft.training.weight_updater import WeightUpdater, mean_hamiltonian_error
from tests.tools.small_labels import LEVEL, label, plain_frames, small_labels
from tests.tools.small_models import small_model
from tests.tools.small_training import small_config, small_dataset
from tests.training.test_weight_updater import gradients_of

SUPERVISED = {"loss": "hamiltonian", "self_refine": False}


def water_model():
    return small_model(**{"xc": LEVEL.xc, "basis": LEVEL.basis, "grid_level": LEVEL.grid_level})


def labelled_batch(model, nframes=3):
    positions = torch.tensor(np.array([positions for _, positions in plain_frames(nframes)]))
    with torch.no_grad():
        return prepare(molecule_of(model, (8, 1, 1)), positions)


def predicting(model, hamiltonians):
    """The model, made to predict these."""
    model.correction = lambda batches: [
        batch.orthogonal(target - batch.guess_fock)
        for batch, target in zip(batches, hamiltonians, strict=True)
    ]
    return model


def single_point(loss, model, batches):
    return loss.losses_of(loss.predictor(model), batches, ThreadMap())


def test_zero_at_the_label():
    model = water_model()
    batch = labelled_batch(model)
    focks = torch.tensor(np.array([label(frame).fock for frame in range(3)]))
    loss = HamiltonianLoss(small_labels(3))
    losses, errors = single_point(loss, predicting(model, [focks]), [batch])
    assert float(losses.max()) < 1e-12
    assert float(errors.max()) < 1e-12


def test_mean_absolute_and_mean_squared_difference_of_the_elements():
    model = water_model()
    batch = labelled_batch(model)
    focks = torch.tensor(np.array([label(frame).fock for frame in range(3)]))
    signs = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)[:, None, None]
    size = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)[:, None, None]
    shifted = predicting(model, [focks + signs * size])
    losses, errors = single_point(HamiltonianLoss(small_labels(3)), shifted, [batch])
    torch.testing.assert_close(errors, size.flatten(), rtol=0, atol=1e-12)
    torch.testing.assert_close(losses, (size + size**2).flatten(), rtol=0, atol=1e-12)


def test_gradient_is_the_slope_of_the_loss():
    loss = HamiltonianLoss(small_labels(3))
    unclipped = OptimiserConfig(gradient_clip=1e3)
    updater = WeightUpdater(water_model(), unclipped, ThreadMap(), loss=loss)
    updater.model.double()  # single precision would drown the finite differences
    updater.averaged.double()
    before = copy.deepcopy(updater.model)
    batches = [labelled_batch(before)]
    updater.update(batches, 0.0)
    gradients = gradients_of(updater.model)
    largest = sorted(gradients, key=lambda name: -float(gradients[name].abs().max()))
    for name in largest[:8]:
        index = int(gradients[name].abs().argmax())
        means = []
        for step in (1e-6, -1e-6):
            changed = copy.deepcopy(before)
            dict(changed.named_parameters())[name].data.view(-1)[index] += step
            means.append(float(single_point(loss, changed, batches)[0].mean().detach()))
        slope = float(gradients[name].view(-1)[index])
        assert abs(slope) > 1e-3
        assert slope == pytest.approx((means[0] - means[1]) / 2e-6, rel=1e-5)


def test_a_step_builds_no_fock_matrix_and_needs_no_quadrature(monkeypatch):
    updater = WeightUpdater(
        water_model(), OptimiserConfig(), ThreadMap(), loss=HamiltonianLoss(small_labels(3))
    )
    batches = [labelled_batch(updater.model)]

    def fail(*arguments, **options):
        raise AssertionError("no energy was asked for")

    monkeypatch.setattr(energy, "coulomb_energy", fail)
    monkeypatch.setattr("ase_srdft.training.losses.kohn_sham", fail)
    monkeypatch.setattr(quadrature.Quadrature, "__init__", fail)
    assert updater.update(batches, 0.0).hamiltonian_error > 1e-3


def test_record_has_the_error_and_no_energy():
    loss = HamiltonianLoss(small_labels(3))
    updater = WeightUpdater(water_model(), OptimiserConfig(), ThreadMap(), loss=loss)
    batches = [labelled_batch(updater.model)]
    expected = mean_hamiltonian_error(updater.averaged, batches, loss.labels, updater.threads)
    record = updater.update(batches, 0.0)
    assert record.hamiltonian_error == pytest.approx(expected, rel=1e-6)
    assert record.gradient_norm > 0.0
    assert math.isnan(record.energy)
    assert math.isnan(record.bracket_width)
    assert len(record.widths) == 3
    energies = WeightUpdater(water_model(), OptimiserConfig(), ThreadMap()).update(batches, 0.0)
    assert energies.hamiltonian_error is None
    assert energies.energy < -70.0


def test_a_geometry_without_a_label_is_refused():
    model = water_model()
    with pytest.raises(BadInput, match="a geometry of H2O has no label"):
        single_point(HamiltonianLoss(small_labels(2)), model, [labelled_batch(model, 3)])


def test_a_family_without_a_hamiltonian_is_refused_before_the_first_step(monkeypatch):
    model = water_model()
    monkeypatch.setattr(type(model), "hamiltonian", ElectronicStateModel.hamiltonian)
    with pytest.raises(BadInput, match="the family 'fock' predicts no Hamiltonian"):
        WeightUpdater(model, OptimiserConfig(), ThreadMap(), loss=HamiltonianLoss(small_labels(2)))


def test_what_is_chosen():
    labelled = Dataset.of([], labels=small_labels(4))
    assert isinstance(loss_of(small_config(), small_dataset()), EnergyLoss)
    assert isinstance(loss_of(small_config(**SUPERVISED), labelled), HamiltonianLoss)


@pytest.mark.parametrize(
    ("changes", "labelled", "message"),
    [
        (SUPERVISED, False, "the loss 'hamiltonian' learns from labels: make them with"),
        ({}, True, "labels for the loss 'energy', which needs none"),
        (SUPERVISED | {"level": {"xc": "PBE"}}, True, "the labels are of LDA/sto-3g"),
        (SUPERVISED | {"level": {"charge": 2}}, True, "and not of LDA/sto-3g .*, charge 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(changes, labelled, message):
    data = Dataset.of([], labels=small_labels(4)) if labelled else small_dataset()
    with pytest.raises(BadInput, match=message):
        loss_of(small_config(**changes), data)


def test_labels_belong_to_the_fingerprint_of_the_data():
    labels = small_labels(3)
    data = Dataset.of([], labels=labels)
    other = replace(labels.labels[2], fock=labels.labels[2].fock + 1e-12)
    changed = replace(labels, labels=(*labels.labels[:2], other))
    assert data.fingerprint == Dataset.of([], labels=small_labels(3)).fingerprint
    assert len({data.fingerprint, Dataset.of([], labels=changed).fingerprint}) == 2
    assert data.fingerprint != replace(data, labels=None).fingerprint
