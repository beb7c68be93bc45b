"""The energy minimisation step: gradient, schedule, average, several molecules, threads."""

import copy

import numpy as np
import pytest
import torch
from ase.build import molecule as ase_molecule
from ase.units import Bohr

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.kernels import quadrature as grid_kernels
from ase_srdft.dft.kernels.library import loaded, thread_count
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import select
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.single_point import molecule_of
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.weight_updater import DivergenceGuard, WeightUpdater, mean_bracket
from tests.tools.small_models import small_model
from tests.tools.small_training import rattled

LEVEL = {"xc": "LDA", "basis": "sto-3g", "grid_level": 0}
CONFIG = OptimiserConfig(warmup_steps=4, learning_rate=1e-2, final_learning_rate=1e-4)


def model_for_water(seed=0):
    return small_model(seed=seed, **LEVEL)


def batch_of(model, frames):
    positions = torch.tensor(np.array([atoms.positions for atoms in frames]) / Bohr)
    with torch.no_grad():
        return prepare(molecule_of(model, tuple(int(n) for n in frames[0].numbers)), positions)


def updater_on_water(nframes=3, nthreads=1, config=CONFIG, seed=0):
    model = model_for_water(seed)
    batches = [batch_of(model, rattled(nframes))]
    return WeightUpdater(model, config, ThreadMap(nthreads)), batches


def mean_energy(model, batches):
    with torch.no_grad():
        totals = [
            kohn_sham(geometry, state.density_matrix)[0].total
            for geometry, state in zip(batches, model(batches), strict=True)
        ]
    return float(torch.cat(totals).mean())


