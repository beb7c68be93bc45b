"""The sampler: statistics on a well that is known, guards on surfaces that are planted, restart."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule as ase_molecule
from ase.units import Bohr

from ase_srdft.common.connectivity import same_connectivity
from ase_srdft.common.units import HARTREE_PER_KELVIN
from ase_srdft.dft.energy_bracket import EnergyBracket
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import concatenate
from ase_srdft.models.electronic_state import ElectronicState
from ase_srdft.models.single_point import single_point
from ase_srdft.models.single_point_result import SinglePointResult
from ase_srdft.sampling.config import DYNAMICS, SamplingConfig
from ase_srdft.sampling.integrators import (
    BAOAB,
    LeimkuhlerMatthews,
    MetropolisLangevin,
    WalkerState,
)
from ase_srdft.sampling.lindh_mobility import mobility, rigid_motions
from ase_srdft.sampling.sampler import Sampler
from ase_srdft.sampling.schemes import SCHEMES
from ase_srdft.sampling.thermal_copies import thermal_copies
from tests.tools.small_models import small_model

LEVEL = LevelOfTheory(xc="LDA", basis="sto-3g", grid_level=0)
WATER = Molecule(numbers=(8, 1, 1), level=LEVEL)
HYDROGEN = Molecule(numbers=(1, 1), level=LEVEL)
WATER_AT = ase_molecule("H2O").positions / Bohr
HYDROGEN_AT = np.array([[0.0, 0.0, -0.7], [0.0, 0.0, 0.7]])
REASONS = ("not finite or too close", "energy spike", "bonds changed")


class HarmonicSurface:
    """E = E0 + k |R - R0|² / 2 for every walker; what is planted for one walker spoils its own."""

    def __init__(self, molecule, centre, spring):
        self.centre, self.spring = centre, spring
        self.geometry = prepare(molecule, torch.tensor(centre)[None])
        self.plant = lambda energy, forces: None
        self.calls = []

    def __call__(self, molecule, positions):
        self.calls.append((molecule, positions.copy()))
        displacement = positions - self.centre
        energy = -1.0 + 0.5 * self.spring * (displacement**2).sum((1, 2))
        forces = -self.spring * displacement
        self.plant(energy, forces)
        return answer(concatenate([self.geometry] * len(positions)), energy, forces)


def answer(geometry, energy, forces):
    """An evaluation with these numbers; the bracket of walker i is (i + 1) mH wide."""
    energy = torch.tensor(energy)
    nao = geometry.molecule.nao
    matrix = torch.zeros((len(energy), nao, nao), dtype=torch.float64)
    widths = 1e-3 * torch.arange(1.0, len(energy) + 1, dtype=torch.float64)
    state = ElectronicState(density_matrix=matrix, mo_coeff=matrix, mo_energy=matrix[:, 0])
    return SinglePointResult(
        energy=energy,
        forces=torch.tensor(forces),
        bracket=EnergyBracket(lower=energy - widths, upper=energy, aufbau_gap=widths),
        state=state,
        fock=matrix,
        geometry=geometry,
    )


def sampler_on(surface, nwalkers, molecule=WATER, seed=0, **config):
    """A sampler whose walkers all start at the bottom of the well."""
    sampler = Sampler(SamplingConfig(**config), [molecule], surface)
    rng = np.random.default_rng(seed)
    sampler.init([np.repeat(surface.centre[None], nwalkers, 0)], [surface.centre], rng)
    return sampler, rng


def mean_and_error(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


# Statistics

SPRING = 0.4  # Hartree/Bohr², as the model Hessian of H2 has it
KT = HARTREE_PER_KELVIN * 500.0


@pytest.fixture
def cheap_samples(monkeypatch):
    """Samples whose integrals are those of the well's bottom: thousands of them in a second."""
    bottom = prepare(HYDROGEN, torch.tensor(HYDROGEN_AT)[None])
    monkeypatch.setattr("ase_srdft.sampling.sampler.select", lambda geometry, index: bottom)


def hydrogen_sampler(nwalkers, **config):
    surface = HarmonicSurface(HYDROGEN, HYDROGEN_AT, SPRING)
    return sampler_on(surface, nwalkers, HYDROGEN, allow_reactions=True, **config)


