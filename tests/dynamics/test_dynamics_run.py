"""Runs of dynamics in a folder: what they write, and that nothing tells an interruption."""

import json
import math

import ase.io
import numpy as np
import pytest
import yaml
from ase import units
from ase.build import molecule

from ase_srdft.calculator.model_card import model_card
from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.dynamics import dynamics_run
from ase_srdft.dynamics.dynamics_config import DynamicsConfig
from ase_srdft.dynamics.dynamics_run import DynamicsRun, learned_model
from ase_srdft.dynamics.equations import draw_momenta

LEVEL = {"model": "untrained", "xc": "LDA", "basis": "sto-3g", "grid_level": 0}
SETTINGS = {"timestep_fs": 0.5, "time_ps": 0.006, "interval": 2, "seed": 5}  # 12 steps


def a_run(path, atoms=None, learn=False, identity=None, **changes):
    """Water, where a run in this folder left off."""
    atoms = atoms or molecule("H2O")
    atoms.calc = SRDFTCalculator(**LEVEL, learn=learn)
    config = DynamicsConfig(**(SETTINGS | changes))
    return DynamicsRun(path, atoms, config, {"structure": "H2O"}, identity or LEVEL)


def finish(run):
    steps = list(run.run())
    run.close()
    return steps


def frames_of(path):
    return ase.io.read(path / "md.traj", ":")


@pytest.mark.parametrize(
    ("dynamics", "name"), [("langevin", "H2O"), ("nve", "H2"), ("overdamped", "H2")]
)
def test_an_interrupted_run_equals_one_that_was_not(dynamics, name, tmp_path, monkeypatch):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    steps = finish(a_run(whole, molecule(name), dynamics=dynamics))
    assert [step.step for step in steps] == list(range(13))
    moved = frames_of(whole)[-1].positions - frames_of(whole)[0].positions
    assert np.abs(moved).max() > 1e-3

    monkeypatch.setattr(dynamics_run, "_SHARE_OF_TIME", 1e-9)  # no checkpoint but at first
    run = a_run(torn, molecule(name), dynamics=dynamics)
    for step in run.run():
        if step.step == 3:  # killed
            break
    run.close()
    run = a_run(torn, molecule(name), dynamics=dynamics)
    assert (run.resumed, run.step) == (True, 0)
    for step in run.run():
        run.stop_requested = step.step == 4
    run.close()
    run = a_run(torn, molecule(name), dynamics=dynamics)
    assert (run.resumed, run.step, run.finished) == (True, 4, False)
    for step in run.run():
        if step.step == 9:  # killed after frames that no checkpoint knows of
            break
    run.close()
    run = a_run(torn, molecule(name), dynamics=dynamics)
    assert run.step == 4
    assert [step.step for step in finish(run)] == list(range(4, 13))
    assert run.paths == {"corrected": 13}

    assert (whole / "md.log").read_bytes() == (torn / "md.log").read_bytes()
    for one, other in zip(frames_of(whole), frames_of(torn), strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.get_momenta(), other.get_momenta())
        assert np.array_equal(one.get_forces(), other.get_forces())
        assert one.info == other.info
    assert frames_of(torn)[0].info["srdft_path"] == "corrected"


@pytest.mark.parametrize("damage", [b"", b"no trajectory", None])
def test_without_its_trajectory_a_run_goes_on_with_a_new_one(damage, tmp_path, monkeypatch):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    finish(a_run(whole))
    run = a_run(torn)
    for step in run.run():
        run.stop_requested = step.step == 5
    run.close()
    path = torn / "md.traj"
    if damage is None:
        damage = path.read_bytes()[:-100]
    path.write_bytes(damage)
    with pytest.raises(DamagedFile, match=r"md\.traj is damaged .* move it away"):
        a_run(torn)
    path.rename(tmp_path / "damaged.traj")
    run = a_run(torn)
    assert run.step == 5
    for step in run.run():
        run.stop_requested = step.step == 9
    run.close()
    monkeypatch.setattr(dynamics_run, "_SHARE_OF_TIME", 1e-9)
    run = a_run(torn)
    for step in run.run():
        if step.step == 11:  # killed after a frame that no checkpoint knows of
            break
    run.close()
    finish(a_run(torn))
    assert len(frames_of(torn)) == 4  # of steps 6, 8, 10 and 12
    for one, other in zip(frames_of(whole)[3:], frames_of(torn), strict=True):
        assert np.array_equal(one.positions, other.positions)


def test_a_longer_time_goes_on_where_a_run_was_done(tmp_path):
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    finish(a_run(whole))
    finish(a_run(longer, time_ps=0.003))
    run = a_run(longer)
    assert (run.step, run.finished) == (6, False)
    finish(run)
    assert np.array_equal(frames_of(whole)[-1].positions, frames_of(longer)[-1].positions)
    done = a_run(longer, time_ps=0.001)
    assert done.finished
    assert finish(done) == []
    assert len(frames_of(longer)) == 7


