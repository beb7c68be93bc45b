"""Dynamics that improves its own calculator."""

import copy
import gc
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.calculators.calculator import InputError
from ase.calculators.emt import EMT

from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.common.errors import SamplingFailed, WorkerFailed
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dynamics.self_refining_langevin import SelfRefiningLangevin
from ase_srdft.learning import background_trainer
from ase_srdft.models.model_file import load_model
from ase_srdft.sampling.config import EngineConfig
from ase_srdft.training.build import initial_model
from ase_srdft.training.trainer import Trainer
from tests.tools.small_models import orbital_model
from tests.tools.small_training import small_config, small_dataset


def untrained_water(**changes):
    """Water with a calculator whose small model has learnt nothing."""
    atoms = molecule("H2O")
    atoms.calc = SRDFTCalculator(
        initial_model(small_config(**changes), small_dataset()), grid_level=None, max_error=None
    )
    return atoms


def dynamics(atoms, **options):
    settings = {
        "config": small_config(optimiser={"learning_rate": 1e-2}),
        "rng": 0,
        "trainer_runs": "in_turn",
        "train_interval": 2,
        "train_steps": 3,
    }
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
    as_it_began = copy.deepcopy(atoms.calc)
    assert first > 0.5  # eV
    assert second < 0.3 * first  # safe for dynamics: 5 mEh on average
    assert dyn.background_trainer.trainer.updater.step % 25 == 0
    assert dyn.background_trainer.trainer.updater.step > 0
    dyn.attach(lambda: versions.append(atoms.calc.model_version))
    steps_before = dyn.background_trainer.trainer.updater.step
    dyn.run(20)
    assert dyn.nsteps == 20
    assert dyn.background_trainer.trainer.updater.step == steps_before + 10 * 3
    assert atoms.calc.model_version == before + 10
    assert versions == sorted(versions)
    atoms.get_potential_energy()
    still = atoms.copy()
    still.calc = as_it_began
    still.get_potential_energy()
    assert width(atoms) < 0.9 * width(still)
    assert dyn.last_training.bracket_width * units.Hartree < 0.1 * first
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
    ncopies = len(dyn.background_trainer.trainer.buffer.samples)
    assert ncopies == small_config().pretraining_frames
    dyn.run(6)
    cache, keys = (
        dyn.background_trainer.trainer.cache,
        list(dyn.background_trainer.trainer.buffer.samples)[ncopies:],
    )
    assert dyn.background_trainer.trainer.counters.nsamples == len(keys) == 3
    # observers see the start and each step; every second step joined
    np.testing.assert_allclose([cache.positions_of(key) for key in keys], visited[2::2])


@pytest.mark.parametrize(
    ("coarse_share", "safe_width_mEh", "before", "after"),
    [
        (0.7, 5.0, COARSE_GRID, 0),
        (0.7, 1e3, None, 0),  # nothing to pre-train
        (1.0, 5.0, COARSE_GRID, COARSE_GRID),
        (0.0, 5.0, 0, 0),
    ],
)
def test_training_beside_dynamics_is_on_the_levels_own_grid(
    coarse_share, safe_width_mEh, before, after, monkeypatch
):
    grids = []
    train = Trainer.train

    def watched(trainer, progress):
        step = train(trainer, progress)
        for batch in trainer.cache.batches(list(trainer.buffer.samples)):
            grids.append(batch.grid.template.level)
        return step

    monkeypatch.setattr(Trainer, "train", watched)
    settings = {"coarse_share": coarse_share, "safe_width_mEh": safe_width_mEh}
    dyn = dynamics(untrained_water(), config=small_config(**settings), train_steps=2)
    assert set(grids) == (set() if before is None else {before})
    assert len(grids) == dyn.background_trainer.nsteps
    grids.clear()
    dyn.run(2)
    assert grids == [after, after]


