"""The synchronous engine: what starts when, what is held out, what ends a run, and seeds."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.units import Bohr

from ase_srdft.common.connectivity import same_connectivity
from ase_srdft.common.errors import BadInput, SamplingFailed
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.sampling.config import ENGINES
from ase_srdft.training import build, losses, sampling_schedule, training_parts
from ase_srdft.training import trainer as trainer_module
from ase_srdft.training.build import initial_model
from ase_srdft.training.config import LOSSES
from ase_srdft.training.data.dataset import Dataset, evenly_spaced
from ase_srdft.training.data.starts import distances
from ase_srdft.training.events import ValidationCounters
from ase_srdft.training.losses import EnergyLoss
from ase_srdft.training.trainer import Trainer
from ase_srdft.training.validation_set import is_held_out
from ase_srdft.training.weight_updater import mean_bracket
from tests.tools.small_models import ORBITAL_NETWORK, small_model
from tests.tools.small_training import (
    HCN,
    HNC,
    events_of,
    peroxide,
    rattled,
    sampling_trainer,
    small_config,
    small_dataset,
    small_trainer,
)

#: Sampling from step 50 on, the first time that it is looked at, whatever the bracket.
SAFE = {"safe_width_mEh": 1e3}


def weights_of(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def held_positions(trainer):
    return [trainer.held_out.cache.positions_of(key) for key in trainer.held_out.keys]


# Without data


def test_begins_with_thermal_copies_some_held_out():
    trainer = small_trainer(pretraining_frames=6, validation_frames=3)
    trainer.begin()
    copies = [trainer.cache.positions_of(key) for key in trainer.buffer.samples]
    held = held_positions(trainer)
    assert (len(copies), len(held)) == (6, 3)
    everything = np.array([*copies, *held])
    assert len(np.unique(everything[:, 1, 1])) == 9
    moved = np.abs(everything - molecule("H2O").positions / Bohr).max((1, 2))
    assert moved.min() > 1e-3
    assert moved.max() < 1.0
    trainer.begin()  # there is something to train on now
    assert len(trainer.buffer.samples) == 6


def test_copies_of_every_molecule():
    trainer = small_trainer(small_dataset("H2O", "H2"), pretraining_frames=5, validation_frames=4)
    trainer.begin()
    molecules = Counter(trainer.cache.molecule_of(key) for key in trainer.buffer.samples)
    held = Counter(trainer.held_out.cache.molecule_of(key) for key in trainer.held_out.keys)
    assert molecules == {0: 5, 1: 5}
    assert held == {0: 2, 1: 2}
    keys = list(trainer.buffer.samples)
    assert {len(trainer.cache.batches(keys))} == {2}
    assert len(events_of(small_trainer(trainer.dataset, steps=2), "training")) == 2


def test_training_lowers_the_energy_and_narrows_the_bracket():
    trainer = small_trainer(steps=40)
    records = [record for _, record in events_of(trainer, "training")]
    assert len(records) == trainer.updater.step == 40
    assert records[0].bracket_width > 0.02
    assert records[-1].bracket_width < 0.02 * records[0].bracket_width
    assert trainer.counters.best_width < 0.02 * records[0].bracket_width
    # the schedule: 5 steps of warm-up, then a cosine over the run
    rates = [record.learning_rate for record in records]
    np.testing.assert_allclose(rates[0], 1e-2 / 5, rtol=1e-2)
    assert np.argmax(rates) == 4
    assert rates[-1] < 1e-3


@pytest.mark.parametrize(
    ("model", "asked", "used"),
    [("fock", None, 1e-2), ("qpt", None, 3e-4), ("coefficient", None, 3e-4), ("qpt", 2e-3, 2e-3)],
)
def test_the_learning_rate_is_the_familys_unless_one_is_asked_for(model, asked, used):
    network = {} if model == "fock" else {"model_config": ORBITAL_NETWORK}
    trainer = small_trainer(model=model, optimiser={"learning_rate": asked}, **network)
    assert trainer.config.optimiser.learning_rate == used
    assert trainer.updater.learning_rate(0.0) == pytest.approx(used / 5)  # the warm-up's first
    trainer.begin()
    assert trainer.train(0.0).learning_rate == pytest.approx(used / 5)


def test_every_engine_and_every_loss_has_its_own_maker():
    assert tuple(build._POOLS) == ENGINES
    assert len(set(build._POOLS.values())) == len(ENGINES)
    assert tuple(losses._LOSSES) == LOSSES
    assert len(set(losses._LOSSES.values())) == len(LOSSES)


@pytest.mark.slow
def test_training_in_triple_zeta_narrows_the_bracket_around_the_scf():
    """Water in PBE/def2-TZVP, with the f functions of oxygen."""
    level = {"xc": "PBE", "basis": "def2-tzvp", "grid_level": 0}
    trainer = small_trainer(level=level, steps=40)
    widths = [record.bracket_width for _, record in events_of(trainer, "training")]
    assert widths[0] > 5e-3
    assert widths[-1] < 0.05 * widths[0]
    model = trainer.updater.averaged.double().eval()
    water = molecule_of(model, (8, 1, 1))
    positions = molecule("H2O").positions / Bohr
    point = single_point(model, water, torch.tensor(positions)[None])
    reference = reference_scf(water, positions)
    assert float(point.bracket.lower) < reference.energy < float(point.energy)
    assert float(point.energy) - reference.energy < 1e-3


@pytest.fixture(scope="module")
def sampled():
    """A run that samples: the trainer after it, and all of its events."""
    trainer = small_trainer(model="fock", steps=90, coarse_share=1.0, **SAFE)
    return trainer, list(trainer.run())


def test_sampling_starts_when_the_bracket_is_safe(sampled):
    trainer, events = sampled
    steps = [event.step for event in events if event.sampling]
    assert steps == [56, 64, 72, 80, 88]  # rounds every 8 steps after the look at step 50
    assert trainer.counters.sampling
    never = small_trainer(steps=60, safe_width_mEh=1e-9)
    assert events_of(never, "sampling") == []
    assert not never.counters.sampling
    assert never.counters.nsamples == 0


def test_samples_join_the_buffer_with_their_integrals(sampled):
    trainer, events = sampled
    samples = [s for event in events if event.sampling for s in event.sampling.samples]
    assert len(samples) == trainer.counters.nsamples >= 18
    assert events[-1].nsamples == len(samples)
    kept = [s.positions for i, s in enumerate(samples, start=1) if not is_held_out(0, i)]
    buffer = [trainer.cache.positions_of(key) for key in trainer.buffer.samples][8:]
    np.testing.assert_array_equal(buffer, kept)
    key = trainer.buffer.samples[-1]
    assert key in trainer.cache._prepared
    (remembered,) = trainer.cache.batches([key])
    fresh = trainer.cache._prepare(key)
    torch.testing.assert_close(remembered.guess_fock, fresh.guess_fock, atol=1e-12, rtol=0)
    assert remembered.grid.weights.shape == fresh.grid.weights.shape
    assert not remembered.guess_fock.requires_grad


def test_held_out_copies_are_replaced_by_samples(sampled):
    trainer, events = sampled
    samples = [s for event in events if event.sampling for s in event.sampling.samples]
    expected = [s.positions for i, s in enumerate(samples, start=1) if is_held_out(0, i)]
    assert trainer.counters.nheld_out == len(expected) == 2
    np.testing.assert_array_equal(held_positions(trainer)[:2], expected)
    assert len(trainer.held_out) == 4


def test_every_walker_is_held_out_and_about_one_sample_in_twelve():
    numbers = [number for number in range(1, 12_001) if is_held_out(3, number)]
    assert abs(len(numbers) - 1000) < 4 * np.sqrt(1000)
    for period in (4, 12, 16):  # samples come in such messages
        counts = np.bincount([number % period for number in numbers], minlength=period)
        assert counts.min() > 0.5 * counts.mean()
    assert numbers != [number for number in range(1, 12_001) if is_held_out(4, number)]


def test_samples_take_the_places_of_their_own_molecule():
    trainer = small_trainer(small_dataset("H2O", "H2"), validation_frames=4)
    trainer.begin()
    kinds = [trainer.held_out.cache.molecule_of(key) for key in trainer.held_out.keys]
    assert kinds == [0, 0, 1, 1]
    at = trainer.dataset.references[1]
    taken = []
    for number in range(1, 200):
        if trainer.held_out.take(0, number, 1, at):
            taken.append(number)
    assert sorted(trainer.counters.replaced) == [2, 3]  # and none of the others
    assert taken == [number for number in range(1, 200) if is_held_out(0, number, 4)]
    assert len(taken) > 4
    assert [trainer.held_out.cache.molecule_of(key) for key in trainer.held_out.keys] == kinds


def test_samples_held_out_are_spread_over_the_last_part_of_the_dynamics():
    trainer = small_trainer(validation_frames=4)
    trainer.begin()
    numbers = []
    for number in range(1, 3001):
        at = np.full((3, 3), float(number))
        if trainer.held_out.take(0, number, 0, at):
            numbers.append(number)
        if number == 100:
            early = sorted(positions[0, 0] for positions in held_positions(trainer))
    assert early == [number for number in numbers if number <= 100][-4:]
    held = sorted(positions[0, 0] for positions in held_positions(trainer))
    assert held == numbers[-4:]
    assert held[0] > 1000  # nothing of the beginning is left
    assert held[-1] - held[0] > 200  # and they are no neighbours
    assert len(numbers) < 60


def test_weights_are_compared_on_the_same_geometries():
    trainer = small_trainer(validation_frames=4, model="fock")
    trainer.begin()
    for _ in range(15):
        trainer.train(0.0)
    first = trainer.validator.validate()
    assert first.best
    good = weights_of(trainer.best_model())
    # the set becomes an easier one, and the weights worse
    reference = trainer.dataset.references[0]
    for place in range(4):
        assert trainer.held_out.replace(0, reference * (1.0 + 1e-3 * place)) == place
    with torch.no_grad():
        for parameter in trainer.updater.averaged.parameters():
            parameter.add_(0.01)
    second = trainer.validator.validate()
    again = mean_bracket(
        trainer.best_model().float(),
        trainer.held_out.cache.batches(trainer.held_out.keys),
        trainer.threads,
    )[1]
    assert abs(again - first.bracket_width) > 0.05 * first.bracket_width
    assert not second.best
    assert second.bracket_width > again
    assert second.best_width == trainer.counters.best_width == pytest.approx(again, rel=1e-4)
    assert torch.equal(weights_of(trainer.best_model()), good)


def test_the_widest_bracket_is_told_beside_the_mean():
    dataset = small_dataset("H2O", "H2")
    trainer = small_trainer(dataset, validation_frames=6)
    trainer.begin()
    trainer.train(0.0)
    found = trainer.validator.validate()
    batches = trainer.held_out.cache.batches(trainer.held_out.keys)
    with torch.no_grad():
        _, widths = EnergyLoss().losses_of(trainer.updater.averaged, batches, trainer.threads)
    assert found.bracket_width == pytest.approx(float(widths.mean()))
    assert found.largest_width == pytest.approx(float(widths.max()))
    assert found.largest_width > 1.5 * found.bracket_width
    expected = [float(widths[:3].mean()), float(widths[3:].mean())]
    assert found.widths_of_molecules == pytest.approx(expected)
    assert (found.ngeometries, found.nsampled, found.nframes) == (6, 0, 0)
    assert found.best_largest_width == trainer.counters.best_largest_width == found.largest_width


def test_copies_that_dynamics_did_not_replace_are_taken_along_in_the_end():
    """The last validation is at geometries of the model's own dynamics, however short the run."""
    trainer = sampling_trainer(steps=30, validation_frames=6, validate_every=15)
    copies = held_positions(trainer)
    reached = []
    for event in trainer.run():
        if event.validation:
            reached.append(held_positions(trainer))
    replaced = trainer.counters.replaced
    left = [place for place in range(6) if place not in replaced]
    assert len(left) >= 3
    for place in left:
        np.testing.assert_array_equal(reached[0][place], copies[place])  # not before the end
        assert np.abs(reached[-1][place] - copies[place]).max() > 0.02
    assert trainer.counters.copies_moved_fs > 1.0
    assert trainer.counters.nheld_out == len(replaced) < 6


