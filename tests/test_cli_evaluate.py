"""ase-srdft-eval: the table, the numbers in JSON, and one line where it fails."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

from ase_srdft.cli.common import Parser, run_command
from ase_srdft.cli.evaluate import _parser, main
from ase_srdft.cli.frames import chosen_frames
from ase_srdft.errors import ReferenceNotConverged
from ase_srdft.evaluation import average, frame_errors
from ase_srdft.models.model_file import load_model, save_model
from tests.small_models import small_model, water
from tests.test_evaluation import COLUMNS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    save_model(folder / "water.srdft", small_model(), {})
    frames = [water(0.02 * i) for i in range(10)]
    ase.io.write(folder / "frames.traj", frames)
    positions = np.array([atoms.positions for atoms in frames])
    np.savez(folder / "frames.npz", nuclear_charges=frames[0].numbers, coords=positions)
    return folder


def arguments(folder, *more):
    return [str(folder / "water.srdft"), str(folder / "frames.traj"), *more]


def test_numbers(folder, capsys):
    path = folder / "numbers.json"
    assert main(arguments(folder, "--last", "2", "--json", str(path))) == 0
    model = load_model(folder / "water.srdft").model
    frames = ase.io.read(folder / "frames.traj", "-2:")
    expected = average(frame_errors(model, frames))
    found = json.loads(path.read_text())
    assert list(found) == COLUMNS
    assert found == pytest.approx(expected.to_dict())
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0].startswith(f"model    {folder / 'water.srdft'} (fock, ")
    assert lines[1].startswith("level    PBE/sto-3g (def2-universal-jfit, grid level 1)")
    assert lines[2] == f"frames   2 of {folder / 'frames.traj'} (H2O)"
    assert lines[5].split() == ["energy,", "mean", "error", f"{found['energy_mae_uEh']:.1f}", "µEh"]
    assert lines[-2].split()[-4:] == ["100.0", "%", "of", "frames"]
    assert [path.name for path in folder.glob(".*")] == []


def test_without_forces(folder, capsys):
    path = folder / "energy.json"
    assert main(arguments(folder, "--limit", "1", "--no-forces", "--json", str(path))) == 0
    assert json.loads(path.read_text())["forces_mae_meV_per_A"] is None
    assert "forces" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["frames.traj", "frames.npz"])
@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([], range(10)),
        (["--limit", "3"], [0, 1, 2]),
        (["--limit", "30"], range(10)),
        (["--last", "3"], [7, 8, 9]),
        (["--last", "30"], range(10)),
        (["--stride", "4"], [0, 4, 8]),
        (["--stride", "4", "--limit", "2"], [0, 4]),
        (["--last", "5", "--stride", "2"], [5, 7, 9]),
        (["--last", "5", "--stride", "2", "--limit", "2"], [5, 7]),
    ],
)
def test_choice_of_frames(name, options, chosen, folder):
    frames = chosen_frames(_parser().parse_args(["model", str(folder / name), *options]))
    found = [round((atoms.positions[1, 1] - water().positions[1, 1]) / 0.02) for atoms in frames]
    assert found == list(chosen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: "no-model"}, "no model 'no-model'"),
        ({0: "frames.traj"}, "is damaged or no model file"),
        ({1: "missing.xyz"}, "there is no file"),
        ({1: "water.srdft"}, "ASE cannot read"),
        ({2: "--limit=0"}, "argument --limit: '0' is no whole number of at least 1"),
        ({2: "--stride=x"}, "'x' is no whole number"),
        ({2: "--device=toaster"}, "device 'toaster' cannot be used"),
        ({2: "--json=no/such/folder.json"}, "there is no directory no/such"),
        ({2: "--json=."}, "it is a directory"),
        ({2: "--nonsense"}, "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(changes, message, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["water.srdft", "frames.traj", "--no-forces"]
    for index, word in changes.items():
        words[index] = word
    try:
        code = main(words)
    except SystemExit as leaving:
        code = leaving.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("ase-srdft-eval: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_found_before_the_work(folder, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main(arguments(folder, "--json", str(tmp_path / "numbers.json"))) == 2
    assert "read-only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ReferenceNotConverged("two\nlines"), 1, "ase-srdft-test: error: two lines\n"),
        (KeyboardInterrupt(), 130, "ase-srdft-test: error: interrupted\n"),
    ],
)
def test_other_exits(error, code, message, capsys):
    def command(_):
        raise error

    assert run_command(Parser(prog="ase-srdft-test"), command, []) == code
    assert capsys.readouterr().err == message


def test_faults_of_ours_keep_their_traceback():
    def command(_):
        raise KeyError("a fault")

    with pytest.raises(KeyError, match="a fault"):
        run_command(Parser(prog="ase-srdft-test"), command, [])


def read_all(descriptor):
    """What arrives at a pseudo-terminal until its other end is closed."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # Linux's way to say that it was closed
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def test_on_a_terminal(folder):
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "ase_srdft.cli.evaluate"]
    with subprocess.Popen(
        command + arguments(folder, "--limit", "2", "--no-forces"),
        stdout=secondary,
        stderr=secondary,
        env=os.environ | {"COLUMNS": "100", "TERM": "xterm"},
    ) as process:
        os.close(secondary)
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", read_all(primary))
        os.close(primary)
        assert process.wait(timeout=60) == 0, shown
    assert "100%" in shown
    assert "┃ quantity" in shown