def bond_displacements(samples):
    """Along the stretch, as a coordinate of unit length."""
    bonds = [np.linalg.norm(s.positions[1] - s.positions[0]) for s in samples]
    return (np.array(bonds) - 1.4) / np.sqrt(2.0)


@pytest.mark.usefixtures("cheap_samples")
def test_overdamped_positions_have_the_variance_of_the_well():
    sampler, rng = hydrogen_sampler(24)
    # one round, so that the mobility is constant
    result = sampler.sample(150, rng)
    assert result.acceptance == 1.0
    assert len(result.samples) == 24 * 150
    by_walker = [
        np.mean(bond_displacements([s for s in result.samples[24 * 20 :] if s.walker == w]) ** 2)
        for w in range(24)
    ]
    mean, error = mean_and_error(by_walker)
    assert error < 0.06 * KT / SPRING
    assert abs(mean - KT / SPRING) < 3 * error


@pytest.mark.usefixtures("cheap_samples")
def test_overdamped_temperature_is_estimated_from_the_forces():
    sampler, rng = hydrogen_sampler(24)
    sampler.sample(20, rng)
    temperatures = [sampler.sample(8, rng).temperature_K for _ in range(25)]
    mean, error = mean_and_error(temperatures)
    assert error < 25.0
    assert abs(mean - 500.0) < 3 * error + 2.0


@pytest.mark.usefixtures("cheap_samples")
def test_langevin_positions_and_kinetic_temperature():
    # far apart and soft: slow enough for the time step; no bond to keep
    spring, centre = 0.05, np.array([[0.0, 0.0, -2.0], [0.0, 0.0, 2.0]])
    surface = HarmonicSurface(HYDROGEN, centre, spring)
    settings = {"friction_per_fs": 0.15, "timestep_fs": 0.5, "allow_reactions": True}
    sampler, rng = sampler_on(surface, 24, HYDROGEN, dynamics="langevin", **settings)
    sampler.sample(60, rng)
    temperatures, by_walker = [], np.zeros((24, 0))
    for _ in range(12):
        result = sampler.sample(20, rng)
        assert result.acceptance == 1.0
        temperatures.append(result.temperature_K)
        squares = [((s.positions - centre) ** 2).mean() for s in result.samples]
        by_walker = np.hstack([by_walker, np.reshape(squares, (20, 24)).T])
    mean, error = mean_and_error(temperatures)
    assert error < 25.0
    assert abs(mean - 500.0) < 3 * error + 2.0
    mean, error = mean_and_error(by_walker.mean(1))
    assert error < 0.08 * KT / spring
    assert abs(mean - KT / spring) < 3 * error


@pytest.mark.usefixtures("cheap_samples")
def test_metropolis_refuses_some_and_keeps_those_that_moved():
    sampler, rng = hydrogen_sampler(8, dynamics="metropolis", step_size=1.9)
    before = sampler.groups[0].state.positions
    result = sampler.sample(1, rng)
    moved = (sampler.groups[0].state.positions != before).any((1, 2))
    assert 0 < moved.sum() < 8
    assert [s.walker for s in result.samples] == list(np.flatnonzero(moved))
    assert result.acceptance == moved.mean()
    assert np.isnan(result.temperature_K)
    longer = sampler.sample(30, rng)
    assert 0.1 < longer.acceptance < 0.95
    assert len(longer.samples) == round(longer.acceptance * 8 * 30)
    careful, rng = hydrogen_sampler(8, dynamics="metropolis", step_size=0.1)
    assert careful.sample(10, rng).acceptance > longer.acceptance


@pytest.mark.usefixtures("cheap_samples")
def test_the_settings_know_every_scheme():
    assert tuple(SCHEMES) == DYNAMICS


@pytest.mark.usefixtures("cheap_samples")
def test_metropolis_samples_stand_for_the_steps_until_the_next():
    nwalkers, nsteps = 32, 200
    sampler, rng = hydrogen_sampler(nwalkers, dynamics="metropolis", step_size=1.9)
    samples = sampler.sample(nsteps, rng).samples
    once, for_its_steps = [], []
    for walker in range(nwalkers):
        own = [s for s in samples if s.walker == walker and s.step > 20]
        squares = bond_displacements(own) ** 2
        stays = np.diff([s.step for s in own] + [nsteps + 1])
        assert 20 < len(own) < stays.sum()
        once.append(np.mean(squares))
        for_its_steps.append(np.average(squares, weights=stays))
    mean, error = mean_and_error(for_its_steps)
    assert error < 0.06 * KT / SPRING
    assert abs(mean - KT / SPRING) < 3 * error
    assert np.mean(once) - KT / SPRING > 3 * error


