"""The examples run: in STO-3G and few steps always, as a user runs them when slow tests do."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import read

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "examples"


def run(name, *arguments):
    """Call the ``main`` of an example with command-line arguments."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """What ``train_water.py`` leaves behind."""
    output = tmp_path_factory.mktemp("water")
    run("train_water", "-o", output, "--basis", "sto-3g", "--steps", 50, "--target", 1000)
    return output / "model.srdft"


def test_every_example_is_tested():
    text = Path(__file__).read_text(encoding="utf-8")
    names = [path.stem for path in EXAMPLES.glob("*.py")]
    assert len(names) >= 4
    assert [name for name in names if f'"{name}"' not in text] == []


def test_training_leaves_a_model_and_a_report(model):
    assert model.stat().st_size > 10_000
    assert (model.parent / "report.html").is_file()


def test_training_asserts_its_target(tmp_path):
    options = ("-o", tmp_path / "run", "--basis", "sto-3g", "--steps", 1, "--target", 10)
    with pytest.raises(AssertionError, match="train longer"):
        run("train_water", *options)


@pytest.mark.parametrize("options", [[], ["--thermostat"]], ids=["verlet", "langevin"])
def test_dynamics_with_the_trained_model(model, tmp_path, capsys, options):
    path = tmp_path / "md.traj"
    run("water_md", model, "--steps", 20, "--trajectory", path, *options)
    frames = read(path, ":")
    assert len(frames) == 21
    assert all(math.isfinite(frame.get_potential_energy()) for frame in frames)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if len(row) == 6] == [str(step) for step in range(0, 21, 2)]


def test_dynamics_without_a_model(tmp_path):
    run("water_md", "--basis", "sto-3g", "--steps", 8, "--trajectory", tmp_path / "md.traj")


def test_dynamics_with_too_long_a_timestep_is_noticed(model, tmp_path):
    options = ("--steps", 20, "--timestep", 1.5, "--trajectory", tmp_path / "md.traj")
    with pytest.raises(AssertionError, match="not conserved"):
        run("water_md", model, *options)


def test_optimisation_with_the_trained_model(model, capsys):
    run("optimise_water", model)
    assert "the H-O-H angle is 9" in capsys.readouterr().out  # PBE/STO-3G: 96 degrees


def test_self_refining_dynamics(tmp_path):
    path = tmp_path / "md.traj"
    # in turn: how far a process beside it gets in these few steps is the machine's affair
    options = ("--basis", "sto-3g", "--steps", 40, "--trainer-runs", "in_turn")
    run("self_refining_md", *options, "--trajectory", path)
    assert len(read(path, ":")) == 41


@pytest.mark.slow
def test_the_examples_in_full(tmp_path):
    for command in (
        ["train_water.py", "-o", "run"],
        ["water_md.py", "run/model.srdft"],
        ["water_md.py", "run/model.srdft", "--thermostat"],
        ["optimise_water.py", "run/model.srdft"],
        ["self_refining_md.py"],
    ):
        script = str(EXAMPLES / command[0])
        subprocess.run(
            [sys.executable, script, *command[1:]], cwd=tmp_path, check=True, timeout=900
        )
