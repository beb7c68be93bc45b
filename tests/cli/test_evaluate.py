"""ase-srdft-eval: the table, the numbers in JSON, and one line where it fails."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import lib

from ase_srdft.cli.common import Parser, run_command
from ase_srdft.cli.evaluate import _parser, main
from ase_srdft.cli.frames import chosen_frames
from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.dft.kernels.library import thread_count
from ase_srdft.models.model_file import load_model, save_model
from ase_srdft.reference import accuracy
from ase_srdft.reference.accuracy import average, frame_errors
from tests.reference.test_accuracy import COLUMNS
from tests.tools.small_models import potential_model, small_model, water


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


def test_threads_are_those_of_kernels_and_of_the_scf(folder, monkeypatch):
    seen, usual = [], lib.num_threads()

    def note(*_):
        seen.append((thread_count(), lib.num_threads()))
        raise ReferenceNotConverged("enough is known")

    monkeypatch.setattr(accuracy, "reference_scf", note)
    assert main(arguments(folder, "--limit", "1", "--no-forces", "--threads", "2")) == 1
    assert main(arguments(folder, "--limit", "1", "--no-forces")) == 1
    assert seen == [(2, 2), (1, usual)]
    assert (thread_count(), lib.num_threads()) == (1, usual)


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
        ({0: "frames.traj"}, "is no model file"),
        ({1: "missing.xyz"}, "there is no file"),
        ({1: "water.srdft"}, "ASE cannot read"),
        ({1: "ion.xyz"}, "frame 1 of ion.xyz: charge=0, but info['charge'] is -2"),
        ({1: "triplet.xyz"}, "frame 1 of triplet.xyz: info['spin'] is 3, but open shells"),
        ({2: "--limit=0"}, "argument --limit: '0' is no whole number of at least 1"),
        ({2: "--threads=0"}, "argument --threads: '0' is no whole number of at least 1"),
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


def third_scf(monkeypatch, happens):
    """Something happens in the third SCF; returns the list that counts them."""
    original, asked = accuracy.reference_scf, []

    def reference_scf(*arguments):
        asked.append(arguments)
        if len(asked) == 3:
            happens()
        return original(*arguments)

    monkeypatch.setattr(accuracy, "reference_scf", reference_scf)
    return asked


def raising(error):
    def happens():
        raise error

    return happens


def expected_of(folder, indices):
    """Accuracy over some of the frames, without forces."""
    model = load_model(folder / "water.srdft").model
    frames = ase.io.read(folder / "frames.traj", ":")
    return average(frame_errors(model, [frames[i] for i in indices], forces=False)).to_dict()


def test_a_frame_without_reference_is_named_and_the_others_count(
    folder, tmp_path, capsys, monkeypatch
):
    expected = expected_of(folder, [0, 1, 3])
    third_scf(monkeypatch, raising(ReferenceNotConverged("no luck")))
    path = tmp_path / "numbers.json"
    words = arguments(folder, "--limit", "4", "--no-forces", "--json", str(path))
    assert main(words) == 1
    printed = capsys.readouterr()
    assert printed.err == "ase-srdft-eval: frame 2: no luck\n"
    assert f"frames   only 3 of the 4 asked for of {folder / 'frames.traj'}" in printed.out
    assert "energy, mean error" in printed.out
    found = json.loads(path.read_text())
    assert found.pop("failed") == [{"frame": 2, "reason": "no luck"}]
    assert found.pop("frames_asked") == 4
    assert found == pytest.approx(expected)


def test_no_frame_has_a_reference(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        accuracy, "reference_scf", lambda *_: raising(ReferenceNotConverged("no luck"))()
    )
    path = tmp_path / "numbers.json"
    words = arguments(folder, "--limit", "2", "--no-forces", "--json", str(path))
    assert main(words) == 1
    assert "only 0 of the 2 asked for" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert found["n_frames"] == 0
    assert [each["frame"] for each in found["failed"]] == [0, 1]


def code_of(words):
    """The exit code, or what a fault says."""
    try:
        return main(words)
    except SystemExit as leaving:
        return leaving.code
    except MemoryError as err:
        return str(err)


@pytest.fixture
def heeds_ctrl_c():
    """Programs that a script starts in the background ignore it, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize(
    ("happens", "code", "message"),
    [
        (raising(KeyboardInterrupt()), 130, "ase-srdft-eval: error: interrupted\n"),
        (lambda: os.kill(os.getpid(), signal.SIGINT), 130, "ase-srdft-eval: error: interrupted\n"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, ""),
        (raising(MemoryError("no room")), "no room", ""),
    ],
    ids=["Ctrl-C", "SIGINT", "SIGTERM", "a fault"],
)
def test_what_is_done_when_it_is_stopped_counts(
    happens, code, message, folder, tmp_path, capsys, monkeypatch
):
    expected = expected_of(folder, [0, 1])
    asked = third_scf(monkeypatch, happens)
    path = tmp_path / "numbers.json"
    words = arguments(folder, "--limit", "5", "--no-forces", "--json", str(path))
    assert code_of(words) == code
    assert len(asked) == 3
    printed = capsys.readouterr()
    assert printed.err == message
    assert "only 2 of the 5 asked for" in printed.out
    found = json.loads(path.read_text())
    assert (found.pop("frames_asked"), found.pop("failed")) == (5, [])
    assert found == pytest.approx(expected)