def test_an_unknown_scheme_is_no_other_scheme():
    config = SamplingConfig()
    object.__setattr__(config, "dynamics", "verlet")  # past the check of the settings
    with pytest.raises(KeyError, match="verlet"):
        Sampler(config, [HYDROGEN], HarmonicSurface(HYDROGEN, HYDROGEN_AT, SPRING))


@pytest.mark.parametrize(
    ("dynamics", "integrator"),
    [("overdamped", LeimkuhlerMatthews), ("metropolis", MetropolisLangevin), ("langevin", BAOAB)],
)
def test_schemes_have_the_integrators_of_their_names(dynamics, integrator):
    scheme, config = SCHEMES[dynamics], SamplingConfig(dynamics=dynamics)
    found = scheme.integrator(config, np.array([1, 1]), HYDROGEN_AT[None])
    assert type(found) is integrator
    assert found.thermal_energy == pytest.approx(KT)
    state = found.init(HYDROGEN_AT[None], lambda x: (x[:, 0, 0], -x), np.random.default_rng(0))
    assert type(state) is scheme.state


def test_temperature_of_a_hotter_bath():
    sampler, rng = hydrogen_sampler(24, temperature_K=50.0)
    sampler.sample(20, rng)
    assert 35.0 < sampler.sample(60, rng).temperature_K < 65.0


# Guards

SOFT = 0.3


def planted(kind):
    """A water sampler with four walkers, the third of which is about to fail; and its surface."""
    surface = HarmonicSurface(WATER, WATER_AT, SOFT)
    sampler, rng = sampler_on(surface, 4)
    group = sampler.groups[0]
    positions = group.state.positions.copy()

    def spoil(energy, forces):
        if len(energy) < 4:
            return  # the walker that is reset
        if kind == "energy spike":
            energy[2] += 1.0
        elif kind == "infinite energy":
            energy[2] = np.inf
        elif kind == "NaN forces":
            forces[2, 1, 0] = np.nan
        elif kind == "NaN":
            energy[2], forces[2] = np.nan, np.nan

    if kind == "clash":
        positions[2, 1] = positions[2, 0] + [0.0, 0.0, 0.1]
    elif kind == "broken bond":
        positions[2, 1] += 2.0 * (positions[2, 1] - positions[2, 0])
        surface.spring = 1e-6
    forces = group.state.forces.copy()
    if kind == "NaN positions":
        forces[2] = np.nan
    group.state = replace(group.state, positions=positions, forces=forces)
    surface.plant = spoil
    return surface, sampler, rng


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("NaN", 0),
        ("NaN forces", 0),
        ("NaN positions", 0),
        ("infinite energy", 0),
        ("clash", 0),
        ("energy spike", 1),
        ("broken bond", 2),
    ],
)
def test_a_failing_walker_is_reset_and_counted_and_the_others_go_on(kind, reason):
    _, sampler, rng = planted(kind)
    result = sampler.sample(1, rng)
    assert +result.resets == Counter({REASONS[reason]: 1})
    assert [sample.walker for sample in result.samples] == [0, 1, 3]
    assert result.acceptance == 0.75
    state = sampler.groups[0].state
    np.testing.assert_array_equal(state.positions[2], WATER_AT)
    assert np.isfinite(state.energy).all()
    assert np.isfinite(state.forces).all()
    assert state.energy[2] == -1.0

    unspoilt = planted("nothing")
    if kind == "broken bond":
        unspoilt[0].spring = 1e-6
    _, other, rng = unspoilt
    undisturbed = other.sample(1, rng)
    assert +undisturbed.resets == Counter()
    assert [sample.walker for sample in undisturbed.samples] == [0, 1, 2, 3]
    for mine, theirs in zip(
        state.to_arrays().values(), other.groups[0].state.to_arrays().values(), strict=True
    ):
        np.testing.assert_array_equal(mine[[0, 1, 3]], theirs[[0, 1, 3]])
    assert (state.positions[0] != WATER_AT).any()


