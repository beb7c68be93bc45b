"""Processes of ours: what they can import, and whose files they leave alone."""

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import pyscf
import pytest
import yaml
from ase.build import molecule

from ase_srdft.parallel.launch import (
    ignore_folder,
    ignore_folder_settings,
    python_command,
    same_settings,
)
from ase_srdft.reference.label_file import read_labels
from ase_srdft.reference.label_run import Labelling
from tests.tools.small_labels import LEVEL, plain_frames
from tests.tools.small_training import plain_with, rattled

ROOT = str(Path(__file__).parents[2])
#: Modules that ours, Python's own or a library's import.
NAMES = (
    *("json", "random", "pickle", "socket", "struct", "multiprocessing", "resource", "argparse"),
    *("numpy", "torch", "ase", "schnetpack", "h5py", "rich", "sitecustomize", "usercustomize"),
)


@pytest.fixture
def trapped(tmp_path, monkeypatch):
    """A folder of somebody's files, with names of modules, that leave a trace if they are run."""
    folder = tmp_path / "somebody's"
    folder.mkdir()
    trace = f"open({str(tmp_path / 'trace')!r}, 'a').write(__name__ + '\\n')\n"
    for name in NAMES:
        (folder / f"{name}.py").write_text(trace + "raise SystemExit('code of the folder')\n")
    (folder / ".pyscf_conf.py").write_text(trace)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYSCF_CONFIG_FILE", raising=False)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return tmp_path


def traces(folder):
    trace = folder / "trace"
    return trace.read_text().splitlines() if trace.exists() else []


def run(command, **environment):
    # the package may be there as this tree alone
    return subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": ROOT} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_process_imports_what_we_do_and_not_the_folder(trapped, monkeypatch):
    (trapped / "ours.py").write_text(
        "import json, pickle, random, sys\n"
        "def main():\n    print(json.dumps(sys.argv[1:]))\n    return 3\n"
    )
    monkeypatch.syspath_prepend(str(trapped))
    done = run(python_command("ours:main", ["a b", "é"]))
    assert done.stdout == '["a b", "\\u00e9"]\n', done.stderr
    assert done.returncode == 3
    assert traces(trapped) == []


def test_a_folder_that_is_in_our_path_is_in_theirs(tmp_path, monkeypatch):
    """As in a notebook, or by ``python -c``."""
    monkeypatch.chdir(tmp_path)
    Path("beside_the_notebook.py").write_text("def main():\n    return 4\n")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert run(python_command("beside_the_notebook:main", [])).returncode == 4


@pytest.mark.parametrize("before", [None, "0"])
def test_the_environment_is_as_it_was(before, monkeypatch):
    if before is None:
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    with ignore_folder():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ.get("PYTHONSAFEPATH") == before


@pytest.mark.slow
def test_labelling_processes_leave_the_folder_alone(trapped):
    labelling = Labelling(trapped / "labels.h5", plain_frames(3), LEVEL, forces=False, nworkers=2)
    assert len(list(labelling.run())) == 3
    assert len(read_labels(trapped / "labels.h5").labels) == 3
    assert traces(trapped) == []


def as_script(module, function, *words):
    """As the script that is installed runs it: without the current folder in its path."""
    code = f"import sys; from ase_srdft.cli.{module} import {function} as it; sys.exit(it())"
    return [sys.executable, "-P", "-c", code, *words]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "label", "eval"])
def test_no_command_runs_code_of_the_folder(command, trapped):
    ase.io.write(trapped / "water.xyz", molecule("H2O"))
    ase.io.write(trapped / "frames.traj", rattled(3))
    plain = plain_with({"steps": 2, "threads": 1})
    (trapped / "small.yaml").write_text(yaml.safe_dump(plain))
    frames = str(trapped / "frames.traj")
    commands = {
        "train": as_script(
            *("train", "program", str(trapped / "water.xyz"), "-o", "run"),
            *("--config", str(trapped / "small.yaml")),
        ),
        "label": as_script(
            *("label", "main", frames, "-o", "labels.h5", "--workers", "2"),
            *("--basis", "sto-3g", "--no-forces"),
        ),
        "eval": as_script("evaluate", "main", "water-pbe-6-31g", frames, "--no-forces"),
    }
    done = run(commands[command])
    assert traces(trapped) == []
    assert done.returncode == 0, done.stderr
    assert done.stdout


# PySCF's settings, which are Python


def settings_read(monkeypatch, **environment):
    """The file that PySCF would execute, and whether it is empty."""
    monkeypatch.delenv("PYSCF_CONFIG_FILE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    ignore_folder_settings()
    return Path(os.environ["PYSCF_CONFIG_FILE"])


def test_settings_of_the_folder_are_replaced_by_none(trapped, monkeypatch):
    chosen = settings_read(monkeypatch, HOME=trapped / "nobody")
    assert chosen.is_file()
    assert chosen.read_text() == ""
    monkeypatch.setenv("PYSCF_CONFIG_FILE", "gone.py")  # PySCF would go on to the folder's
    ignore_folder_settings()
    assert Path(os.environ["PYSCF_CONFIG_FILE"]) == chosen
    monkeypatch.delenv("PYSCF_CONFIG_FILE")
    monkeypatch.delenv("HOME")  # which PySCF takes for the current folder
    ignore_folder_settings()
    assert Path(os.environ["PYSCF_CONFIG_FILE"]) == chosen


def test_settings_of_the_user_are_read(trapped, monkeypatch):
    home = trapped / "home"
    home.mkdir()
    own = home / ".pyscf_conf.py"
    own.write_text("VERBOSE = 3\n")
    assert settings_read(monkeypatch, HOME=home) == own
    named = trapped / "named.py"
    named.write_text("")
    assert settings_read(monkeypatch, HOME=home, PYSCF_CONFIG_FILE=named) == named


@pytest.mark.parametrize("name", ["ours.py", None])
def test_a_process_has_our_settings_whatever_folder_we_are_in_now(name, trapped, monkeypatch):
    monkeypatch.setattr(pyscf.__config__, "conf_file", name)
    given = same_settings()["PYSCF_CONFIG_FILE"]
    assert given == "ours.py" if name else Path(given).read_text() == ""
    with ignore_folder():
        assert os.environ["PYSCF_CONFIG_FILE"] == given
    assert "PYSCF_CONFIG_FILE" not in os.environ