def test_another_validation_set_is_another_yardstick(sampled):
    _, events = sampled
    validations = [(e.step, e.validation) for e in events if e.validation]
    assert [step for step, _ in validations] == [20, 40, 60, 80, 90]
    assert validations[0][1].best
    # the second sample was held out between 64 and 80: what was best before no longer counts
    assert validations[3][1].best


def test_bars_and_counters_of_events(sampled):
    _, events = sampled
    for event in events:
        kinds = [event.training, event.sampling, event.validation]
        assert sum(kind is not None for kind in kinds) == 1
        assert event.progress == pytest.approx(event.step / 90)
    assert all(a.elapsed <= b.elapsed for a, b in itertools.pairwise(events))
    assert all(a.step <= b.step for a, b in itertools.pairwise(events))


def nwalkers(trainer):
    (checkpoint,) = trainer.sampling.checkpoints
    return [len(checkpoint.arrays[f"start.{index}.walkers"]) for index in (0, 1)]


def test_walkers_are_spread_over_the_molecules():
    trainer = small_trainer(small_dataset("H2O", "H2"), sampling={"walkers": 3})
    trainer.begin()
    trainer.sampling.place_walkers()
    assert nwalkers(trainer) == [2, 1]
    alone = small_trainer(small_dataset("H2O", "H2"), sampling={"walkers": 1})
    alone.begin()
    alone.sampling.place_walkers()  # one each at least
    assert nwalkers(alone) == [1, 1]


