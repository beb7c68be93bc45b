"""Dynamics that improves its own calculator."""

import ase.io
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.calculators.calculator import InputError
from ase.calculators.emt import EMT

from ase_srdft.calculator import SRDFTCalculator
from ase_srdft.errors import SamplingFailed
from ase_srdft.training import self_refining
from ase_srdft.training.self_refining import SelfRefiningLangevin
from ase_srdft.training.trainer import initial_model
from tests.small_training import small_config, small_dataset


def untrained_water(**changes):
    """Water with a calculator whose small model has learnt nothing."""
    atoms = molecule("H2O")
    atoms.calc = SRDFTCalculator(initial_model(small_config(**changes), small_dataset()))
    return atoms


def dynamics(atoms, **options):
    settings = {"config": small_config(), "rng": 0, "train_interval": 2, "train_steps": 3}
    return SelfRefiningLangevin(atoms, 0.5 * units.fs, 300.0, **settings | options)


def width(atoms):
    lower, upper = atoms.calc.energy_bracket
    return upper - lower


def weights_of(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().double()


def test_the_calculator_improves_as_the_run_goes():
    atoms = untrained_water()
    energy, start = atoms.get_potential_energy(), atoms.positions.copy()
    first = width(atoms)
    versions = [atoms.calc.model_version]
    dyn = dynamics(atoms)
    second, before = width(atoms), atoms.calc.model_version
    assert first > 1.0  # eV
    assert second < 0.3 * first  # safe for dynamics: 5 mEh on average
    assert dyn.trainer.learner.step % 25 == 0
    assert dyn.trainer.learner.step > 0
    dyn.attach(lambda: versions.append(atoms.calc.model_version))
    steps_before = dyn.trainer.learner.step
    dyn.run(20)
    assert dyn.nsteps == 20
    assert dyn.trainer.learner.step == steps_before + 10 * 3
    assert atoms.calc.model_version == before + 10
    assert versions == sorted(versions)
    atoms.get_potential_energy()
    assert width(atoms) < 0.5 * second
    assert dyn.last_training.bracket_width * units.Hartree < second
    moved = atoms.positions - start
    assert 0.001 < np.abs(moved).max() < 0.5
    # at the geometry where it began, the energy has gone down, as it only can by learning
    atoms.positions = start
    assert atoms.get_potential_energy() < energy - 0.4 * first


def test_geometries_of_the_run_are_what_is_trained_on():
    atoms = untrained_water()
    dyn = dynamics(atoms)
    visited = []
    dyn.attach(lambda: visited.append(atoms.positions / units.Bohr))
    ncopies = len(dyn.trainer.source.samples)
    assert ncopies == small_config().pretraining_frames
    dyn.run(6)
    store, keys = dyn.trainer.store, list(dyn.trainer.source.samples)[ncopies:]
    assert dyn.trainer.counters.nsamples == len(keys) == 3
    # observers see the start and each step; every second step joined
    np.testing.assert_allclose([store.positions_of(key) for key in keys], visited[2::2])


def test_forces_are_those_of_the_new_weights():
    atoms = untrained_water()
    dyn = dynamics(atoms)
    dyn.run(2)
    fresh = molecule("H2O")
    fresh.positions = atoms.positions
    fresh.calc = SRDFTCalculator(dyn.trainer.averaged_model())
    forces = fresh.get_forces()
    assert np.abs(forces).max() > 0.01
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5)
    assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), abs=1e-6)


def test_trajectory_and_observers(tmp_path):
    atoms = untrained_water()
    dyn = dynamics(atoms, trajectory=str(tmp_path / "run.traj"), loginterval=2)
    brackets = []

    def look():
        atoms.get_potential_energy()
        brackets.append(atoms.calc.energy_bracket)

    dyn.attach(look, interval=3)
    dyn.run(6)
    frames = ase.io.read(tmp_path / "run.traj", ":")
    assert len(frames) == 4
    assert np.abs(frames[0].positions - frames[-1].positions).max() > 1e-4
    assert np.abs(frames[-1].get_forces()).max() > 0.01
    assert frames[-1].get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1.0)
    assert len(brackets) == 3
    assert all(lower < upper for lower, upper in brackets)


def test_same_seed_same_run():
    ends = []
    for seed in (1, 1, 2):
        atoms = untrained_water()
        dynamics(atoms, rng=seed).run(4)
        ends.append(atoms.positions)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-3


def test_the_calculators_weights_change_only_by_training():
    atoms = untrained_water()
    model = atoms.calc.model_for(atoms)
    before = weights_of(model).clone()
    dyn = dynamics(atoms, config=small_config(safe_width_mEh=1e3))
    # safe as it is: nothing was trained, and the trainer has a copy of its own
    assert dyn.last_training is None
    assert atoms.calc.model_version == 0
    dyn.trainer.train(0.0)
    assert torch.equal(weights_of(atoms.calc.model_for(atoms)), before)
    dyn.run(2)
    assert not torch.equal(weights_of(atoms.calc.model_for(atoms)), before)
    average = weights_of(dyn.trainer.averaged_model())
    torch.testing.assert_close(weights_of(atoms.calc.model_for(atoms)), average)


def test_level_and_temperature_are_those_of_the_run():
    atoms = untrained_water(level={"xc": "PBE"})
    odd = small_config(level={"xc": "LDA", "basis": "6-31g"}, self_refine=False, safe_width_mEh=1e3)
    dyn = dynamics(atoms, config=odd)
    config = dyn.trainer.config
    assert (config.level.xc, config.level.basis) == ("PBE", "sto-3g")
    assert config.sampling.temperature_K == 300.0
    assert config.sampling.walkers == odd.sampling.walkers
    assert config.optimiser == odd.optimiser
    assert config.self_refine


def test_a_calculator_without_a_model_makes_one():
    atoms = molecule("H2")
    atoms.calc = SRDFTCalculator(xc="LDA", basis="6-31g", grid_level=0)
    dyn = SelfRefiningLangevin(
        atoms, 0.5 * units.fs, 300.0, config=small_config(safe_width_mEh=1e3), rng=0
    )
    dyn.run(1)
    assert dyn.trainer.config.level == atoms.calc.model_for(atoms).level
    assert dyn.trainer.config.level.basis == "6-31g"


def test_settings_in_a_trajectory():
    dyn = dynamics(untrained_water(), config=small_config(safe_width_mEh=1e3))
    settings = dyn.todict()
    assert settings["train_interval"] == 2
    assert settings["train_steps"] == 3
    assert settings["temperature_K"] == 300.0


@pytest.mark.parametrize("calculator", [None, EMT()])
def test_another_calculator_is_refused(calculator):
    atoms = molecule("H2O")
    atoms.calc = calculator
    with pytest.raises(InputError, match=r"the atoms' calculator is \w+: self-refining dynamics"):
        dynamics(atoms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_interval": 0}, "train_interval 0 and train_steps 3: use at least 1"),
        ({"train_steps": -1}, "train_interval 2 and train_steps -1"),
        ({"trainer_device": "toaster"}, "device 'toaster' cannot be used"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dynamics(untrained_water(), **options)


def test_pretraining_that_does_not_become_safe_is_an_error(monkeypatch):
    monkeypatch.setattr(self_refining, "_LONGEST_PRETRAINING", 50)
    atoms = untrained_water()
    with pytest.raises(SamplingFailed, match=r"after 50 training steps .* wider than 1e-09 milli"):
        dynamics(atoms, config=small_config(safe_width_mEh=1e-9))