@pytest.mark.parametrize("dynamics", ["overdamped", "langevin"])
def test_a_walker_that_fails_once_is_sampled_again(dynamics):
    surface = HarmonicSurface(WATER, WATER_AT, SOFT)
    sampler, rng = sampler_on(surface, 3, dynamics=dynamics)

    def spoil(energy, forces):
        if len(energy) == 3 and len(surface.calls) == 3:
            energy[1] = np.nan

    surface.plant = spoil
    result = sampler.sample(5, rng)
    assert +result.resets == Counter({REASONS[0]: 1})
    assert Counter(s.walker for s in result.samples) == {0: 5, 1: 4, 2: 5}


def test_reactions_are_kept_where_they_are_allowed():
    surface = HarmonicSurface(WATER, WATER_AT, 1e-6)
    sampler, rng = sampler_on(surface, 2, allow_reactions=True)
    group = sampler.groups[0]
    positions = group.state.positions.copy()
    positions[1, 1] += 2.0 * (positions[1, 1] - positions[1, 0])
    group.state = replace(group.state, positions=positions)
    assert [s.walker for s in sampler.sample(1, rng).samples] == [0, 1]


def test_a_surface_is_never_asked_about_a_clash():
    surface, sampler, rng = planted("clash")
    surface.calls.clear()
    sampler.sample(1, rng)
    for _, positions in surface.calls:
        distances = np.linalg.norm(positions[:, 0] - positions[:, 1], axis=1)
        assert distances.min() > 1.0


def test_spikes_are_measured_from_the_lowest_energy_seen():
    surface = HarmonicSurface(WATER, WATER_AT, SOFT)
    sampler, rng = sampler_on(surface, 2)
    group = sampler.groups[0]
    # half kT per mode, and 8 standard deviations and some room
    limit = 0.5 * KT * (3 + 8.0 * (np.sqrt(6.0) + 2.0))
    for shift, fails in ((0.9 * limit, False), (1.1 * limit, True)):
        surface.plant = lambda energy, forces, shift=shift: energy[1:].fill(-1.0 + shift)
        result = sampler.sample(1, rng)
        assert result.resets["energy spike"] == fails
    assert group.lowest_energy >= -1.0
    surface.plant = lambda energy, forces: energy.__isub__(5.0)
    result = sampler.sample(1, rng)  # the surface has sunk as a whole: no spike
    assert result.resets["energy spike"] == 0
    assert group.lowest_energy < -5.9


def test_an_energy_that_is_not_finite_at_the_start_spoils_no_other_walker():
    surface = HarmonicSurface(WATER, WATER_AT, SOFT)
    surface.plant = lambda energy, forces: energy.__setitem__(0, np.nan)
    sampler, rng = sampler_on(surface, 3)
    surface.plant = lambda energy, forces: None
    result = sampler.sample(1, rng)
    assert [s.walker for s in result.samples] == [0, 1, 2]


# What a sample is, several molecules, new weights


def test_samples_are_what_the_surface_says_of_them():
    model = small_model(xc="LDA", grid_level=0).double()

    def surface(index, positions):
        return single_point(model, WATER, torch.tensor(positions), grid_level=-1)

    sampler = Sampler(SamplingConfig(), [WATER], surface)
    rng = np.random.default_rng(0)
    sampler.init([np.repeat(WATER_AT[None], 2, 0)], [WATER_AT], rng)
    samples = sampler.sample(2, rng).samples
    assert [s.walker for s in samples] == [0, 1, 0, 1]
    for sample in samples:
        assert np.abs(sample.positions - WATER_AT).max() > 1e-3
        again = surface(0, sample.positions[None])
        assert sample.energy == pytest.approx(float(again.energy), abs=1e-9)
        np.testing.assert_allclose(sample.forces, again.forces[0], atol=1e-8)
        assert sample.bracket_width == pytest.approx(float(again.bracket.width), abs=1e-9)
        assert len(sample.geometry) == 1
        np.testing.assert_array_equal(sample.geometry.positions[0], sample.positions)
        torch.testing.assert_close(
            sample.geometry.integrals.overlap, again.geometry.integrals.overlap, atol=1e-12, rtol=0
        )