def test_walkers_move_on_the_averaged_model(sampled):
    trainer, events = sampled
    last = [event.sampling for event in events if event.sampling][-1].samples[-1]
    average = trainer.averaged_model()
    again = single_point(
        average, trainer.molecules[0], torch.tensor(last.positions)[None], False, -1
    )
    own = single_point(
        trainer.updater.model.double(),
        trainer.molecules[0],
        torch.tensor(last.positions)[None],
        False,
        -1,
    )
    trainer.updater.model.float()
    # two steps of a tiny learning rate later it is still nearly what the walker saw
    assert abs(last.energy - float(again.energy)) < 1e-5
    assert float(own.energy) != float(again.energy)


def test_each_geometry_of_a_mixed_batch_gets_its_own_bracket():
    trainer = small_trainer(
        small_dataset("H2O", "NH3"), pretraining_frames=3, selection={"exponent": 1.0}
    )
    trainer.begin()
    assert np.isnan(trainer.buffer.widths).all()
    samples = list(trainer.buffer.samples)
    keys = [samples[i] for i in (4, 0, 3, 2, 0)]  # of both molecules in turn
    expected = {
        key: mean_bracket(trainer.updater.model, trainer.cache.batches([key]), trainer.threads)[1]
        for key in keys
    }
    assert len(set(expected.values())) == 4
    trainer.buffer.draw = lambda size, rng: keys
    trainer.train(0.0)
    found = dict(zip(samples, trainer.buffer.widths, strict=True))
    assert {key for key, width in found.items() if np.isfinite(width)} == set(keys)
    for key, width in expected.items():
        assert found[key] == pytest.approx(width, rel=1e-4)