def gradients_of(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def weights_of(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.mark.parametrize("nthreads", [1, 2])
def test_gradient_is_that_of_the_mean_energy(nthreads):
    unclipped = OptimiserConfig(gradient_clip=100.0)
    updater, batches = updater_on_water(nthreads=nthreads, config=unclipped)
    updater.model.double()  # single precision would drown the finite differences
    updater.averaged.double()
    before = copy.deepcopy(updater.model)
    record = updater.update(batches, 0.0)
    gradients = gradients_of(updater.model)
    norm = torch.sqrt(sum((g**2).sum() for g in gradients.values()))
    assert 0.1 < record.gradient_norm < unclipped.gradient_clip
    assert record.gradient_norm == pytest.approx(float(norm), rel=1e-12)
    largest = sorted(gradients, key=lambda name: -float(gradients[name].abs().max()))
    for name in largest[:8]:
        index = int(gradients[name].abs().argmax())
        energies = []
        for step in (1e-4, -1e-4):
            changed = copy.deepcopy(before)
            dict(changed.named_parameters())[name].data.view(-1)[index] += step
            energies.append(mean_energy(changed, batches))
        slope = float(gradients[name].view(-1)[index])
        assert abs(slope) > 1e-5
        assert slope == pytest.approx((energies[0] - energies[1]) / 2e-4, rel=1e-4)


def test_each_geometry_counts_by_a_power_of_its_error():
    exponent, gradients, widths = 0.5, [], []
    for index in range(3):
        updater, batches = updater_on_water(config=OptimiserConfig(gradient_clip=100.0))
        widths += updater.update([select(batches[0], slice(index, index + 1))], 0.0).widths
        gradients.append(gradients_of(updater.model))
    assert max(widths) > 1.02 * min(widths)
    scaled = OptimiserConfig(gradient_clip=100.0, error_exponent=exponent)
    updater, batches = updater_on_water(config=scaled)
    record = updater.update(batches, 0.0)
    assert record.widths == pytest.approx(widths, rel=1e-6)
    assert record.energy == pytest.approx(mean_energy(model_for_water(), batches), abs=1e-9)
    found = gradients_of(updater.model)
    for name, gradient in found.items():
        parts = [g[name] / (1e3 * w) ** exponent for g, w in zip(gradients, widths, strict=True)]
        expected = torch.stack(parts).mean(0)
        largest = float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4 * largest + 1e-9)


def test_record_is_of_the_state_before_the_step():
    updater, batches = updater_on_water()
    energy, width = mean_bracket(updater.model, batches, updater.threads)
    assert energy == mean_energy(updater.model, batches)
    geometry = batches[0]
    with torch.no_grad():
        density_matrix = updater.model(batches)[0].density_matrix
        terms, fock = kohn_sham(geometry, density_matrix)
    expected = energy_bracket(geometry, terms.total, density_matrix, fock).width.mean()
    assert width > 1e-3
    assert width == pytest.approx(float(expected), rel=1e-12)
    record = updater.update(batches, 0.0)
    assert record.energy == pytest.approx(energy, abs=1e-12)
    assert record.bracket_width == pytest.approx(width, rel=1e-9)
    assert record.bracket_width == pytest.approx(np.mean(record.widths), rel=1e-12)
    assert updater.step == 1


def test_energy_goes_down_to_the_self_consistent_one():
    updater, batches = updater_on_water()
    molecule, positions = batches[0].molecule, batches[0].positions.numpy()
    expected = np.mean([reference_scf(molecule, each).energy for each in positions])
    first = mean_bracket(updater.averaged, batches, updater.threads)
    for step in range(60):
        updater.update(batches, step / 60)
    last = mean_bracket(updater.averaged, batches, updater.threads)
    assert first[0] - expected > 0.01
    assert 0.0 < last[0] - expected < last[1] < 0.01 * first[1]


def test_gradient_is_clipped():
    small = OptimiserConfig(gradient_clip=1e-3, warmup_steps=1)
    updater, batches = updater_on_water(config=small)
    record = updater.update(batches, 0.0)
    clipped = torch.sqrt(sum((g**2).sum() for g in gradients_of(updater.model).values()))
    assert record.gradient_norm > 2e-3
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


def test_what_comes_rarely_moves_the_weights_less_with_a_short_memory():
    moved = {}
    for decay in (0.9, 0.999):
        config = OptimiserConfig(second_moment_decay=decay, warmup_steps=1)
        updater, batches = updater_on_water(config=config)
        parameters = list(updater.model.parameters())
        for _ in range(300):
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, 1e-6)
            updater.optimiser.step()
        before = [parameter.detach().clone() for parameter in parameters]
        updater.update(batches, 0.0)
        steps = [
            (parameter.detach() - was)[parameter.grad.abs() > 1e-3].abs()
            for parameter, was in zip(parameters, before, strict=True)
            if parameter.grad is not None
        ]
        moved[decay] = float(torch.cat(steps).max())
    assert moved[0.9] < 0.4 * moved[0.999]


def followed_norm(updater):
    return float(torch.sqrt(sum((g**2).sum() for g in gradients_of(updater.model).values())))


def test_a_gradient_far_from_usual_is_shortened_and_what_is_usual_follows_slowly():
    updater, batches = updater_on_water(
        config=OptimiserConfig(gradient_clip=100.0, gradient_spike=2.0)
    )
    for _ in range(99):
        updater.guard.note_norm(1e-3)
    record = updater.update(batches, 0.0)  # until then nothing is usual
    assert record.gradient_norm > 0.1
    assert followed_norm(updater) == pytest.approx(record.gradient_norm, rel=1e-5)
    updater.guard.usual_norm = 1e-3
    record = updater.update(batches, 0.0)
    assert record.gradient_norm > 0.1
    assert followed_norm(updater) == pytest.approx(2e-3, rel=1e-3)
    assert updater.guard.usual_norm == pytest.approx(1.02e-3, rel=1e-6)