def test_the_last_frame_is_refused_before_the_first_scf(folder, tmp_path, capsys, monkeypatch):
    asked = third_scf(monkeypatch, lambda: None)
    path = tmp_path / "numbers.json"
    for last, message in ((molecule("CH4"), "does not know C"), (spinning(), "moments sum to 2")):
        frames = ase.io.read(folder / "frames.traj", ":3")
        ase.io.write(tmp_path / "frames.traj", [*frames, last])
        words = [str(folder / "water.srdft"), str(tmp_path / "frames.traj"), "--json", str(path)]
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("ase-srdft-eval: error: ")
        assert "frame 3" in line
        assert message in line
    assert asked == []
    assert not path.exists()


def spinning():
    atoms = water()
    atoms.set_initial_magnetic_moments([2.0, 0.0, 0.0])
    return atoms


@pytest.mark.parametrize("name", ["water.srdft", "frames.traj"])
def test_the_numbers_do_not_replace_what_is_read(name, folder, capsys):
    before = (folder / name).read_bytes()
    assert main(arguments(folder, "--limit", "1", "--json", str(folder / name))) == 2
    assert "which is read: give another file" in capsys.readouterr().err
    assert (folder / name).read_bytes() == before


def test_a_full_disk_is_one_line_and_the_table_is_shown(folder, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ase_srdft.common.atomic_files.replace_atomically", fail)
    path = tmp_path / "numbers.json"
    assert main(arguments(folder, "--limit", "1", "--no-forces", "--json", str(path))) == 1
    printed = capsys.readouterr()
    assert "energy, mean error" in printed.out
    (line,) = printed.err.splitlines()
    assert "numbers.json: No space left on device" in line


def test_small_errors_are_shown_with_their_digits(folder, tmp_path, capsys):
    path = tmp_path / "numbers.json"
    frames = str(folder / "frames.traj")
    words = ["water-pbe-6-31g", frames, "--limit", "1", "--no-forces", "--json", str(path)]
    assert main(words) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("energy, mean"))
    shown, exact = float(line.split()[-2]), json.loads(path.read_text())["energy_mae_uEh"]
    assert 0.0 < exact < 10.0
    assert shown == pytest.approx(exact, rel=5e-3)


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
    assert line.startswith("ase-srdft-eval: error: ")
    assert f"{link}: No space left on" in line
    assert link.readlink() == Path("/dev/full")
    assert Path("/dev/full").is_char_device()


def test_an_encoding_without_our_characters(folder, monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    assert main(arguments(folder, "--limit", "1")) == 0
    shown = content.getvalue().decode("ascii")
    assert " uEh\n" in shown
    assert " meV/A\n" in shown


def test_a_charge_of_zero_is_a_charge(tmp_path, capsys, monkeypatch):
    """A level-free model takes each frame's own charge, unless one is named for all."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "free.srdft", potential_model((1, 8), scale=0.0), {})
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    ion.info["charge"] = -1
    ase.io.write("ion.xyz", ion)
    words = ["free.srdft", "ion.xyz", "--no-forces", "--grid-level", "0"]
    assert main(words) == 0
    assert "bracket holds the SCF energy" in capsys.readouterr().out
    assert main([*words, "--charge", "-1"]) == 0
    assert main([*words, "--charge", "0"]) == 2
    assert "charge=0, but info['charge'] is -1" in capsys.readouterr().err