def test_samples_bring_the_bracket_that_they_were_sampled_with():
    trainer = sampling_trainer(seed=7, selection={"exponent": 1.0})
    event = next(trainer.run())
    kept = [sample.bracket_width for sample in event.sampling.samples]
    assert len(kept) == 4
    assert min(kept) > 0.0
    np.testing.assert_array_equal(trainer.buffer.widths[-4:], kept)


# Isomers and conformers


def bonded(atoms, positions):
    """Which geometries (Bohr) have the bonds of a structure."""
    return same_connectivity(atoms.numbers, atoms.positions, np.array(positions) * Bohr)


def test_isomers_are_trained_on_held_out_and_sampled_each_with_its_own_bonds():
    trainer = sampling_trainer(
        Dataset.of([HCN, HNC]), pretraining_frames=5, validation_frames=6, steps=17
    )
    assert trainer.names == ["CHN (isomer 1)", "CHN (isomer 2)"]
    for cache, keys, count in (
        (trainer.cache, list(trainer.buffer.samples), 5),
        (trainer.held_out.cache, trainer.held_out.keys, 3),
    ):
        for index, atoms in enumerate((HCN, HNC)):
            own = [cache.positions_of(key) for key in keys if cache.molecule_of(key) == index]
            assert len(own) == count
            assert bonded(atoms, own).all()
    samples = [s for _, r in events_of(trainer, "sampling") for s in r.samples]
    for index, atoms in enumerate((HCN, HNC)):
        own = [s.positions for s in samples if s.molecule == index]
        assert len(own) >= 4
        assert bonded(atoms, own).all()
    assert sum(trainer.counters.resets.values()) == 0


def nearest(positions, structures):
    """How many geometries (Bohr) are nearest to each structure."""
    each = [distances(positions, atoms.positions / Bohr) for atoms in structures]
    return Counter(np.argmin(each, axis=0).tolist())


def test_conformers_are_trained_on_held_out_and_have_a_walker_each():
    conformers = [peroxide(100.0), peroxide(180.0), peroxide(-100.0)]
    trainer = small_trainer(Dataset.of(conformers), pretraining_frames=6, validation_frames=3)
    assert trainer.notes == ["3 structures are given: 3 walkers instead of 2"]
    trainer.begin()
    copies = [trainer.cache.positions_of(key) for key in trainer.buffer.samples]
    assert nearest(copies, conformers) == {0: 2, 1: 2, 2: 2}
    assert nearest(held_positions(trainer), conformers) == {0: 1, 1: 1, 2: 1}
    trainer.sampling.place_walkers()
    (checkpoint,) = trainer.sampling.checkpoints
    assert nearest([*checkpoint.arrays["start.0.positions"]], conformers) == {0: 1, 1: 1, 2: 1}
    assert checkpoint.arrays["start.0.reference"].shape == (3, 4, 3)


def test_many_conformers_of_many_molecules_do_not_fill_what_is_held_out():
    """Each has its share, of conformers that differ from molecule to molecule."""
    conformers = [peroxide(angle) for angle in (95.0, 180.0, -95.0)]
    others = [molecule("N2H4"), molecule("N2H4")]
    others[1].set_dihedral(4, 0, 1, 5, 180.0, indices=[5])
    trainer = small_trainer(
        Dataset.of([*others, *conformers]), pretraining_frames=3, validation_frames=2
    )
    trainer.begin()
    held = trainer.held_out
    assert [held.cache.molecule_of(key) for key in held.keys] == [0, 1]
    assert nearest([held.cache.positions_of(held.keys[1])], conformers) == {1: 1}
    trained = [k for k in trainer.buffer.samples if trainer.cache.molecule_of(k) == 1]
    assert nearest([trainer.cache.positions_of(key) for key in trained], conformers) == {
        0: 1,
        1: 1,
        2: 1,
    }


