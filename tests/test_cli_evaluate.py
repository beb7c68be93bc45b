"""ase-srdft-eval: the table, the numbers in JSON, and one line where it fails."""

import json
import os
import pty
import re
import subprocess
import sys

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
    ase.io.write(folder / "run", [water()] * 20, format="xyz")
    ase.io.write(folder / "frames", [water()] * 20, format="xyz")
    for name in ("run@500K.xyz", "frames@1"):
        ase.io.write(folder / "frames.xyz", frames)
        (folder / "frames.xyz").rename(folder / name)
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


@pytest.mark.parametrize("name", ["frames.traj", "frames.npz", "run@500K.xyz", "frames@1"])
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
        ({1: "ion.xyz"}, "frame 1 of ion.xyz: charge=0, but info['charge'] is -2"),
        ({1: "triplet.xyz"}, "frame 1 of triplet.xyz: info['spin'] is 3, but open shells"),
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
    for name, info in {"ion.xyz": {"charge": -2}, "triplet.xyz": {"spin": 3}}.items():
        frames = [water(), water()]
        frames[1].info.update(info)
        ase.io.write(name, frames)
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
