"""A sampler that can be taken up anywhere: the same samples, whoever makes them."""

import json

import numpy as np
import pytest
import torch
from ase.build import molecule

from ase_srdft.dft.kernels.library import thread_count
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.single_point import molecule_of
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.workers import resumable_sampler
from ase_srdft.sampling.workers.resumable_sampler import (
    ResumableSampler,
    SamplerBlueprint,
    model_energy_surface,
    starting_checkpoint,
    walkers_together,
)
from ase_srdft.sampling.workers.sampler_message import (
    checkpoint_from_message,
    checkpoint_to_message,
    from_message,
    to_message,
)
from tests.tools.small_models import small_model

NUMBERS = (8, 1, 1)
AT = molecule("H2O").positions / 0.529177
MODEL = {"xc": "LDA", "basis": "sto-3g", "grid_level": 0}


def model():
    return small_model(**MODEL, scale=0.0).float()


def start(nwalkers=2):
    placed = [(walker, 0, AT + 0.01 * walker) for walker in range(nwalkers)]
    return starting_checkpoint(0, placed, [AT], np.random.SeedSequence(5))


def resumable(checkpoint, dynamics="overdamped", nthreads=1, carried_bytes=1e9):
    own = model()
    molecules = [molecule_of(own, NUMBERS)]
    surface = model_energy_surface(own, molecules, True, torch.device("cpu"), ThreadMap(nthreads))
    config = SamplingConfig(dynamics=dynamics, steps_per_round=2)
    return ResumableSampler(config, molecules, surface, checkpoint, carried_bytes), molecules


def positions(messages):
    return np.array([sample.positions for message in messages for sample in message.batch.samples])


def sent_and_received(message, molecules):
    """Through JSON and tensors, as to another process."""
    tensors, plain = to_message(message)
    return from_message(tensors, json.loads(json.dumps(plain)), molecules, torch.device("cpu"))


@pytest.mark.parametrize("dynamics", ["overdamped", "metropolis", "langevin"])
def test_taken_up_elsewhere_it_gives_the_same_samples(dynamics):
    whole, molecules = resumable(start(), dynamics)
    expected = [whole.advance(version) for version in (0, 0, 3)]
    moved = positions(expected)
    assert np.abs(moved - moved[0]).max() > 1e-3
    checkpoint, found = start(), []
    for version in (0, 0, 3):
        again, _ = resumable(checkpoint, dynamics)
        found.append(sent_and_received(again.advance(version), molecules))
        checkpoint = found[-1].checkpoint
    np.testing.assert_array_equal(positions(found), moved)
    assert [message.checkpoint.nmessages for message in found] == [1, 2, 3]
    assert found[-1].checkpoint.rng == expected[-1].checkpoint.rng
    assert [sample.weights_version for sample in found[-1].batch.samples][-1] == 3


def test_thread_map_change_nothing_but_rounding():
    one, several = (positions([resumable(start(4), nthreads=n)[0].advance(0)]) for n in (1, 3))
    assert np.abs(one - one[0]).max() > 1e-3
    np.testing.assert_allclose(several, one, rtol=0, atol=1e-10)


def test_a_message_arrives_with_its_integrals():
    own, molecules = resumable(start())
    message = own.advance(0)
    back = sent_and_received(message, molecules)
    assert len(back.batch.samples) == len(message.batch.samples) > 0
    for ours, theirs in zip(message.batch.samples, back.batch.samples, strict=True):
        assert ours.energy == theirs.energy
        assert ours.bracket_width == theirs.bracket_width > 0
        overlaps = (s.geometry.integrals.overlap for s in (ours, theirs))
        torch.testing.assert_close(*overlaps, rtol=0, atol=0)