def test_forces_are_those_of_the_new_weights():
    atoms = untrained_water()
    dyn = dynamics(atoms)
    dyn.run(2)
    fresh = molecule("H2O")
    fresh.positions = atoms.positions
    fresh.calc = SRDFTCalculator(
        dyn.background_trainer.trainer.averaged_model(), grid_level=None, max_error=None
    )
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
    dyn.background_trainer.trainer.train(0.0)
    assert torch.equal(weights_of(atoms.calc.model_for(atoms)), before)
    dyn.run(2)
    assert not torch.equal(weights_of(atoms.calc.model_for(atoms)), before)
    average = weights_of(dyn.background_trainer.trainer.averaged_model())
    torch.testing.assert_close(weights_of(atoms.calc.model_for(atoms)), average)


def test_level_and_temperature_are_those_of_the_run():
    atoms = untrained_water(level={"xc": "PBE"})
    odd = small_config(level={"xc": "LDA", "basis": "6-31g"}, self_refine=False, safe_width_mEh=1e3)
    dyn = dynamics(atoms, config=odd)
    config = dyn.background_trainer.trainer.config
    assert (config.level.xc, config.level.basis) == ("PBE", "sto-3g")
    assert config.sampling.temperature_K == 300.0
    assert config.sampling.walkers == odd.sampling.walkers
    assert config.optimiser == replace(odd.optimiser, learning_rate=5e-3)
    assert config.self_refine


@pytest.mark.parametrize(("asked", "used"), [(None, 1.5e-4), (2e-3, 2e-3)])
def test_the_learning_rate_is_half_of_the_familys_unless_one_is_asked_for(asked, used):
    atoms = molecule("H2O")
    atoms.calc = SRDFTCalculator(
        orbital_model("qpt", level={"xc": "LDA"}).float(), grid_level=None, max_error=None
    )
    dyn = dynamics(
        atoms, config=small_config(safe_width_mEh=1e6, optimiser={"learning_rate": asked})
    )
    assert dyn.background_trainer.trainer.config.optimiser.learning_rate == used


def test_a_calculator_without_a_model_makes_one():
    atoms = molecule("H2")
    atoms.calc = SRDFTCalculator("untrained", xc="LDA", basis="6-31g", grid_level=0, max_error=None)
    dyn = SelfRefiningLangevin(
        atoms,
        0.5 * units.fs,
        300.0,
        trainer_runs="in_turn",
        config=small_config(safe_width_mEh=1e3),
        rng=0,
    )
    dyn.run(1)
    assert dyn.background_trainer.trainer.config.level == atoms.calc.model_for(atoms).level
    assert dyn.background_trainer.trainer.config.level.basis == "6-31g"


def test_settings_in_a_trajectory():
    dyn = dynamics(untrained_water(), config=small_config(safe_width_mEh=1e3))
    settings = dyn.todict()
    assert settings["trainer_runs"] == "in_turn"
    assert settings["train_interval"] == 2
    assert settings["train_steps"] == 3
    assert settings["temperature_K"] == 300.0


def test_a_file_has_the_model_of_the_run_and_another_run_goes_on(tmp_path):
    atoms, path = untrained_water(), tmp_path / "mine.srdft"
    dyn = dynamics(atoms)
    dyn.run(4)
    dyn.save(path)
    record = load_model(path).training
    assert record["molecules"] == ["H2O"]
    assert record["elements"] == ["H", "O"]
    assert record["samples"] == 2
    assert record["steps"] == dyn.background_trainer.nsteps > 6
    assert record["config"]["start_from"] == "<potential LDA/sto-3g model in memory>"
    again = atoms.copy()
    again.calc = SRDFTCalculator(path, grid_level=None, max_error=None)
    energy = atoms.get_potential_energy()
    assert again.get_potential_energy() == pytest.approx(energy, abs=1e-4)
    more = dynamics(again)
    assert more.last_training is None  # safe for dynamics as it is
    more.run(2)
    more.save(path)
    assert load_model(path).training["steps"] == 3
    with pytest.raises(InputError, match="no directory"):
        more.save(tmp_path / "nowhere" / "mine.srdft")