def two_molecules(dynamics="overdamped", seed=0):
    surfaces = [
        HarmonicSurface(WATER, WATER_AT, SOFT),
        HarmonicSurface(HYDROGEN, HYDROGEN_AT, SPRING),
    ]
    sampler = Sampler(
        SamplingConfig(dynamics=dynamics),
        [WATER, HYDROGEN],
        lambda index, positions: surfaces[index](index, positions),
    )
    rng = np.random.default_rng(seed)
    starts = [np.repeat(WATER_AT[None], 2, 0), HYDROGEN_AT[None]]
    sampler.init(starts, [WATER_AT, HYDROGEN_AT], rng)
    return sampler, rng


def test_several_molecules():
    sampler, rng = two_molecules()
    result = sampler.sample(3, rng)
    assert Counter((s.molecule, s.walker) for s in result.samples) == {
        (0, 0): 3,
        (0, 1): 3,
        (1, 2): 3,
    }
    assert [s.step for s in result.samples if s.walker == 1] == [1, 2, 3]
    assert {s.positions.shape for s in result.samples if s.molecule == 1} == {(2, 3)}
    assert [s.bracket_width for s in result.samples[:2]] == pytest.approx([1e-3, 2e-3])
    assert result.temperature_K > 0


def test_molecules_without_walkers_are_left_out():
    sampler, rng = two_molecules()
    sampler.init([np.zeros((0, 3, 3)), HYDROGEN_AT[None]], [WATER_AT, HYDROGEN_AT], rng)
    assert {s.molecule for s in sampler.sample(2, rng).samples} == {1}


def test_update_takes_energies_and_forces_from_the_new_weights():
    surface = HarmonicSurface(WATER, WATER_AT, SOFT)
    sampler, rng = sampler_on(surface, 3)
    sampler.sample(2, rng)
    before = sampler.groups[0].state
    surface.spring = 2 * SOFT
    surface.plant = lambda energy, forces: energy.__isub__(3.0)
    sampler.update()
    state = sampler.groups[0].state
    np.testing.assert_array_equal(state.positions, before.positions)
    np.testing.assert_array_equal(state.noise, before.noise)
    assert np.abs(before.forces).max() > 1e-3
    np.testing.assert_allclose(state.forces, 2 * before.forces, rtol=1e-12)
    np.testing.assert_allclose(state.energy + 4.0, 2 * (before.energy + 1.0), rtol=1e-9)
    assert sampler.groups[0].lowest_energy == state.energy.min()


# Several structures of a molecule

#: Water, and two more structures of it.
THREE = np.array([WATER_AT, 1.02 * WATER_AT, 1.04 * WATER_AT])


def three_structures(nwalkers, fail=(), seed=0):
    """Walkers at the first of three structures, which fail at some calls (call, walker).

    Gives the sampler, its generator, and a list of where walkers start again.
    """
    surface = HarmonicSurface(WATER, WATER_AT, 1e-14)  # no structure is higher than another
    numbers = itertools.count()

    def plant(energy, forces):
        call = next(numbers)
        for walker in (walker for when, walker in fail if when == call):
            energy[walker] = np.nan

    surface.plant = plant
    sampler = Sampler(SamplingConfig(temperature_K=1e-6), [WATER], surface)
    rng = np.random.default_rng(seed)
    sampler.init([np.repeat(THREE[:1], nwalkers, 0)], [THREE], rng)
    group, starts = sampler.groups[0], []
    original = group.next_starts

    def noting(count):
        found = original(count)
        starts.append([int(np.abs(THREE - at).max((1, 2)).argmin()) for at in found])
        return found

    group.next_starts = noting
    return sampler, rng, starts


def test_failed_walkers_go_round_the_structures():
    # calls: the start, then each step and each new start
    sampler, rng, starts = three_structures(3, fail=[(2, 0), (2, 2), (4, 0), (6, 1)])
    result = sampler.sample(4, rng)
    assert result.resets["not finite or too close"] == 4
    assert starts == [[0, 1], [2], [0]]
    found = sampler.groups[0].state.positions
    assert [int(np.abs(THREE - at).max((1, 2)).argmin()) for at in found] == [2, 0, 1]


