"""ase-srdft-md: files, exit codes, and going on after anything that ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import SCFError

from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.cli import md
from ase_srdft.cli.md import main
from ase_srdft.dynamics.dynamics_run import DynamicsRun

WORDS = [
    *("--model", "untrained", "--xc", "lda", "--basis", "sto-3g", "--grid-level", "0"),
    *("--threads", "1", "--time", "2fs", "--interval", "2", "-o", "out"),
]
FILES = ["checkpoint.json", "config.yaml", "md.log", "md.traj", "summary.html"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def move(*words, structure="g2:H2"):
    """Run the command as a shell would; returns the exit code."""
    try:
        return main([structure, *WORDS, *words])
    except SystemExit as leaving:
        return leaving.code


def test_from_a_name_to_a_trajectory_and_a_page(capsys):
    assert move() == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("H2 (g2:H2) at LDA/sto-3g")
    assert out[0].endswith("langevin, 300 K, 0.5 fs, into out")
    assert out[-2].startswith("done: 4 steps, 0.002 of 0.002 ps in ")
    assert out[-2].endswith("; corrected 100 %")
    assert sorted(os.listdir("out")) == FILES
    frames = ase.io.read("out/md.traj", ":")
    assert len(frames) == 3
    assert np.abs(frames[-1].get_velocities()).max() > 0.0
    page = Path("out/summary.html").read_text(encoding="utf-8")
    for words in ("Mean temperature", "bracket width in meV", "Model alone", "timestep_fs: 0.5"):
        assert words in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert move() == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line == (
        "nothing left to do: out holds 4 steps, 0.002 ps; a --time of more than 0.002 ps goes on "
        "with it"
    )


def test_a_shorter_time_than_that_of_the_run_changes_nothing(capsys):
    assert move() == 0
    before = {name: Path("out", name).read_bytes() for name in FILES}
    capsys.readouterr()
    assert move("--time", "1fs") == 0
    assert "0.002 ps; --time asks for 0.001 ps only, and nothing" in capsys.readouterr().out
    assert {name: Path("out", name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize(
    "name", ["summary.html", "md.traj", "md.log", "config.yaml", "model.srdft", "checkpoint.json"]
)
def test_no_file_of_others_is_lost(name, capsys):
    Path("out").mkdir()
    Path("out", name).write_text("[1]")
    assert move() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert "move it away" in line
    assert os.listdir("out") == [name]
    assert Path("out", name).read_text() == "[1]"


def test_files_of_other_names_are_no_hindrance():
    Path("out").mkdir()
    Path("out", "notes.txt").write_text("mine")
    assert move() == 0
    assert sorted(os.listdir("out")) == sorted([*FILES, "notes.txt"])
    assert Path("out", "notes.txt").read_text() == "mine"


def test_interrupted_it_goes_on(monkeypatch, capsys):
    original = DynamicsRun._event

    def stop(run):
        event = original(run)
        if event.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return event

    with monkeypatch.context() as patched:
        patched.setattr(DynamicsRun, "_event", stop)
        assert move() == 75
    printed = capsys.readouterr()
    assert "stopping after this step" in printed.err
    assert "interrupted: 1 steps" in printed.out
    assert "the same command goes on from here" in printed.out
    assert move() == 0
    assert "going on in out" in capsys.readouterr().out
    assert len(ase.io.read("out/md.traj", ":")) == 3


def test_a_geometry_without_an_answer_ends_it_in_one_line(monkeypatch, capsys):
    original = SRDFTCalculator.calculate
    asked = []

    def fail(calculator, *arguments):
        asked.append(0)
        if len(asked) == wanted:
            raise SCFError("it did not converge")
        original(calculator, *arguments)

    monkeypatch.setattr(SRDFTCalculator, "calculate", fail)
    wanted = 1
    assert move() == 1
    assert capsys.readouterr().err == "ase-srdft-md: error: g2:H2: it did not converge\n"
    assert not Path("out").exists()
    asked, wanted = [], 4
    assert move() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ase-srdft-md: error: at step ")
    assert "it did not converge; out holds the run so far" in line
    asked, wanted = [], 100
    assert move() == 0
    assert len(ase.io.read("out/md.traj", ":")) == 3


def test_a_charge_is_written_and_the_last_structure_of_a_file_moves():
    atoms = molecule("H2")
    atoms.append("H")
    atoms.positions = [[0, 0, 0], [0, 0, 0.9], [0, 0.8, 0.45]]
    other = atoms.copy()
    other.positions[2, 1] = 1.5
    ase.io.write("two.xyz", [other, atoms])
    assert move("--charge", "1", "--dynamics", "nve", structure="two.xyz") == 0
    frames = ase.io.read("out/md.traj", ":")
    assert [frame.info["charge"] for frame in frames] == [1, 1, 1]
    assert frames[0].positions[2, 1] == pytest.approx(0.8)


def test_structures_of_several_molecules_are_too_many(capsys):
    ase.io.write("two.xyz", [molecule("H2"), molecule("H2O")])
    assert move(structure="two.xyz") == 2
    assert (
        "two.xyz has structures of 2 formulas (H2, H2O): give one molecule"
        in capsys.readouterr().err
    )


def test_a_long_time_step_is_warned_of(capsys):
    assert move("--timestep", "2.5", "--time", "5fs") == 0
    assert "warning: a time step of 2.5 fs is too long for bonds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "structure", "message"),
    [
        (["--dynamics", "npt"], "g2:H2", "npt"),
        (["--time", "soon"], "g2:H2", "'soon' is no time"),
        (["--time", "-1"], "g2:H2", "time_ps"),
        (["--friction", "0.1", "--dynamics", "nve"], "g2:H2", "friction"),
        (["--learn", "always"], "g2:H2", "'always': use off or beside or in_turn or pause"),
        (["--model", "none"], "g2:H2", "none"),
        (["--xc", "nothing"], "g2:H2", "nothing"),
        (["--charge", "1"], "g2:H2", "electrons"),
        (["--max-error", "-1"], "g2:H2", "max_error"),
        ([], "none.xyz", "none.xyz"),
        ([], "g2:XX", "XX"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, structure, message, folder, capsys):
    assert move(*words, structure=structure) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ase-srdft-md: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_file_is_no_folder(folder, capsys):
    (folder / "taken").write_text("")
    assert main(["g2:H2", "-o", "taken"]) == 2
    assert "taken is a file: give the name of a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "ps"),
    [("0.5", 0.5), ("1fs", 1e-3), ("1e-3ps", 1e-3), ("0.25 ns", 250.0), ("2PS", 2.0)],
)
def test_times_have_units(text, ps):
    options = vars(md._parser().parse_args(["g2:H2", "-o", "out", "--time", text]))
    assert options["dynamics.time_ps"] == pytest.approx(ps, rel=1e-12)
    options = vars(md._parser().parse_args(["g2:H2", "-o", "out", "--timestep", "0.4"]))
    assert options["dynamics.timestep_fs"] == 0.4


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("ase-srdft-md ")


@pytest.mark.slow
def test_killed_it_goes_on_as_if_nothing_had_happened(folder):
    words = ["g2:H2O", *WORDS, "--time", "60fs"]
    command = [sys.executable, "-m", "ase_srdft.cli.md", *words]
    assert main([*words, "-o", "whole"]) == 0
    for frames in (5, 30):
        with subprocess.Popen(command) as process:
            log = folder / "out" / "md.log"
            while not log.exists() or len(log.read_text().splitlines()) < frames:
                assert process.poll() is None
                time.sleep(0.02)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    assert subprocess.run(command, check=False).returncode == 0
    assert (folder / "out" / "md.log").read_text() == (folder / "whole" / "md.log").read_text()
    pairs = zip(*(ase.io.read(f"{name}/md.traj", ":") for name in ("out", "whole")), strict=True)
    for one, other in pairs:
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.get_momenta(), other.get_momenta())