def test_a_checkpoint_from_before_norms_were_kept():
    pace = {"factor": 0.5, "since": 7, "nbatches": 900, "usual_width": 1e-4}
    assert DivergenceGuard(**pace).largest_norm(3.0) == np.inf


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda geometry: geometry.integrals.core_hamiltonian.mul_(1e100), "gradient"),
        (lambda geometry: geometry.guess_fock.fill_(torch.nan), "Fock matrix"),
    ],
)
def test_what_is_not_finite_stops_before_the_weights_are_spoilt(spoil, what):
    updater, batches = updater_on_water()
    spoil(batches[0])
    before = weights_of(updater.model)
    with pytest.raises(FloatingPointError, match=f"the {what} of step 0 is not finite: lower the"):
        updater.update(batches, 0.0)
    assert torch.equal(weights_of(updater.model), before)
    assert updater.step == 0


def test_learning_rate_warms_up_and_follows_a_cosine():
    updater, _ = updater_on_water(nframes=1)
    highest, lowest = CONFIG.learning_rate, CONFIG.final_learning_rate
    rates = []
    for step in range(6):
        updater.step = step
        rates.append(updater.learning_rate(0.0))
    np.testing.assert_allclose(rates, highest * np.array([0.25, 0.5, 0.75, 1.0, 1.0, 1.0]))
    expected = {0.0: highest, 0.5: (highest + lowest) / 2, 1.0: lowest, 1.5: lowest}
    for progress, rate in expected.items():
        assert updater.learning_rate(progress) == pytest.approx(rate, rel=1e-12)
    quarter = lowest + (highest - lowest) * (1 + np.sqrt(0.5)) / 2
    assert updater.learning_rate(0.25) == pytest.approx(quarter, rel=1e-12)


@pytest.fixture
def trained_on_water(trained_once):
    """An updater that has learned, its batches and the last step's record, to be spoilt."""
    return copy.deepcopy(trained_once)


@pytest.fixture(scope="module")
def trained_once():
    updater, batches = updater_on_water()
    nsteps = 300
    for _ in range(nsteps):
        record = updater.update(batches, 0.0)
        assert not record.rolled_back  # from an untrained state on
    assert record.bracket_width < 5e-3
    return updater, batches, record


def lead_divergence(updater):
    with torch.no_grad():
        for parameter in updater.model.parameters():
            parameter.add_(0.5 * torch.sign(parameter))


def test_weights_that_diverge_are_put_back_and_go_on_more_slowly(trained_on_water):
    updater, batches, before = trained_on_water
    kept = {name: tensor.clone() for name, tensor in updater.rollback_weights.items()}
    lead_divergence(updater)
    record = updater.update(batches, 0.0)
    assert record.rolled_back
    assert record.bracket_width > 100 * before.bracket_width
    assert record.gradient_norm == 0.0
    for state in (updater.model.state_dict(), updater.averaged.state_dict()):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in state.items())
    assert updater.step == 301
    assert updater.guard.factor == 0.5
    assert updater.optimiser.state_dict()["state"] == {}
    # half the rate, after a warm-up
    rates = [updater.update(batches, 0.0).learning_rate for _ in range(6)]
    np.testing.assert_allclose(rates, 0.5 * 1e-2 * np.array([0.25, 0.5, 0.75, 1.0, 1.0, 1.0]))
    for _ in range(60):
        record = updater.update(batches, 0.0)
    assert not record.rolled_back
    assert record.bracket_width < 3 * before.bracket_width


def test_weights_that_diverge_again_and_again_are_an_error(trained_on_water):
    updater, batches, _ = trained_on_water
    for _ in range(8):
        lead_divergence(updater)
        assert updater.update(batches, 0.0).rolled_back
    lead_divergence(updater)
    with pytest.raises(FloatingPointError, match="the weights diverged again at step 308"):
        updater.update(batches, 0.0)


def settled_guard(usual=1e-4, nbatches=200):
    guard = DivergenceGuard()
    assert not any(guard.note_error(usual) for _ in range(nbatches))
    return guard


def first_divergence(guard, widths):
    """Index of the batch that tells of it, or None."""
    return next((index for index, width in enumerate(widths) if guard.note_error(width)), None)