def test_many_structures_of_a_molecule_take_turns():
    many = rattled(40, stdev=0.05)
    trainer = small_trainer(Dataset.of(many), pretraining_frames=8, validation_frames=4)
    assert trainer.notes == ["40 structures are given: the 2 walkers go from one to the next"]
    trainer.begin()
    assert len(trainer.buffer.samples) == 40  # each is trained on
    assert len(trainer.held_out) == 4
    trainer.sampling.place_walkers()
    (checkpoint,) = trainer.sampling.checkpoints
    assert checkpoint.arrays["start.0.positions"].shape == (2, 3, 3)
    assert checkpoint.arrays["start.0.reference"].shape == (40, 3, 3)


def test_frames_of_one_isomer_and_a_structure_of_the_other():
    frames = [HNC.copy() for _ in range(8)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.02, seed=seed)
    trainer = small_trainer(Dataset.of([HCN], frames), pretraining_frames=3, validation_frames=2)
    trainer.begin()
    held = Counter(trainer.held_out.cache.molecule_of(key) for key in trainer.held_out.keys)
    assert held == {1: 2, 0: 1}
    copies = [trainer.cache.positions_of(key) for key in trainer.buffer.samples]
    assert len(copies) == 3
    assert bonded(HCN, copies).all()
    # samples may replace the copy, and never the frames given
    at = trainer.dataset.references[0]
    places = [trainer.held_out.replace(m, at) for m in (0, 1)]
    assert places == [2, None]


def test_frames_of_every_isomer_are_held_out():
    frames = [*(HCN.copy() for _ in range(6)), *(HNC.copy() for _ in range(6))]
    for seed, frame in enumerate(frames):
        frame.rattle(0.02, seed=seed)
    trainer = small_trainer(Dataset.of([], frames), validation_frames=4, self_refine=False)
    held = Counter(trainer.held_out.cache.molecule_of(key) for key in trainer.held_out.keys)
    assert held == {1: 4, 0: 2}  # the last four of all, as told, and the last of the others
    assert len(trainer.buffer.frames) == 6


def test_a_conformer_that_no_frame_is_near_is_sampled_too():
    frames = [peroxide(100.0) for _ in range(8)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.02, seed=seed)
    covered = small_trainer(Dataset.of([peroxide(100.0)], frames))
    covered.begin()
    assert len(covered.buffer.samples) == 0
    trainer = small_trainer(Dataset.of([peroxide(-100.0)], frames), pretraining_frames=3)
    trainer.begin()
    assert len(trainer.buffer.samples) == 3
    assert nearest(held_positions(trainer)[4:], [peroxide(100.0), peroxide(-100.0)]) == {1: 4}


def test_walkers_do_not_start_from_frames_with_other_bonds():
    frames = [HCN.copy() for _ in range(40)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.02, seed=seed)
    frames[3] = HNC
    trainer = small_trainer(Dataset.of([], frames), sampling={"walkers": 60})
    assert "1 of 40 frames have other bonds than CHN" in trainer.notes[0]
    trainer.begin()
    trainer.sampling.place_walkers()
    (checkpoint,) = trainer.sampling.checkpoints
    starts = checkpoint.arrays["start.0.positions"]
    assert len(starts) == 60
    assert bonded(HCN, starts).all()
    free = small_trainer(Dataset.of([], frames), sampling={"walkers": 300, "allow_reactions": True})
    free.sampling.place_walkers()
    assert not bonded(HCN, free.sampling.checkpoints[0].arrays["start.0.positions"]).all()


# Given frames


def test_last_frames_are_held_out_and_never_trained_on(monkeypatch):
    frames = rattled(9)
    trainer = small_trainer(small_dataset(frames=frames), self_refine=False)
    drawn = []
    original = trainer.cache.batches
    monkeypatch.setattr(trainer.cache, "batches", lambda keys: drawn.extend(keys) or original(keys))
    events = list(trainer.run())
    assert len(held_positions(trainer)) == 4
    for (_, expected), found in zip(
        trainer.dataset.frames[5:], held_positions(trainer), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    trained = {trainer.cache.positions_of(key).tobytes() for key in drawn}
    assert trained == {positions.tobytes() for _, positions in trainer.dataset.frames[:5]}
    assert len(drawn) == 20 * 4
    assert {count for count in Counter(drawn).values()} == {16}  # each as often as any other
    assert not any(event.sampling for event in events)
    assert len(trainer.buffer.samples) == 0


@pytest.mark.parametrize(("nframes", "nheld"), [(2, 1), (5, 2), (8, 4), (40, 4)])
def test_number_of_frames_held_out(nframes, nheld):
    trainer = small_trainer(small_dataset(frames=rattled(nframes)))
    assert len(trainer.held_out) == nheld
    assert len(trainer.buffer.frames) == nframes - nheld


def test_a_single_frame_is_refused():
    with pytest.raises(BadInput, match="a single frame: give at least two"):
        small_trainer(small_dataset(frames=rattled(1)))


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [
        (5, 1.0, [0, 1, 2, 3, 4]),
        (9, 0.34, [0, 4, 8]),
        (340, 25 / 340, [round(i * 339 / 24) for i in range(25)]),
        (10, 0.001, [0]),
        (0, 0.5, []),
    ],
)
def test_a_share_of_a_time_series_is_evenly_spaced(count, fraction, expected):
    assert evenly_spaced(range(count), fraction) == expected


