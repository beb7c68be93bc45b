"""The examples run: in STO-3G and few steps always, as a user runs them when slow tests do."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
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


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("in_tmp_path")
def test_relaxing_leaves_a_picture_a_path_and_a_geometry(capsys):
    run("relax_molecule", "g2:H2O", "--xc", "LDA", "--basis", "sto-3g")
    assert "corrected (organics v0" in capsys.readouterr().out
    assert read("relaxed.xyz").get_angle(1, 0, 2) == pytest.approx(97.5, abs=1.0)
    assert len(read("relax.traj", ":")) > 3
    assert Path("relax.png").stat().st_size > 10_000


@pytest.mark.usefixtures("in_tmp_path")
def test_an_infrared_spectrum(capsys):
    run("infrared_spectrum", "g2:H2O", "--xc", "LDA", "--basis", "sto-3g")
    lines = [float(row.split()[0]) for row in capsys.readouterr().out.splitlines()[1:]]
    assert len(lines) == 3
    assert 1800 < lines[0] < 2300 < 3500 < lines[2]
    assert Path("infrared.png").is_file()


@pytest.mark.usefixtures("in_tmp_path")
def test_a_torsion_scan(capsys):
    run("torsion_scan", "g2:H2O2", "--atoms", 2, 0, 1, 3, "--basis", "sto-3g", "--step", 90)
    cis, middle, trans = (float(row.split()[1]) for row in capsys.readouterr().out.splitlines()[1:])
    assert cis > trans + 100.0
    assert min(middle, trans) == 0.0
    assert Path("torsion.png").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("in_tmp_path")
@pytest.mark.parametrize("name", ["thermochemistry", "proton_transfer"])
def test_reactions(name):
    run(name)
    assert Path(f"{name}.png").is_file()


@pytest.mark.usefixtures("in_tmp_path")
def test_a_reaction_of_ones_own(capsys):
    words = ("g2:H2", "g2:F2", "to", "g2:HF", "g2:HF", "--symmetry", 2, 2, 1, 1)
    run("thermochemistry", *words, "--xc", "LDA", "--basis", "sto-3g")
    energy, enthalpy, gibbs = (
        float(row.split(" eV ")[0].split()[-1]) for row in capsys.readouterr().out.splitlines()
    )
    assert energy == pytest.approx(-0.524, abs=0.02)  # PySCF's, of the best of a few distances
    assert 0.0 < abs(enthalpy - energy) < 0.3
    # no molecule more or less, and half of the symmetry twice: a little more disorder
    assert enthalpy - 0.1 < gibbs < enthalpy
    assert Path("thermochemistry.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("g2:H2", "g2:F2"), "give a reaction"),
        (("to", "g2:H2"), "give a reaction"),
        (("g2:H2", "g2:F2", "to", "g2:HF"), "not balanced"),
        (("g2:H2", "to", "g2:H2", "--symmetry", 2), "1 symmetry numbers for 2"),
    ],
)
def test_a_reaction_that_is_none(words, message):
    with pytest.raises(SystemExit, match=message):
        run("thermochemistry", *words)


@pytest.mark.usefixtures("in_tmp_path")
def test_dynamics_that_learn():
    options = ("--xc", "LDA", "--basis", "sto-3g", "--steps", 4, "--learn", "in_turn")
    run("learn_as_you_go", "g2:H2O", *options)
    assert len(read("learn_as_you_go.traj", ":")) == 5
    assert Path("learned.srdft").is_file()
    assert Path("learn_as_you_go.png").is_file()


@pytest.mark.usefixtures("in_tmp_path")
def test_an_infrared_spectrum_from_dynamics(capsys):
    options = ("--xc", "LDA", "--basis", "sto-3g", "--steps", 12)
    run("infrared_from_dynamics", "g2:H2O", *options)
    assert "meV an atom" in capsys.readouterr().out
    assert Path("infrared_from_dynamics.png").is_file()


def test_the_spectrum_has_the_frequency_of_the_dipole():
    spec = importlib.util.spec_from_file_location("s", EXAMPLES / "infrared_from_dynamics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    times = 0.5 * np.arange(4000)  # fs
    dipoles = np.cos(2 * np.pi * 1600 * 2.99792458e-5 * times)[:, None] * [[0.0, 0.6, 0.8]]
    wavenumbers, spectrum = module.power_spectrum(dipoles, 0.5)
    assert wavenumbers[spectrum.argmax()] == pytest.approx(1600, abs=5)