def test_one_batch_that_is_unfit_for_dynamics_is_divergence_once_it_is_known_what_is_usual():
    guard = DivergenceGuard()
    widths = (np.inf, 0.3, 1e-3, *[1e-4] * 700)
    assert first_divergence(guard, widths) is None  # untrained at first
    assert guard.usual_width == pytest.approx(1e-4, rel=0.05)
    assert not guard.note_error(4e-3)  # 40 times as wide, and still fit for dynamics
    assert guard.note_error(6e-3)
    assert guard.note_error(np.inf)
    assert guard.usual_width < 1.2e-4


def test_recent_errors_far_above_those_before_are_divergence_before_they_are_unfit():
    # a spike of 13 times the usual that takes 80 steps to mend
    spike = [1.3e-3 * 0.97**step for step in range(80)]
    assert first_divergence(settled_guard(), spike) in range(5, 12)
    # weights that go astray by some hundredths every step
    slow = [1e-4 * 1.03**step for step in range(200)]
    index = first_divergence(settled_guard(), slow)
    assert index is not None
    assert slow[index] < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_molecules_that_differ_are_no_divergence(seed):
    # medians of small batches of molecules whose errors are up to a hundred times each other's
    widths = 1e-4 * np.exp(np.random.default_rng(seed).normal(0.0, 0.9, 4000))
    assert np.quantile(widths, 0.995) > 30 * np.quantile(widths, 0.005)
    assert first_divergence(DivergenceGuard(), widths.tolist()) is None
    # and geometries that get forty times as difficult, slowly
    widths *= np.geomspace(1.0, 40.0, 4000)
    assert first_divergence(DivergenceGuard(), np.minimum(widths, 5e-3).tolist()) is None


def test_what_is_wide_with_weights_that_were_put_back_becomes_usual():
    guard = settled_guard()
    assert first_divergence(guard, [1e-3] * 20) in range(5, 12)
    guard.turn_back(8)
    assert first_divergence(guard, [1e-3] * 1000) is None
    assert guard.usual_width == pytest.approx(1e-3, rel=0.05)
    assert guard.factor == 0.5
    assert first_divergence(guard, [6e-3] * 20) is not None


def test_only_what_is_unfit_counts_once_the_rate_is_as_small_as_it_gets():
    guard = settled_guard()
    guard.factor = 2.0**-8
    assert first_divergence(guard, [2e-3] * 20) is None
    assert guard.note_error(1.0)


def test_weights_are_not_kept_while_they_may_be_astray():
    slow = OptimiserConfig(learning_rate=1e-6, final_learning_rate=1e-7)
    updater, batches = updater_on_water(config=slow)
    updater.step = 47
    updater.guard = settled_guard(usual=1e-3)
    kept = updater.rollback_weights
    for _ in range(3):  # far wider than usual
        assert not updater.update(batches, 0.0).rolled_back
    assert updater.step == 50
    assert updater.rollback_weights is kept


def test_learning_rate_is_used():
    updater, batches = updater_on_water()
    updater.step = 10
    before = weights_of(updater.model)
    record = updater.update(batches, 0.5)
    moved = (weights_of(updater.model) - before).abs()
    assert record.learning_rate == pytest.approx(5.05e-3)
    # the first step of Adam moves every weight by the learning rate, whatever its gradient
    assert float(moved.max()) == pytest.approx(record.learning_rate, rel=2e-2)


def test_average_of_the_weights():
    config = OptimiserConfig(warmup_steps=1, average_decay=0.3)
    updater, batches = updater_on_water(config=config)
    expected = weights_of(updater.averaged).double()
    assert torch.equal(weights_of(updater.averaged), weights_of(updater.model))
    decays = []
    for step in range(1, 6):
        updater.update(batches, 0.0)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights_of(updater.model).double()
        decays.append(decay)
        torch.testing.assert_close(
            weights_of(updater.averaged).double(), expected, rtol=0.0, atol=1e-6
        )
    assert decays[0] == pytest.approx(2 / 11)
    assert decays[-1] == 0.3
    assert float((weights_of(updater.averaged) - weights_of(updater.model)).abs().max()) > 1e-4
    assert not any(p.requires_grad for p in updater.averaged.parameters())


