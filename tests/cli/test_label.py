"""ase-srdft-label: one file, exit codes, and going on after anything that ends it."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from ase_srdft.cli.label import main
from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.reference import label_run, label_workers
from ase_srdft.reference.label_file import read_labels, write_labels
from tests.tools.small_training import rattled

WORDS = ["frames.traj", "--xc", "lda", "--basis", "sto-3g", "--grid-level", "0", "-o", "labels.h5"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory, with frames."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    ase.io.write("frames.traj", rattled(5))
    return tmp_path


def label(*more, workers="1"):
    """Run the command as a shell would; returns the exit code."""
    try:
        return main([*WORDS, "--workers", workers, *more])
    except SystemExit as leaving:
        return leaving.code


def test_from_frames_to_labels(folder, capsys):
    assert label() == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    first, last = printed.out.splitlines()
    assert first == "5 frames at LDA/sto-3g (def2-universal-jfit, grid level 0)"
    assert last.startswith("labels: labels.h5 (5 frames, 0.")
    found = read_labels(Path("labels.h5"))
    assert found.origin.forces
    assert found.origin.level.to_dict() == {
        "xc": "LDA",
        "basis": "sto-3g",
        "density_fitting": True,
        "grid_level": 0,
        "charge": 0,
    }
    assert abs(found.labels[4].forces).max() > 1e-3
    assert label() == 0
    assert "5 done before" in capsys.readouterr().out


def test_frames_for_other_potentials(folder, capsys):
    assert label("-o", "train.extxyz") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "frames: train.extxyz"
    labels = read_labels(Path("train.h5")).labels
    frames = ase.io.read("train.extxyz", ":")
    assert len(frames) == len(labels) == 5
    for atoms, one, given in zip(frames, labels, rattled(5), strict=True):
        np.testing.assert_allclose(atoms.positions, given.positions, atol=1e-8)
        energy, forces = one.energy * units.Hartree, one.forces * units.Hartree / units.Bohr
        assert abs(forces).max() > 0.1
        assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-9)
        assert atoms.info["REF_energy"] == pytest.approx(energy, rel=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-7)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], forces, atol=1e-7)
        assert atoms.info["charge"] == 0
        assert atoms.info["srdft_level"].startswith("LDA/sto-3g")
    # other names need no other SCF
    assert label("-o", "train.extxyz", "--keys", "E_ref", "F_ref") == 0
    assert "nothing left to do" in capsys.readouterr().out
    first = ase.io.read("train.extxyz", 0)
    assert first.calc is None
    assert first.info["E_ref"] == pytest.approx(labels[0].energy * units.Hartree)
    assert first.arrays["F_ref"].shape == (3, 3)
    assert label("-o", "train.extxyz", "--keys", "energy", "forces") == 0
    first = ase.io.read("train.extxyz", 0)
    assert first.get_forces().shape == (3, 3)
    assert "REF_energy" not in first.info


def test_frames_without_forces(folder):
    assert label("-o", "train.xyz", "--no-forces", "--last", "1") == 0
    (atoms,) = ase.io.read("train.xyz", ":", format="extxyz")
    assert atoms.get_potential_energy() == atoms.info["REF_energy"]
    assert "REF_forces" not in atoms.arrays


def test_options_reach_the_level_and_choose_frames(folder):
    assert label("--no-forces", "--density-fitting", "off", "--charge", "2", "--last", "2") == 0
    found = read_labels(Path("labels.h5"))
    assert (found.origin.level.density_fitting, found.origin.level.charge) == (False, 2)
    assert [each.forces for each in found.labels] == [None, None]
    last = rattled(5)[-1].positions
    assert found.labels[1].positions[1, 1] / last[1, 1] == pytest.approx(1 / 0.529177, rel=1e-5)


def test_a_frame_without_convergence_is_named_and_the_others_are_done(folder, monkeypatch, capsys):
    original = label_workers.reference_scf

    def fail(molecule, positions, forces):
        if len(asked := [*seen, positions]) == 3:
            seen.append(positions)
            raise ReferenceNotConverged("it did not converge")
        seen.append(asked[-1])
        return original(molecule, positions, forces)

    seen = []
    monkeypatch.setattr(label_workers, "reference_scf", fail)
    for _ in range(2):  # and the second time it is told again
        assert label() == 1
        printed = capsys.readouterr()
        assert printed.err == "ase-srdft-label: frame 2: it did not converge\n"
        assert "4 frames, 1 without a label" in printed.out
    assert len(seen) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_stops_and_the_same_command_goes_on(number, folder, monkeypatch, capsys):
    original = label_workers.label_frame

    def interrupt(task):
        asked.append(task.frame)
        if len(asked) == 2:
            os.kill(os.getpid(), number)
        return original(task)

    asked = []
    monkeypatch.setattr(label_workers, "label_frame", interrupt)
    assert label() == 75
    printed = capsys.readouterr()
    assert printed.err == "stopping after the frames in hand; Ctrl-C once more to stop at once\n"
    assert "interrupted: 2 of 5 frames; the same command goes on" in printed.out
    assert not Path("labels.h5").exists()
    assert label() == 0
    assert asked == [0, 1, 2, 3, 4]
    assert read_labels(Path("labels.h5")).complete


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--xc", "PBE"], "holds labels of LDA/sto-3g"),
        (["--last", "2"], "holds labels of other frames"),
        (["--no-forces"], "holds labels with forces, not without"),
        (["--charge", "1"], "an open shell"),
        (["--xc", "M06"], "unknown xc 'M06'"),
        (["--basis", "nonsense"], "no basis 'nonsense' for"),
        (["--grid-level", "12"], "grid level 12: use a whole number"),
        (["--workers", "0"], "'0' is no whole number of at least 1"),
        (["-o", "no/such/labels.h5"], "there is no directory no/such"),
        (["-o", "frames.traj"], "frames.traj is damaged or no file of labels"),
        (["-o", "."], "it is a directory"),
        (["-o", "mine.xyz"], "mine.xyz is there, and mine.h5"),
        (["-o", "x.xyz", "--keys", "my energy", "forces"], "'my energy' is no name"),
        (["-o", "x.xyz", "--keys", "energy", "F"], "energy under 'energy' and forces under 'F'"),
        (["--keys", "energy", "forces"], "--keys are of FILE.extxyz"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(more, message, folder, capsys):
    assert label() == 0
    ase.io.write("mine.xyz", rattled(1))
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert label(*more) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("ase-srdft-label: error: ")
    assert message in line
    assert printed.out == ""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_frames_of_another_charge(folder, capsys):
    ion = molecule("H2O")
    ion.set_initial_charges([-2.0, 0.0, 0.0])
    ase.io.write("frames.traj", [ion])
    assert label("--charge", "0") == 2
    assert "charge=0, but the atoms' initial charges sum to -2" in capsys.readouterr().err
    assert label("--no-forces") == 0
    assert read_labels(Path("labels.h5")).origin.level.charge == -2


def hydroxide(**info):
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    atoms.info.update(info)
    return atoms


def test_the_charge_of_a_comment_line(folder, capsys):
    ase.io.write("frames.xyz", [hydroxide(charge=-1)])
    words = ["frames.xyz", *WORDS[1:], "--workers", "1"]
    assert main([*words, "--charge", "-1"]) == 0
    (found,) = read_labels(Path("labels.h5")).labels
    assert found.numbers == (8, 1)
    assert read_labels(Path("labels.h5")).origin.level.charge == -1
    assert found.energy < -70.0


def test_a_name_with_an_at_sign(folder, capsys):
    ase.io.write("run", [molecule("NH3")], format="xyz")
    for name in ("run@500K.xyz", "run@1"):
        ase.io.write("frames.xyz", rattled(2))
        Path("frames.xyz").rename(name)
        assert main([name, *WORDS[1:-1], f"{name}.h5", "--workers", "1"]) == 0
        labels = read_labels(Path(f"{name}.h5")).labels
        assert [label.numbers for label in labels] == [(8, 1, 1)] * 2


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"charge": -2}, "frames.xyz has frames of charges -2, 0: labels are of one"),
        ({"spin": 3}, "frame 1 of frames.xyz: info['spin'] is 3, but open shells"),
        ({"multiplicity": "one"}, "frame 1 of frames.xyz: info['multiplicity'] is 'one': use a"),
    ],
)
def test_a_comment_line_that_contradicts(info, message, folder, capsys):
    images = rattled(2)
    images[1].info.update(info)
    ase.io.write("frames.xyz", images)
    assert main(["frames.xyz", *WORDS[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(Path().glob("labels*"))


def test_the_last_frame_is_refused_before_the_first_scf(folder, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(label_workers, "reference_scf", lambda *arguments: asked.append(arguments))
    spinning = molecule("H2O")
    spinning.set_initial_magnetic_moments([2.0, 0.0, 0.0])
    for last, message in ((spinning, "moments sum to 2"), (molecule("OH"), "moments sum to 1")):
        ase.io.write("frames.traj", [*rattled(5), last])
        assert label() == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "frame 5 of " in line
        assert message in line
    assert asked == []
    assert sorted(path.name for path in folder.iterdir()) == ["frames.traj"]


def test_an_empty_file_of_labels_is_not_taken_for_a_finished_one(capsys):
    assert label() == 0
    found = read_labels(Path("labels.h5"))
    capsys.readouterr()
    write_labels(Path("labels.h5"), [replace(found, labels=())])
    assert label() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "labels.h5 holds 0 of the 5 frames: remove it" in line


def test_a_stretched_frame_has_its_lowest_energy():
    stretched = molecule("H2O")
    for hydrogen in (1, 2):
        stretched.set_distance(0, hydrogen, 2.6, fix=0)
    ase.io.write("frames.traj", [stretched])
    assert label("--xc", "PBE", "--no-forces") == 0
    (found,) = read_labels(Path("labels.h5")).labels
    assert found.energy < -74.7
    assert (np.diff(found.mo_energy) >= 0.0).all()


def test_a_file_that_cannot_be_written_is_one_line(folder, monkeypatch, capsys):
    def fail(path, parts):
        raise OSError(28, "No space left on device", "labels.h5")

    monkeypatch.setattr(label_run, "write_labels", fail)
    assert label() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot write labels.h5 (No space left on device): make room and run" in line


def test_help_is_fast_and_loads_nothing_heavy():
    probe = (
        "import sys; from ase_srdft.cli.label import _parser; text = _parser().format_help(); "
        "assert '--density-fitting' in text and '--stride' in text; "
        "sys.exit(bool({'torch', 'pyscf', 'h5py'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", probe], timeout=60).returncode == 0


def children(process):
    """The processes that one has started, by the kernel's list."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in listed.split()]