def test_help_is_fast_and_loads_nothing_heavy():
    probe = (
        "import sys; from ase_srdft.cli.evaluate import _parser; _parser().format_help(); "
        "sys.exit(bool({'torch', 'pyscf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], timeout=60)
    assert done.returncode == 0


# Where the numbers go


QUICK = ("--limit", "1", "--no-forces")


@pytest.fixture
def full():
    """A place without room, for words."""
    with open("/dev/full", "w", encoding="utf-8") as stream:
        yield stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else closing it fails


def test_numbers_go_where_a_link_leads(folder, tmp_path, capsys):
    link, target = tmp_path / "link.json", tmp_path / "numbers.json"
    link.symlink_to(target.name)
    assert main(arguments(folder, *QUICK, "--json", str(link))) == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["n_frames"] == 1
    assert "energy, mean error" in capsys.readouterr().out


def test_numbers_on_standard_output_can_be_read_on(folder, capfd):
    assert main(arguments(folder, *QUICK, "--json", "/dev/stdout")) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["n_frames"] == 1
    assert "energy, mean error" in printed.err


@pytest.mark.parametrize("reader", ["full", "gone"])
def test_words_without_room_cost_no_numbers(reader, full, folder, tmp_path, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", full if reader == "full" else pipe)
        assert main(arguments(folder, *QUICK, "--json", str(tmp_path / "numbers.json"))) == 1
        monkeypatch.undo()
    assert json.loads((tmp_path / "numbers.json").read_text())["n_frames"] == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (reader == "full")
    assert all("cannot write to standard output (No space left on dev" in line for line in lines)


def test_numbers_without_room_are_told_and_one_line_after_them(folder, tmp_path, capsys):
    link = tmp_path / "link.json"
    link.symlink_to("/dev/full")
    assert main(arguments(folder, *QUICK, "--json", str(link))) == 1
    printed = capsys.readouterr()
    assert "energy, mean error" in printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith(f"ase-srdft-eval: error: cannot read or write {link} (No space left on")
    assert link.readlink() == Path("/dev/full")
    assert Path("/dev/full").is_char_device()


def test_an_encoding_without_our_characters(folder, monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    assert main(arguments(folder, "--limit", "1")) == 0
    shown = content.getvalue().decode("ascii")
    assert " uEh\n" in shown
    assert " meV/A\n" in shown