def test_constant_energy_is_kept_and_the_molecule_stays(tmp_path):
    atoms = molecule("H2O")
    start = atoms.get_center_of_mass()
    steps = finish(a_run(tmp_path, atoms, dynamics="nve", timestep_fs=0.2, temperature_K=500.0))
    kinetic = [1.5 * len(atoms) * units.kB * step.temperature_K for step in steps]
    total = [step.energy_eV + energy for step, energy in zip(steps, kinetic, strict=True)]
    assert np.ptp(kinetic) > 0.05
    assert np.ptp(total) < 0.003
    assert np.allclose(atoms.get_center_of_mass(), start, atol=1e-9)


@pytest.mark.parametrize("name", ["H2O", "CO2", "H2"])
def test_velocities_are_of_the_temperature_and_of_no_rigid_body(name):
    rng = np.random.default_rng(0)
    atoms = molecule(name)
    natoms = len(atoms)
    modes = 3 * natoms - (5 if name in ("CO2", "H2") else 6)
    for dynamics, expected in (("langevin", 3 * natoms), ("nve", modes)):
        config = DynamicsConfig(dynamics=dynamics, temperature_K=400.0)
        energies = []
        for _ in range(1000):
            atoms.set_momenta(np.zeros((natoms, 3)))
            assert draw_momenta(atoms, config, rng)
            energies.append(atoms.get_kinetic_energy())
        mean = np.mean(energies) / (0.5 * units.kB * 400.0)
        assert abs(mean - expected) < 5 * np.sqrt(2 * expected / 1000)
    assert np.allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-12)
    assert np.allclose(atoms.get_angular_momentum(), 0.0, atol=1e-12)


def test_what_is_written(tmp_path):
    steps = finish(a_run(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.json",
        "config.yaml",
        "md.log",
        "md.traj",
    ]
    frames = frames_of(tmp_path)
    assert len(frames) == 7
    for frame, step in zip(frames, steps[::2], strict=True):
        assert frame.get_potential_energy() == step.energy_eV
        assert frame.get_temperature() == pytest.approx(step.temperature_K)
        assert frame.info["srdft_error"] == step.certificate.error
        assert frame.info["srdft_level"].startswith("LDA/sto-3g")
    assert steps[-1].time_ps == pytest.approx(0.006)
    log = (tmp_path / "md.log").read_text().splitlines()
    assert len(log) == 8
    assert log[-1].split()[0] == "0.0060"
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert settings["structure"] == "H2O"
    assert settings["dynamics"]["seed"] == 5


def test_momenta_that_atoms_bring_are_kept(tmp_path):
    atoms = molecule("H2O")
    atoms.set_velocities(np.full((3, 3), 0.01))
    run = a_run(tmp_path, atoms, dynamics="nve")
    assert not run.drew_momenta
    finish(run)
    assert np.allclose(frames_of(tmp_path)[0].get_velocities(), 0.01)
    with pytest.raises(BadInput):
        DynamicsConfig(dynamics="langevin", temperature_K=0.0)


def test_without_momenta_there_is_no_temperature(tmp_path):
    steps = finish(a_run(tmp_path, dynamics="overdamped"))
    assert all(math.isnan(step.temperature_K) for step in steps)


def test_a_run_that_learns_keeps_its_model(tmp_path):
    run = a_run(tmp_path, learn="in_turn")
    finish(run)
    assert learned_model(tmp_path) == tmp_path / "model.srdft"
    assert model_card(str(tmp_path / "model.srdft")).family == "potential"
    run = a_run(tmp_path, learn="pause", time_ps=0.007)
    assert run.resumed
    run.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 6}, "seed was 5 and is 6"),
        ({"dynamics": "nve"}, "dynamics was 'langevin' and is 'nve'"),
        ({"identity": LEVEL | {"xc": "PBE"}}, "xc was 'LDA' and is 'PBE'"),
        ({"atoms": molecule("NH3")}, "another structure"),
        ({"atoms": molecule("H2O", positions=[[0, 0, 0], [0, 1, 0], [1, 0, 0]])}, "another str"),
    ],
)
def test_another_run_is_left_as_it_is(changes, message, tmp_path):
    finish(a_run(tmp_path, time_ps=0.001))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(BadInput, match=message):
        a_run(tmp_path, **changes)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_files_without_a_checkpoint_and_damaged_ones_are_refused(tmp_path):
    finish(a_run(tmp_path, time_ps=0.001))
    path = tmp_path / "checkpoint.json"
    text = path.read_text()
    values = json.loads(text)
    for damaged in ("", text[:-20], "[]", json.dumps(values | {"momenta": [[0.0]]})):
        path.write_text(damaged)
        with pytest.raises(DamagedFile):
            a_run(tmp_path)
    path.unlink()
    with pytest.raises(BadInput, match=r"md\.traj"):
        a_run(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"dynamics": "npt"},
        {"temperature_K": -1.0},
        {"time_ps": 0.0},
        {"time_ps": 1e-7},
        {"timestep_fs": math.inf},
        {"friction": 0.0},
        {"friction": 0.1, "dynamics": "nve"},
        {"interval": 0},
        {"seed": -1},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(BadInput):
        DynamicsConfig(**settings)