@pytest.mark.parametrize(("steps_carried", "expected"), [(0.9, 0), (1.5, 2), (2.0, 4)])
def test_integrals_of_a_message_are_bounded(steps_carried, expected):
    whole, molecules = resumable(start())
    complete = whole.advance(0)
    one = complete.batch.samples[0].geometry.nbytes
    sampler, _ = resumable(start(), carried_bytes=steps_carried * 2 * one)  # of two walkers
    message = sampler.advance(0)
    np.testing.assert_array_equal(positions([message]), positions([complete]))
    for received in (message, sent_and_received(message, molecules)):
        carried = [sample.geometry is not None for sample in received.batch.samples]
        assert carried == [True] * expected + [False] * (4 - expected)
    np.testing.assert_array_equal(positions([received]), positions([complete]))
    for sample in received.batch.samples[:expected]:
        np.testing.assert_array_equal(sample.geometry.positions[0], sample.positions)


def test_large_molecules_have_one_walker_at_a_time(monkeypatch):
    own, sizes = model(), []
    molecules = [molecule_of(own, NUMBERS)]
    walkers = np.array([AT + 0.01 * walker for walker in range(3)])
    original = resumable_sampler.single_point
    surface = model_energy_surface(own, molecules, True, torch.device("cpu"), ThreadMap())

    def note(model, molecule, positions, **options):
        sizes.append(len(positions))
        return original(model, molecule, positions, **options)

    monkeypatch.setattr(resumable_sampler, "single_point", note)
    together = surface(0, walkers)
    monkeypatch.setattr(resumable_sampler, "_INTEGRALS_TOGETHER", 7 * 8 // 2 * 7 * 4)
    one_by_one = surface(0, walkers)
    assert sizes == [3, 1, 1, 1]
    assert float(together.forces.abs().max()) > 1e-3
    torch.testing.assert_close(one_by_one.energy, together.energy, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(one_by_one.forces, together.forces, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("basis", "fitting", "expected"),
    [
        ("sto-3g", True, 5102),
        ("sto-3g", False, 5102),
        ("def2-tzvp", True, 24),
        ("cc-pvtz", False, 1),
    ],
)
def test_walkers_together_follow_from_orbitals(basis, fitting, expected):
    level = LevelOfTheory(basis=basis, density_fitting=fitting)
    assert walkers_together(Molecule(numbers=NUMBERS, level=level)) == expected


def test_a_state_before_the_first_message_goes_through_a_file_too():
    tensors, plain = checkpoint_to_message(start())
    again = checkpoint_from_message(tensors, json.loads(json.dumps(plain)))
    ours, theirs = (resumable(checkpoint)[0].advance(0) for checkpoint in (start(), again))
    np.testing.assert_array_equal(positions([ours]), positions([theirs]))


def test_a_blueprint_in_json_makes_the_same_sampler():
    own = model()
    config = SamplingConfig(steps_per_round=2)
    blueprint = SamplerBlueprint.of(own, [molecule_of(own, NUMBERS)], config, True, 10**8)
    again = SamplerBlueprint.from_plain(json.loads(json.dumps(blueprint.to_plain())))
    assert again == blueprint
    assert isinstance(again.molecules[0][0], tuple)
    signs = []
    there, sampler = again.build(start(), "cpu", lambda: signs.append(1))
    there.load_state_dict(own.state_dict())
    expected = resumable(start())[0].advance(0)
    np.testing.assert_array_equal(positions([sampler.advance(0)]), positions([expected]))
    assert len(signs) == 3  # the start and two steps


@pytest.mark.parametrize(("nwalkers", "expected"), [(1, 4), (2, 2), (4, 1)])
def test_kernels_have_the_threads_that_walkers_leave(nwalkers, expected, monkeypatch):
    own, seen = model(), []
    molecules = [molecule_of(own, NUMBERS)]
    surface = model_energy_surface(own, molecules, True, torch.device("cpu"), ThreadMap(4))
    original = resumable_sampler.single_point

    def note(*arguments, **options):
        seen.append(thread_count())
        return original(*arguments, **options)

    monkeypatch.setattr(resumable_sampler, "single_point", note)
    assert surface(0, np.array([AT] * nwalkers)).energy.shape == (nwalkers,)
    assert seen == [expected] * nwalkers