def test_a_share_of_the_frames_is_trained_on_and_all_of_those_held_out_validate():
    frames = rattled(12)
    whole, half = (
        small_trainer(small_dataset(frames=frames), validation_frames=4, data_fraction=fraction)
        for fraction in (1.0, 0.5)
    )
    positions = [[t.cache.positions_of(key) for key in t.buffer.frames] for t in (whole, half)]
    assert [len(each) for each in positions] == [8, 4]
    for mine, given in zip(positions[1], [0, 2, 5, 7], strict=True):
        np.testing.assert_array_equal(mine, positions[0][given])
    assert len(half.held_out) == len(whole.held_out) == 4


def test_dynamics_waits_for_the_end_of_the_pretraining():
    trainer = small_trainer(
        small_dataset(frames=rattled(12)), steps=170, pretraining_steps=120, **SAFE
    )
    first = next(event.step for event in trainer.run() if event.sampling is not None)
    assert 150 <= first < 160  # from the next look on; without pretraining it is at 50


def test_frames_and_samples_are_mixed_as_told():
    frames = rattled(12)
    trainer = small_trainer(
        small_dataset(frames=frames),
        steps=66,
        frames_share=0.25,
        **SAFE,
    )
    drawn = []
    original = trainer.buffer.draw
    trainer.buffer.draw = lambda size, rng: drawn.append(original(size, rng)) or drawn[-1]
    for _ in trainer.run():
        pass
    given = set(trainer.buffer.frames)
    shares = [sum(key in given for key in batch) for batch in drawn]
    assert shares[:56] == [4] * 56  # no samples yet
    assert shares[56:] == [1] * 10
    assert trainer.counters.nheld_out == 0  # the frames given remain the validation set


# What ends a run


def test_target_error_stops():
    frames = small_dataset(frames=rattled(8))
    config = {"self_refine": False, "steps": 400, "validate_every": 10}
    trainer = small_trainer(frames, target_error_uEh=300.0, **config)
    validations = [v for _, v in events_of(trainer, "validation")]
    assert trainer.updater.step < 200
    assert validations[-1].bracket_width < 3e-4 < validations[-2].bracket_width
    assert len(validations) == trainer.updater.step / 10
    # asked again, it has nothing left to do
    assert list(trainer.run()) == []


def test_target_error_waits_for_a_validation_set_of_samples():
    trainer = sampling_trainer(
        steps=100, validate_every=5, target_error_uEh=1e6, validation_frames=1, seed=7
    )
    events = list(trainer.run())
    first = min(e.step for e in events if e.sampling and e.nsamples >= 5)
    assert 5 < first < trainer.updater.step <= first + 5
    assert trainer.counters.nheld_out == 1


@pytest.mark.parametrize(
    ("factors", "reached"),
    [
        ((1.01, None), True),
        ((None, 1.01), True),
        ((1.01, 1.01), True),
        ((1.01, 0.99), False),
        ((0.99, 1.01), False),
        ((None, 0.99), False),
    ],
)
def test_targets_of_the_mean_and_of_the_worst_molecule(factors, reached):
    mean, worst = (
        None if factor is None else factor * 1e6 * width
        for factor, width in zip(factors, (2e-5, 3e-5), strict=True)
    )
    trainer = small_trainer(
        small_dataset("H2O", "H2"), target_error_uEh=mean, target_worst_error_uEh=worst
    )
    trainer.begin()
    trainer.validator.counters = ValidationCounters(
        best_width=2e-5,
        worst_molecules=[1, 0],
        worst_widths=[3e-5, 1e-5],
        validated_nsampled=trainer.held_out.nreplaceable,
    )
    assert trainer.target_is_reached is reached


def test_a_worst_molecule_is_known_of_the_best_weights():
    trainer = small_trainer(small_dataset("H2O", "H2"), target_worst_error_uEh=1e9)
    assert not trainer.target_is_reached
    trainer.begin()
    trainer.train(0.0)
    validation = trainer.validator.validate()
    assert [name for name, _ in validation.worst] == ["H2O", "H2"]
    assert [width for _, width in validation.worst] == list(validation.widths_of_molecules)
    # that of H2 is rounding: in a minimal basis there is one state
    assert validation.worst[0][1] > 1e-6 > validation.worst[1][1] >= 0.0
    assert validation.of_levels == ()
    assert trainer.worst_molecules == list(validation.worst)
    with torch.no_grad():
        for parameter in trainer.updater.averaged.parameters():
            parameter.add_(0.01)
    assert not trainer.validator.validate().best
    assert trainer.worst_molecules == list(validation.worst)