def test_walkers_take_turns_where_there_are_more_structures(monkeypatch):
    monkeypatch.setattr("ase_srdft.sampling.walker_group._TURN_STEPS", 3)
    sampler, rng, starts = three_structures(2)
    assert len(sampler.sample(9, rng).samples) == 18
    assert starts == [[2, 0], [1, 2], [0, 1]]
    settled, rng, starts = three_structures(3)
    settled.sample(9, rng)
    assert starts == []  # as many walkers as structures: nobody waits


def test_restart_goes_on_with_the_structures_and_their_turns():
    fail = [(call, 0) for call in range(2, 40, 2)]
    sampler, rng, _ = three_structures(2, fail)
    sampler.sample(3, rng)
    arrays = {name: array.copy() for name, array in sampler.to_arrays().items()}
    state = rng.bit_generator.state
    expected = sampler.groups[0].next_starts(4)
    other, rng, _ = three_structures(2, seed=7)
    other.from_arrays(arrays)
    rng.bit_generator.state = state
    assert not np.array_equal(expected[0], expected[1])
    np.testing.assert_array_equal(other.groups[0].next_starts(4), expected)


def test_walkers_of_an_older_version_go_on():
    sampler, rng = two_molecules()
    sampler.sample(2, rng)
    arrays = sampler.to_arrays()
    assert not any("structure" in name for name in arrays)  # as they were then
    other, _ = two_molecules(seed=3)
    other.from_arrays(arrays)
    np.testing.assert_array_equal(other.groups[0].structures, WATER_AT[None])


# More molecules than move at a time


def taking_turns(together, dynamics="overdamped", seed=0):
    """Water and four like it, in wells of their own; whose energy was asked for is noted."""
    asked = []
    well = HarmonicSurface(WATER, WATER_AT, SOFT)

    def surface(index, positions):
        asked.append(index)
        return well(index, positions)

    sampler = Sampler(SamplingConfig(dynamics=dynamics), 5 * [WATER], surface)
    rng = np.random.default_rng(seed)
    starts = [WATER_AT[None] * (1.0 + 0.01 * index) for index in range(5)]
    sampler.init(starts, 5 * [WATER_AT], rng, together=together)
    return sampler, rng, asked


def test_molecules_take_turns_and_those_that_wait_cost_nothing():
    sampler, rng, asked = taking_turns(together=2)
    assert asked == []  # nobody's turn has come
    rounds = [sampler.sample(3, rng) for _ in range(5)]
    whose = [sorted({s.molecule for s in batch.samples}) for batch in rounds]
    assert [len(molecules) for molecules in whose] == 5 * [2]
    assert Counter(m for molecules in whose for m in molecules) == dict.fromkeys(range(5), 2)
    # the first time the start and three steps, and then three steps: the weights are the same
    assert Counter(asked) == dict.fromkeys(range(5), 7)
    assert [group.nsteps for group in sampler.groups] == 5 * [6]
    walkers = {(s.molecule, s.walker) for batch in rounds for s in batch.samples}
    assert walkers == {(index, index) for index in range(5)}


def test_a_molecule_goes_on_from_where_it_was_left_with_the_weights_of_now():
    sampler, rng, asked = taking_turns(together=1)
    sampler.sample(2, rng)
    (first,) = (group for group in sampler.groups if group.nsteps)
    left = first.state.positions.copy()
    for version in range(1, 5):
        sampler.update(version)
        sampler.sample(2, rng)
    np.testing.assert_array_equal(first.state.positions, left)
    assert first.version == 0
    asked.clear()
    sampler.update(5)
    assert asked == [first.molecule]
    assert first.version == 5
    np.testing.assert_array_equal(first.state.positions, left)
    batch = sampler.sample(2, rng)
    assert {(s.molecule, s.weights_version) for s in batch.samples} == {(first.molecule, 5)}
    assert np.abs(batch.samples[0].positions - left[0]).max() < 0.5
    # without an update in between, the weights of now are asked all the same
    sampler.version = 6
    asked.clear()
    sampler.sample(2, rng)
    assert len(asked) == 3