def is_alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ended_from_outside_and_run_again(number, folder):
    ase.io.write("frames.traj", rattled(60))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "ase_srdft.cli.label", *WORDS, "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        wait_until(lambda: list(Path().glob("labels.h5.parts/*.h5")))
        started = children(process)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == (75 if number == signal.SIGTERM else -number)
    assert len(started) >= 2
    wait_until(lambda: not any(map(is_alive, started)))
    assert not Path("labels.h5").exists()
    done = [len(read_labels(p).labels) for p in sorted(Path("labels.h5.parts").glob("*.h5"))]
    assert 0 < sum(done) < 60
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"({sum(done)} done before)" in again.stdout
    found = read_labels(Path("labels.h5"))
    assert [each.frame for each in found.labels] == list(range(60))
    assert len({each.energy for each in found.labels}) == 60
    assert np.isfinite([each.energy for each in found.labels]).all()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_words_without_room_cost_no_labels(workers, capsys):
    with open("/dev/full", "w", encoding="utf-8") as full:
        with contextlib.redirect_stdout(full):
            assert label("--no-forces", workers=workers) == 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # else closing it fails
    assert read_labels(Path("labels.h5")).complete
    assert not Path("labels.h5.parts").exists()
    line = capsys.readouterr().err.splitlines()[-1]  # after those of progress on a slow machine
    assert "cannot write to standard output (No space left on device)" in line


def test_labels_on_standard_output_are_alone_there(capfdbinary):
    assert label("--no-forces", "-o", "/dev/stdout") == 0
    printed = capfdbinary.readouterr()
    Path("copy.h5").write_bytes(printed.out)
    assert read_labels(Path("copy.h5")).complete
    assert b"labels: /dev/stdout (5 frames" in printed.err
    assert sorted(os.listdir()) == ["copy.h5", "frames.traj"]


def test_labels_without_room_can_be_had_again(capsys):
    Path("labels.h5").symlink_to("/dev/full")
    assert label("--no-forces") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: cannot write labels.h5 (No space left on device): make room and run" in line
    Path("labels.h5").unlink()
    assert label("--no-forces") == 0
    assert "nothing left to do" in capsys.readouterr().out


@pytest.mark.parametrize("size", [100, 5000, 30_000])
def test_a_disk_that_becomes_full_is_one_line(size, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        assert label() == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ase-srdft-label: error: cannot write labels.h5")
    assert "(File too large): make room and run the same command again" in line
    assert not [p for p in Path().rglob("*") if p.name.endswith((".tmp", ".h5"))]
    assert label() == 0
    assert read_labels(Path("labels.h5")).complete