def test_stop_request_ends_after_the_step_in_hand():
    trainer = small_trainer()
    for event in trainer.run():
        if event.step == 7:
            trainer.stop_requested = True
    assert trainer.updater.step == 7
    assert event.training is not None  # and no validation of an unfinished run


def test_time_limit_and_its_schedule(monkeypatch):
    seconds = itertools.count(1000.0)
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: next(seconds))
    trainer = small_trainer(minutes=1.0, steps=1000)
    events = list(trainer.run())
    assert 10 <= trainer.updater.step <= 60
    assert trainer.progress == 1.0
    assert events[-1].validation is not None
    rates = [e.training.learning_rate for e in events if e.training]
    assert rates[-1] < 0.1 * max(rates)  # the cosine is over when the time is


def test_steps_limit_whatever_the_time():
    trainer = small_trainer(minutes=1000.0, steps=3)
    assert [step for step, _ in events_of(trainer, "training")] == [1, 2, 3]


def test_no_sample_for_many_rounds_is_an_error(monkeypatch):
    monkeypatch.setattr(sampling_schedule, "_FRUITLESS_ROUNDS", 5)
    trainer = sampling_trainer(steps=1000, train_steps_per_round=1)
    original = training_parts.model_energy_surface

    def broken_surface(*arguments):
        surface = original(*arguments)

        def broken(index, positions):
            evaluation = surface(index, positions)
            return replace(evaluation, energy=evaluation.energy + torch.nan)

        return broken

    monkeypatch.setattr(training_parts, "model_energy_surface", broken_surface)
    with pytest.raises(SamplingFailed, match=r"no sample in 5 rounds .* times not finite or too"):
        for _ in trainer.run():
            pass
    assert trainer.updater.step == 4
    # two walkers, two steps a round
    assert trainer.counters.resets == {"not finite or too close": 20}
    assert trainer.counters.nsamples == 0


# Seeds, threads, models


def run_numbers(**changes):
    trainer = sampling_trainer(steps=12, **changes)
    samples = []
    for event in trainer.run():
        if event.sampling:
            samples += [s.positions for s in event.sampling.samples]
    return weights_of(trainer.updater.averaged), np.array(samples)


def test_same_seed_same_numbers_other_seed_others():
    first, samples = run_numbers()
    again, samples_again = run_numbers()
    assert len(samples) == 8
    assert torch.equal(first, again)
    np.testing.assert_array_equal(samples, samples_again)
    chosen, _ = run_numbers(selection={"exponent": 1.0})
    chosen_again, _ = run_numbers(selection={"exponent": 1.0})
    assert torch.equal(chosen, chosen_again)
    assert float((first - chosen).abs().max()) > 1e-4
    other, samples = run_numbers(seed=1)
    assert float((first - other).abs().max()) > 1e-2
    assert np.abs(samples - samples_again).max() > 1e-2


def test_threads_do_not_change_the_numbers():
    first, samples = run_numbers()
    second, samples_again = run_numbers(threads=2)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-3)
    np.testing.assert_allclose(samples, samples_again, atol=1e-4)


def test_global_generators_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    for _ in small_trainer(steps=2).run():
        pass
    assert (torch.rand(1), np.random.rand()) == expected


def test_initial_model_is_made_for_the_elements_by_the_seed():
    data = small_dataset("H2O", "NH3")
    models = [initial_model(small_config(seed=seed), data) for seed in (3, 3, 4)]
    assert models[0].elements == (1, 7, 8)
    assert models[0].level == small_config().level
    assert models[0].config.features == 8
    assert torch.equal(weights_of(models[0]), weights_of(models[1]))
    assert not torch.equal(weights_of(models[0]), weights_of(models[2]))