def test_conformers_take_shorter_turns_where_molecules_take_turns(monkeypatch):
    monkeypatch.setattr("ase_srdft.sampling.walker_group._SHORT_TURN_STEPS", 2)
    well = HarmonicSurface(WATER, WATER_AT, SOFT)
    sampler = Sampler(SamplingConfig(temperature_K=1e-6), 2 * [WATER], well)
    rng = np.random.default_rng(0)
    sampler.init(2 * [WATER_AT[None]], 2 * [THREE], rng, together=1)
    for _ in range(2):
        sampler.sample(2, rng)
    assert [group.next_structure for group in sampler.groups] == [2, 2]


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("nrounds", [1, 4])
def test_restart_equals_going_on_with_turns(dynamics, nrounds):
    sampler, rng, _ = taking_turns(2, dynamics)
    for _ in range(nrounds):
        sampler.sample(2, rng)
    arrays = {name: array.copy() for name, array in sampler.to_arrays().items()}
    generator = rng.bit_generator.state
    other, again, _ = taking_turns(2, dynamics, seed=9)
    other.from_arrays(arrays)
    again.bit_generator.state = generator
    for version in range(1, 5):
        found = []
        for one, numbers in ((sampler, rng), (other, again)):
            one.update(version)
            found.append((to_lists(one.sample(2, numbers).samples), one.to_arrays()))
        (expected, at), (samples, arrays) = found
        assert samples == expected
        assert len(samples) > 1
        assert list(arrays) == list(at)
        for name, array in at.items():
            np.testing.assert_array_equal(arrays[name], array)


# Restart


def to_lists(samples):
    return [(s.molecule, s.walker, s.positions.tolist(), s.energy) for s in samples]


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_restart_equals_going_on(dynamics):
    sampler, rng = two_molecules(dynamics)
    sampler.sample(3, rng)
    arrays = {name: array.copy() for name, array in sampler.to_arrays().items()}
    generator = rng.bit_generator.state
    went_on = sampler.sample(4, rng)
    assert len(went_on.samples) >= 4

    other, rng = two_molecules(dynamics, seed=99)
    other.from_arrays(arrays)
    rng.bit_generator.state = generator
    restarted = other.sample(4, rng)
    assert to_lists(restarted.samples) == to_lists(went_on.samples)
    assert restarted.resets == went_on.resets
    np.testing.assert_equal(restarted.temperature_K, went_on.temperature_K)
    for name, array in sampler.to_arrays().items():
        np.testing.assert_array_equal(other.to_arrays()[name], array)


def test_arrays_are_complete():
    sampler, rng = two_molecules()
    sampler.sample(1, rng)
    arrays = sampler.to_arrays()
    fields = {"positions", "energy", "forces", "noise"}
    assert {
        name.removeprefix("walkers.0.state.") for name in arrays if "0.state." in name
    } == fields
    other, _ = two_molecules(seed=5)
    other.from_arrays({n: a for n, a in arrays.items() if n.startswith("walkers.1.")})
    assert [group.molecule for group in other.groups] == [1]
    assert isinstance(other.groups[0].state, WalkerState)


# Thermal copies


def test_thermal_copies_have_the_spread_of_the_model_hessian():
    copies = thermal_copies(WATER, WATER_AT, 400, 300.0, np.random.default_rng(0))
    moved = (copies - WATER_AT).reshape(400, 9)
    expected = HARTREE_PER_KELVIN * 300.0 * np.trace(mobility(np.array(WATER.numbers), WATER_AT))
    mean, error = mean_and_error((moved**2).sum(1))
    assert error < 0.06 * expected
    assert abs(mean - expected) < 3 * error
    assert np.abs(moved @ rigid_motions(WATER_AT)).max() < 1e-10 * np.abs(moved).max() + 1e-12


def test_thermal_copies_keep_their_bonds_however_hot():
    copies = thermal_copies(WATER, WATER_AT, 50, 50_000.0, np.random.default_rng(0))
    assert copies.shape == (50, 3, 3)
    assert same_connectivity(np.array(WATER.numbers), WATER_AT * Bohr, copies * Bohr).all()
    assert len(np.unique(copies[:, 1, 1])) == 50
    assert np.abs(copies - WATER_AT).max() > 0.3


def test_thermal_copies_are_reproducible():
    first, second, other = (
        thermal_copies(WATER, WATER_AT, 5, 500.0, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3