def test_buffers_do_not_drift_between_model_and_average():
    updater, batches = updater_on_water()
    updater.update(batches, 0.0)
    for (name, own), (_, averaged) in zip(
        updater.model.named_buffers(), updater.averaged.named_buffers(), strict=True
    ):
        assert torch.equal(own, averaged), name


def test_a_batch_of_two_molecules_is_their_weighted_mean():
    model = model_for_water()
    hydrogen = ase_molecule("H2")
    hydrogen.positions *= 1.2
    batches = [batch_of(model, rattled(3)), batch_of(model, [hydrogen])]
    updater = WeightUpdater(model, CONFIG, ThreadMap())
    widths = [
        mean_bracket(updater.model, [select(batch, slice(i, i + 1))], updater.threads)[1]
        for batch in batches
        for i in range(len(batch))
    ]
    water, other = (mean_energy(updater.model, [batch]) for batch in batches)
    assert abs(water - other) > 1.0
    record = updater.update(batches, 0.0)
    assert record.energy == pytest.approx((3 * water + other) / 4, abs=1e-9)
    assert len(set(widths)) == 4
    assert record.widths == pytest.approx(widths, rel=1e-4)
    for step in range(30):
        updater.update(batches, step / 30)
    after = [mean_energy(updater.model, [batch]) for batch in batches]
    assert after[0] < water - 0.01


@pytest.fixture
def threads_of_kernels(monkeypatch):
    """How many threads each call of a grid kernel is given, in order."""
    seen = []

    def counting():
        seen.append(thread_count())
        return seen[-1]

    monkeypatch.setattr(grid_kernels, "thread_count", counting)
    return seen


@pytest.mark.skipif(loaded() is None, reason="there are no compiled kernels")
@pytest.mark.parametrize(
    ("nframes", "nthreads", "each"), [(1, 3, 3), (2, 5, 2), (3, 3, 1), (4, 2, 1)]
)
def test_kernels_have_the_threads_that_geometries_leave(
    nframes, nthreads, each, threads_of_kernels
):
    updater, batches = updater_on_water(nframes=nframes, nthreads=nthreads)
    threads_of_kernels.clear()
    record = updater.update(batches, 0.0)
    assert threads_of_kernels == [each] * min(nframes, nthreads)
    assert thread_count() == 1
    alone, _ = updater_on_water(nframes=nframes)
    expected = alone.update(batches, 0.0)
    assert record.energy == pytest.approx(expected.energy, abs=1e-12)
    if nframes == 1:  # the same arrays: kernels promise every digit
        assert record.energy == expected.energy
        assert torch.equal(weights_of(updater.model), weights_of(alone.model))


def test_kernels_have_threads_in_the_backward_pass(monkeypatch):
    seen = []
    updater, batches = updater_on_water(nframes=2, nthreads=3)
    energies = updater.loss.losses_of

    def with_a_look(*arguments):
        losses, errors = energies(*arguments)
        losses.register_hook(lambda _: seen.append(thread_count()))
        return losses, errors

    monkeypatch.setattr(updater.loss, "losses_of", with_a_look)
    updater.update(batches, 0.0)
    assert seen == [3]


def test_threads_do_not_change_the_numbers():
    runs = []
    for nthreads in (1, 2):
        updater, batches = updater_on_water(nframes=4, nthreads=nthreads)
        records = [updater.update(batches, step / 5) for step in range(5)]
        runs.append((weights_of(updater.model), records))
    (one, first), (two, second) = runs
    assert float((one - weights_of(model_for_water().float())).abs().max()) > 1e-3
    torch.testing.assert_close(one, two, rtol=0.0, atol=1e-6)
    for a, b in zip(first, second, strict=True):
        assert a.energy == pytest.approx(b.energy, abs=1e-8)
        assert a.bracket_width == pytest.approx(b.bracket_width, abs=1e-8)