def test_a_model_that_is_given_is_trained_on():
    model = small_model(xc="LDA", grid_level=0)
    before = weights_of(model).clone()
    trainer = Trainer(small_config(steps=1), small_dataset(), model)
    torch.testing.assert_close(weights_of(trainer.updater.model), before.float())
    for _ in trainer.run():
        pass
    assert not torch.equal(weights_of(trainer.updater.model), before.float())
    with pytest.raises(BadInput, match="the model does not know N"):
        Trainer(small_config(), small_dataset("NH3"), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "oracle"}, "unknown model family 'oracle'"),
        ({"model_config": {"feature": 8}}, "unknown setting 'model_config.feature'"),
        ({"model_config": {"features": 2.5}}, "model_config.features is 2.5: use int"),
        (
            {"model_config": {"guess": "huckel"}},
            "guess 'huckel': the family 'potential'",
        ),
        ({"level": {"basis": "nonsense"}}, "no basis 'nonsense'"),
        ({"level": {"basis": "cc-pvqz"}}, "functions with l = 4"),
        ({"level": {"density_fitting": "nonsense"}}, "no basis 'nonsense'"),
        ({"level": {"charge": 1}}, "an open shell"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(changes, message):
    with pytest.raises(BadInput) as caught:
        small_trainer(**changes)
    assert message in str(caught.value)


# Models that a run gives


def test_best_model_is_that_of_the_narrowest_validation():
    frames = small_dataset(frames=rattled(8))
    trainer = small_trainer(frames, model="fock", self_refine=False, steps=40)
    untrained = weights_of(trainer.best_model())
    for _ in range(15):
        trainer.train(0.0)
    first = trainer.validator.validate()
    best = weights_of(trainer.best_model())
    assert first.best
    assert not torch.equal(best, untrained)
    assert torch.equal(best, weights_of(trainer.averaged_model()))
    with torch.no_grad():
        for parameter in trainer.updater.averaged.parameters():
            parameter.add_(0.05)
    second = trainer.validator.validate()
    assert second.bracket_width > first.bracket_width
    assert not second.best
    assert torch.equal(weights_of(trainer.best_model()), best)
    assert trainer.counters.best_width == first.bracket_width
    assert trainer.best_model().level == trainer.config.level
    assert weights_of(trainer.best_model()).dtype == torch.float64


def test_validation_is_the_mean_on_the_levels_own_grid():
    frames = rattled(22)  # eleven held out: more than one batch
    trainer = small_trainer(small_dataset(frames=frames), validation_frames=11)
    trainer.train(0.0)
    found = trainer.validator.validate()
    positions = torch.tensor(np.array([atoms.positions for atoms in frames[11:]]) / Bohr)
    expected = single_point(trainer.updater.averaged, trainer.molecules[0], positions, False)
    coarse = single_point(trainer.updater.averaged, trainer.molecules[0], positions, False, -1)
    assert found.energy == pytest.approx(float(expected.energy.mean()), abs=1e-7)
    assert found.bracket_width == pytest.approx(float(expected.bracket.width.mean()), abs=1e-7)
    assert abs(found.energy - float(coarse.energy.mean())) > 1e-5


def grid_sizes(monkeypatch, **changes):
    """Points of the training batches of ten steps, and of the coarse and the level's own grid."""
    trainer = small_trainer(small_dataset(frames=rattled(3)), steps=10, **changes)
    sizes = []
    original = trainer.updater.update

    def noting(batches, progress):
        sizes.append(batches[0].grid.weights.shape[1])
        return original(batches, progress)

    monkeypatch.setattr(trainer.updater, "update", noting)
    for _ in trainer.run():
        pass
    given = torch.as_tensor(rattled(1)[0].positions / Bohr)[None]
    coarse, own = (prepare(trainer.molecules[0], given, level) for level in (COARSE_GRID, None))
    return sizes, coarse.grid.weights.shape[1], own.grid.weights.shape[1]


@pytest.mark.parametrize(
    ("coarse_share", "ncoarse"), [(0.0, 0), (0.7, 7), (0.9, 9), (0.95, 10), (1.0, 10)]
)
def test_the_end_of_training_is_on_the_levels_own_grid(monkeypatch, coarse_share, ncoarse):
    sizes, coarse, own = grid_sizes(monkeypatch, coarse_share=coarse_share, self_refine=False)
    assert coarse != own
    assert sizes == [coarse] * ncoarse + [own] * (10 - ncoarse)


def test_samples_that_come_late_are_trained_on_on_the_levels_own_grid():
    changes = {"steps": 60, "coarse_share": 0.6, "train_steps_per_round": 5}
    trainer = small_trainer(small_dataset(frames=rattled(4)), **changes, **SAFE)
    for event in trainer.run():
        late = event.sampling is not None and event.progress >= 0.6
        if late:
            break
    assert late
    (batch,) = trainer.cache.batches([list(trainer.buffer.samples)[-1]])
    expected = prepare(trainer.molecules[0], batch.positions)
    assert batch.grid.weights.shape == expected.grid.weights.shape


def test_counters_as_plain_values_carry_the_time():
    trainer = small_trainer(steps=2)
    trainer.elapsed_before = 100.0
    for _ in trainer.run():
        pass
    plain = trainer.to_plain()["counters"]
    assert plain["elapsed"] > 100.0
    assert math.isfinite(plain["best_width"])
    assert plain["nsamples"] == 0


def test_a_structure_without_frames_joins_one_that_has_them():
    dataset = small_dataset("H2O", "H2", frames=rattled(6))
    trainer = small_trainer(dataset, validation_frames=2, pretraining_frames=3)
    trainer.begin()
    given = [trainer.cache.molecule_of(key) for key in trainer.buffer.frames]
    copies = [trainer.cache.molecule_of(key) for key in trainer.buffer.samples]
    held = Counter(trainer.held_out.cache.molecule_of(key) for key in trainer.held_out.keys)
    assert given == [0] * 4
    assert copies == [1] * 3
    assert held == {0: 2, 1: 1}


def test_nothing_to_train_on_is_refused():
    with pytest.raises(BadInput, match="nothing to train on"):
        small_trainer(self_refine=False)