def test_the_log_tells_what_energies_are_worth(tmp_path):
    atoms, path = untrained_water(), tmp_path / "log.txt"
    atoms.calc.set(max_error=1e-3)
    dyn = dynamics(atoms, logfile=str(path), loginterval=2)
    dyn.run(4)
    header, *lines = path.read_text().splitlines()
    assert "T[K]" not in header
    rows = [line.split() for line in lines]
    assert [int(row[0]) for row in rows] == [0, 2, 4]
    for row in rows:
        assert 500.0 > float(row[2]) > 0.01  # meV, of the model by itself
        assert 1.0 > float(row[3]) >= 0.0  # and of the answer
        assert row[4] == "corrected"
    trained = [int(row[5]) for row in rows]
    assert trained == [trained[0], trained[0] + 3, trained[0] + 6]
    assert float(rows[-1][1]) == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def test_a_calculator_that_learns_by_itself_is_refused():
    atoms = untrained_water()
    atoms.calc.set(learn=True)
    with pytest.raises(InputError, match="learns by itself"):
        dynamics(atoms)


@pytest.mark.parametrize("calculator", [None, EMT()])
def test_another_calculator_is_refused(calculator):
    atoms = molecule("H2O")
    atoms.calc = calculator
    with pytest.raises(InputError, match=r"the atoms' calculator is \w+: self-refining dynamics"):
        dynamics(atoms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer_runs": "ray"}, "trainer_runs is 'ray': use 'beside' or 'in_turn'"),
        ({"engine": "local"}, "use trainer_runs='beside'"),
        ({"engine": "sync"}, "use trainer_runs='in_turn'"),
        ({"engine": "ray"}, "use trainer_runs='beside' or 'in_turn'"),
        ({"train_interval": 0}, "train_interval 0 and train_steps 3: use at least 1"),
        ({"train_steps": -1}, "train_interval 2 and train_steps -1"),
        ({"trainer_device": "toaster"}, "device 'toaster' cannot be used"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dynamics(untrained_water(), **options)


def test_pretraining_that_does_not_become_safe_is_an_error(monkeypatch):
    monkeypatch.setattr(background_trainer, "LONGEST_PRETRAINING", 50)
    atoms = untrained_water()
    with pytest.raises(SamplingFailed, match=r"after 50 training steps .* wider than 1e-09 milli"):
        dynamics(atoms, config=small_config(safe_width_mEh=1e-9, steps=1000))


# With the trainer in a process of its own


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_no_new_weights_are_passed_over_when_the_status_is_ahead_of_them():
    model = initial_model(small_config(), small_dataset())
    local = background_trainer.TrainerProcess(small_config(), small_dataset(), model, train_steps=1)
    try:
        local.process = SimpleNamespace(trouble=lambda seconds: None, end=lambda: None)
        local._mailbox.write("status", {"step": 2, "training": None})
        for version in (1, 2):
            weights = {name: t.float() + version for name, t in model.state_dict().items()}
            local._mailbox.publish(version, weights)
            torch.testing.assert_close(
                weights_of(local.newest()), weights_of(model) + version, atol=1e-6, rtol=0
            )
            assert local.newest() is None
    finally:
        local.stop()


def test_a_trainer_process_improves_the_calculator_of_the_dynamics(tmp_path):
    atoms = untrained_water()
    atoms.get_potential_energy()
    first = width(atoms)
    path = tmp_path / "run.traj"
    with dynamics(atoms, trainer_runs="beside", trajectory=str(path)) as dyn:
        trainer, pid = dyn.background_trainer, dyn.background_trainer.process.pid
        assert width(atoms) < 0.3 * first
        trained, versions = trainer.nsteps, [atoms.calc.model_version]
        assert trained >= 25  # it may have gone on already
        dyn.attach(lambda: versions.append(atoms.calc.model_version))

        def improved():
            dyn.run(2)
            return atoms.calc.model_version > versions[0] + 2

        wait_for(improved)
        assert trainer.nsteps > trained
        assert dyn.last_training.bracket_width > 0
        assert versions == sorted(versions)
        weights = weights_of(atoms.calc.model_for(atoms))
        torch.testing.assert_close(weights, weights_of(trainer._model))
        folder = trainer._mailbox.path
    assert is_gone(pid)
    assert not folder.exists()
    dyn.run(2)  # with what it has
    assert len(ase.io.read(path, ":")) == dyn.nsteps + 1


@pytest.mark.slow
def test_an_exception_and_ctrl_c_end_the_trainer():
    for error in (ValueError, KeyboardInterrupt):

        def fail(error=error):
            raise error("in the middle")

        atoms = untrained_water()
        config = small_config(safe_width_mEh=1e3)
        dyn = dynamics(atoms, trainer_runs="beside", config=config)
        pid = dyn.background_trainer.process.pid
        dyn.attach(fail, interval=2)
        with pytest.raises(error, match="in the middle"), dyn:
            dyn.run(5)
        assert is_gone(pid)
        assert np.isfinite(atoms.get_potential_energy())


@pytest.mark.slow
def test_dynamics_that_is_forgotten_ends_its_trainer():
    dyn = dynamics(
        untrained_water(), trainer_runs="beside", config=small_config(safe_width_mEh=1e3)
    )
    pid = dyn.background_trainer.process.pid
    del dyn
    gc.collect()
    assert is_gone(pid)


@pytest.mark.slow
def test_a_killed_trainer_is_replaced_and_knows_what_the_last_one_learnt():
    atoms = untrained_water()
    # the new one's optimiser begins without history: its first steps must be small ones
    config = small_config(optimiser={"learning_rate": 1e-2, "warmup_steps": 100})
    with dynamics(atoms, trainer_runs="beside", config=config) as dyn:
        trainer = dyn.background_trainer
        wait_for(lambda: dyn.run(2) and trainer.nleft_out + trainer._nsent > 5)
        wait_for(lambda: dyn.run(2) and width(atoms) < 0.01)  # eV
        known = trainer.nsteps
        os.kill(trainer.process.pid, signal.SIGKILL)
        wait_for(lambda: dyn.run(1) and trainer.nrestarts == 1)
        wait_for(lambda: dyn.run(1) and trainer.nsteps > known + 3)
        assert width(atoms) < 0.04  # pre-training alone ends at some 0.1
        trainer.config = replace(trainer.config, engine=EngineConfig(max_restarts=1))
        os.kill(trainer.process.pid, signal.SIGKILL)
        with pytest.raises(WorkerFailed, match="the trainer killed by SIGKILL, after 1 restarts"):
            wait_for(lambda: dyn.run(1) and False)


@pytest.mark.slow
def test_a_trainer_that_pauses_with_the_dynamics():
    atoms = untrained_water()
    with dynamics(atoms, trainer_runs="beside", config=small_config(safe_width_mEh=1e3)) as dyn:
        dyn.run(2)
        last = [-1]

        def still():
            time.sleep(2.0)
            dyn.background_trainer.newest()
            last.append(dyn.background_trainer.nsteps)
            return last[-1] == last[-2] > 0

        wait_for(still)
        assert last[-1] <= 2 * 10 * 3 + 3


@pytest.mark.slow
def test_pretraining_in_a_process_that_does_not_become_safe_is_an_error():
    config = small_config(safe_width_mEh=1e-9, steps=50)
    atoms = untrained_water()
    with pytest.raises(SamplingFailed, match="after 50 training steps the bracket is still"):
        dynamics(atoms, trainer_runs="beside", config=config)
