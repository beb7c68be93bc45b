"""Labelling: the numbers are PySCF's, nothing is done twice, and nothing is mixed up."""

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyscf import dft, gto

from ase_srdft.common.atomic_files import locked_directory
from ase_srdft.common.errors import BadInput, DamagedFile, ReferenceNotConverged, WorkerFailed
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.reference import label_run, label_workers
from ase_srdft.reference.label_file import Failure, read_labels, write_labels
from ase_srdft.reference.label_run import Labelling
from tests.tools.small_labels import LEVEL, plain_frames, small_labels

DOUBLE_ZETA = LevelOfTheory(xc="PBE", basis="6-31g", grid_level=0)


def small_run(folder, nframes=4, **changes):
    settings = {"frames": plain_frames(nframes), "level": LEVEL, "forces": False} | changes
    return Labelling(folder / "labels.h5", **settings)


def finish(run):
    for _ in run.run():
        pass
    return read_labels(run.path)


def stop_after(run, nframes):
    """Stop as a signal does."""
    for count, _ in enumerate(run.run(), start=1):
        run.stop_requested = count >= nframes


def count_frames(monkeypatch):
    """The frames that are labelled from now on."""
    asked, original = [], label_workers.label_frame

    def count(task):
        asked.append(task.frame)
        return original(task)

    monkeypatch.setattr(label_workers, "label_frame", count)
    return asked


def by_hand(numbers, positions):
    """PySCF alone, not through the package."""
    symbols = {8: "O", 1: "H"}
    atoms = [(symbols[n], p) for n, p in zip(numbers, positions.tolist(), strict=True)]
    mol = gto.M(atom=atoms, unit="Bohr", basis="6-31g", verbose=0)
    scf = dft.RKS(mol, xc="pbe,pbe").density_fit(auxbasis="def2-universal-jfit")
    scf.grids.level = 0
    scf.conv_tol = 1e-11
    scf.kernel()
    gradient = scf.nuc_grad_method()
    gradient.grid_response = True
    scf._chkfile.close()
    return scf.e_tot, scf.get_fock(), scf.mo_energy, -gradient.kernel()


def test_labels_are_pyscfs(tmp_path):
    frames = plain_frames(2)
    found = finish(small_run(tmp_path, frames=frames, level=DOUBLE_ZETA, forces=True))
    for label, (numbers, positions) in zip(found.labels, frames, strict=True):
        energy, fock, mo_energy, forces = by_hand(numbers, positions)
        np.testing.assert_array_equal(label.positions, positions)
        assert abs(forces).max() > 1e-2
        assert label.energy == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(label.fock, fock, atol=1e-5)
        np.testing.assert_allclose(label.mo_energy, mo_energy, atol=1e-5)
        np.testing.assert_allclose(label.forces, forces, atol=1e-5)
        assert 0.0 < label.seconds < 60.0
    assert found.labels[0].energy != found.labels[1].energy


def test_stopped_and_run_again(tmp_path, monkeypatch):
    asked = count_frames(monkeypatch)
    first = small_run(tmp_path)
    stop_after(first, 2)
    assert not first.finished
    assert len(list(first.pieces.glob("*.h5"))) == 1
    second = small_run(tmp_path)
    assert second.ndone == 2
    found = finish(second)
    assert asked == [0, 1, 2, 3]
    assert [label.frame for label in found.labels] == [0, 1, 2, 3]
    assert os.listdir(tmp_path) == ["labels.h5"]
    third = small_run(tmp_path)
    assert finish(third).complete
    assert len(asked) == third.ndone == 4


def test_pieces_are_written_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(label_run, "_PIECE_SECONDS", 0.0)
    monkeypatch.setattr(label_run, "_PIECE_SHARE", 0.0)
    run = small_run(tmp_path)
    seen = [
        [
            label.frame
            for path in sorted(run.pieces.glob("*.h5"))
            for label in read_labels(path).labels
        ]
        for _ in run.run()
    ]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert read_labels(run.path).complete


def test_several_molecules(tmp_path):
    frames = [*plain_frames(1), *plain_frames(1, "H2"), *plain_frames(2)]
    found = finish(small_run(tmp_path, frames=frames))
    assert [label.numbers for label in found.labels] == [numbers for numbers, _ in frames]
    assert [len(label.fock) for label in found.labels] == [7, 2, 7, 7]


def test_a_frame_without_convergence_is_left_out(tmp_path, monkeypatch):
    original = label_workers.reference_scf

    def fail(molecule, positions, forces):
        if np.array_equal(positions, plain_frames(3)[1][1]):
            raise ReferenceNotConverged("it did not converge")
        return original(molecule, positions, forces)

    monkeypatch.setattr(label_workers, "reference_scf", fail)
    run = small_run(tmp_path, 3)
    found = finish(run)
    assert [label.frame for label in found.labels] == [0, 2]
    expected = [Failure(frame=1, reason="it did not converge")]
    assert run.failures == list(found.failures) == expected
    assert small_run(tmp_path, 3).failures == expected  # and is not tried again


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": DOUBLE_ZETA}, "holds labels of LDA/sto-3g .*, not of PBE/6-31g"),
        ({"forces": True}, "holds labels without forces, not with them"),
        ({"frames": plain_frames(5)}, "holds labels of other frames: use the same frames"),
    ],
)
def test_another_run_is_refused(changes, message, unfinished, tmp_path):
    run = small_run(tmp_path)
    if unfinished:
        stop_after(run, 1)
    else:
        finish(run)
    with pytest.raises(BadInput, match=message):
        small_run(tmp_path, **changes)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (LevelOfTheory(charge=1), "an open shell"),
        (LevelOfTheory(basis="no-such"), "no-such"),
        (LevelOfTheory(density_fitting="no-such"), "no-such"),
    ],
)
def test_a_molecule_that_cannot_be_is_refused_before_the_work(level, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        small_run(tmp_path, level=level)
    assert os.listdir(tmp_path) == []


def test_two_at_once_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(label_run, "_PATIENCE_SECONDS", 0.0)
    run = small_run(tmp_path)
    run.pieces.mkdir()
    lock = locked_directory(run.pieces, 0.0)
    with pytest.raises(BadInput, match="another run is at work in"):
        finish(run)
    os.close(lock)
    assert finish(run).complete


class Waiting:
    """A run in a thread, which waits for another one in the same place to end."""

    def __init__(self, run):
        self.run, self.error = run, None
        self.thread = threading.Thread(target=self._finish)
        self.thread.start()
        time.sleep(0.3)
        assert self.thread.is_alive()

    def _finish(self):
        try:
            finish(self.run)
        except BadInput as err:
            self.error = err

    def ended(self):
        self.thread.join(30.0)
        assert not self.thread.is_alive()
        return self


def test_one_that_waits_finds_the_file_finished(tmp_path, monkeypatch):
    asked = count_frames(monkeypatch)
    first, second, third = (small_run(tmp_path) for _ in range(3))
    results = first.run()
    next(results)
    waiting = [Waiting(second), Waiting(third)]
    assert len(list(results)) == 3
    whole = first.path.read_bytes()
    for each in waiting:
        assert each.ended().error is None
        assert each.run.ndone == 4
    assert first.path.read_bytes() == whole
    assert read_labels(first.path).complete
    assert sorted(asked) == [0, 1, 2, 3]
    assert os.listdir(tmp_path) == ["labels.h5"]


def test_one_that_waits_with_other_settings_is_refused(tmp_path):
    first, second = small_run(tmp_path), small_run(tmp_path, forces=True)
    results = first.run()
    next(results)
    waiting = Waiting(second)
    list(results)
    assert "without forces, not with them" in str(waiting.ended().error)
    assert read_labels(first.path).complete


def test_one_that_waits_goes_on_where_the_other_was_stopped(tmp_path, monkeypatch):
    asked = count_frames(monkeypatch)
    first, second = small_run(tmp_path), small_run(tmp_path)
    results = first.run()
    next(results)
    waiting = Waiting(second)
    first.stop_requested = True
    list(results)
    assert waiting.ended().error is None
    assert read_labels(second.path).complete
    assert sorted(asked) == [0, 1, 2, 3]


def test_the_file_is_removed_while_one_waits(tmp_path):
    first, second = small_run(tmp_path), small_run(tmp_path)
    results = first.run()
    next(results)
    next(results)
    lock = first._lock
    waiting = Waiting(second)
    original = os.close

    def close(descriptor):
        if descriptor == lock and first.path.exists():
            first.path.unlink()
        original(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_run.os, "close", close)
        list(results)
    assert waiting.ended().error is None
    assert read_labels(second.path).complete


def test_a_lock_on_a_directory_that_is_gone_lets_nobody_in(tmp_path, monkeypatch):
    asked = count_frames(monkeypatch)
    run = small_run(tmp_path)
    run.pieces.mkdir()
    old = locked_directory(run.pieces, 0.0)
    waiting = Waiting(run)
    shutil.rmtree(run.pieces)
    run.pieces.mkdir()
    new = locked_directory(run.pieces, 0.0)
    os.close(old)
    time.sleep(0.5)
    assert asked == []
    os.close(new)
    assert waiting.ended().error is None
    assert read_labels(run.path).complete


def pieces_of_one_frame(folder, monkeypatch, nframes, stop=True):
    """A run that was stopped with a piece for each frame."""
    monkeypatch.setattr(label_run, "_PIECE_SECONDS", 0.0)
    monkeypatch.setattr(label_run, "_PIECE_SHARE", 0.0)
    run = small_run(folder)
    stop_after(run, nframes)
    paths = sorted(run.pieces.glob("*.h5"))
    assert len(paths) == nframes
    return run, paths


@pytest.mark.parametrize("removed", [0, 1])
def test_frames_whose_piece_is_gone_are_made_again(removed, tmp_path, monkeypatch):
    _, paths = pieces_of_one_frame(tmp_path, monkeypatch, 3)
    paths[removed].unlink()
    asked = count_frames(monkeypatch)
    found = finish(small_run(tmp_path))
    assert asked == [removed, 3]
    assert [label.frame for label in found.labels] == [0, 1, 2, 3]
    for label, (_, positions) in zip(found.labels, plain_frames(4), strict=True):
        np.testing.assert_array_equal(label.positions, positions)


def test_a_torn_piece_is_named_and_the_others_stay(tmp_path, monkeypatch):
    _, paths = pieces_of_one_frame(tmp_path, monkeypatch, 3)
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    with pytest.raises(DamagedFile, match=r"000000001\.h5.*: remove it, and the same command"):
        small_run(tmp_path)
    assert sorted(paths[0].parent.glob("*.h5")) == paths
    paths[1].unlink()
    assert [label.frame for label in finish(small_run(tmp_path)).labels] == [0, 1, 2, 3]


def test_a_frame_in_two_pieces_is_refused(tmp_path, monkeypatch):
    _, paths = pieces_of_one_frame(tmp_path, monkeypatch, 3)
    shutil.copy(paths[1], paths[1].with_name("000000007.h5"))
    with pytest.raises(DamagedFile, match=r"000000007\.h5 holds frames \[1\]"):
        small_run(tmp_path)


def test_pieces_that_vanish_before_they_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(label_run, "_PIECE_SECONDS", 0.0)
    monkeypatch.setattr(label_run, "_PIECE_SHARE", 0.0)
    run = small_run(tmp_path)
    results = run.run()
    for _ in range(4):
        next(results)
    run._piece_paths()[1].unlink()
    with pytest.raises(DamagedFile, match="3 of the 4 frames"):
        list(results)
    assert not run.finished
    assert len(run._piece_paths()) == 3
    assert [label.frame for label in finish(small_run(tmp_path)).labels] == [0, 1, 2, 3]


def test_a_directory_of_pieces_that_vanishes_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(label_run, "_PIECE_SECONDS", 0.0)
    monkeypatch.setattr(label_run, "_PIECE_SHARE", 0.0)
    run = small_run(tmp_path)
    results = run.run()
    for _ in range(2):
        next(results)
    shutil.rmtree(run.pieces)
    list(results)
    found = read_labels(run.path)
    assert [label.frame for label in found.labels] == [0, 1, 2, 3]
    assert os.listdir(tmp_path) == ["labels.h5"]


@pytest.mark.parametrize("killed", ["before the file is there", "after it"])
def test_killed_while_joining(killed, tmp_path, monkeypatch):
    original = label_run.replace_atomically

    def die(path, write):
        if path.name == "labels.h5":
            if killed == "after it":
                original(path, write)
            else:
                write(path.with_name(".labels.h5.123.tmp"))
            raise SystemExit
        original(path, write)

    monkeypatch.setattr(label_run, "replace_atomically", die)
    with pytest.raises(SystemExit):
        finish(small_run(tmp_path))
    monkeypatch.setattr(label_run, "replace_atomically", original)
    asked = count_frames(monkeypatch)
    assert finish(small_run(tmp_path)).complete
    assert asked == []
    assert os.listdir(tmp_path) == ["labels.h5"]


def test_a_finished_file_that_is_not_complete_is_refused(tmp_path):
    whole = small_labels(4)
    write_labels(tmp_path / "labels.h5", [replace(whole, labels=whole.labels[:3])])
    with pytest.raises(DamagedFile, match="holds 3 of the 4 frames: remove it"):
        small_run(tmp_path)


def test_a_file_of_others_that_appears_meanwhile_is_not_replaced(tmp_path):
    run = small_run(tmp_path)
    results = run.run()
    next(results)
    write_labels(run.path, [small_labels(2)])
    before = run.path.read_bytes()
    with pytest.raises(BadInput, match="holds labels of other frames"):
        list(results)
    assert run.path.read_bytes() == before
    assert len(run._piece_paths()) == 1


def test_pieces_of_another_run_beside_a_finished_file_stay(tmp_path):
    finish(small_run(tmp_path))
    (tmp_path / "labels.h5").rename(tmp_path / "aside.h5")
    stop_after(small_run(tmp_path, 5), 2)
    (tmp_path / "aside.h5").rename(tmp_path / "labels.h5")
    run = small_run(tmp_path)
    assert finish(run).complete
    assert len(run._piece_paths()) == 1


def test_a_piece_that_goes_while_it_is_looked_at(tmp_path, monkeypatch):
    _, paths = pieces_of_one_frame(tmp_path, monkeypatch, 2)
    original = label_run.read_labels

    def removed_first(path):
        if path == paths[1] and path.exists():
            path.unlink()
        return original(path)

    monkeypatch.setattr(label_run, "read_labels", removed_first)
    assert small_run(tmp_path).ndone == 1


@pytest.mark.slow
def test_processes_give_the_same_labels(tmp_path):
    (tmp_path / "two").mkdir()
    one = finish(small_run(tmp_path, 6, forces=True))
    two = finish(small_run(tmp_path / "two", 6, forces=True, nworkers=2))
    for first, second in zip(one.labels, two.labels, strict=True):
        assert first.frame == second.frame
        assert first.energy == pytest.approx(second.energy, abs=1e-10)
        np.testing.assert_allclose(first.fock, second.fock, atol=1e-8)
        np.testing.assert_allclose(first.forces, second.forces, atol=1e-8)


@pytest.mark.slow
def test_a_dead_process_is_an_error_and_what_was_done_is_kept(tmp_path, monkeypatch):
    run = small_run(tmp_path, 40, nworkers=2)
    pools, original = [], label_workers._submitted

    def remember(pool, task):
        pools.append(pool)
        return original(pool, task)

    monkeypatch.setattr(label_workers, "_submitted", remember)
    results = run.run()
    next(results)
    for process in list(pools[0]._processes.values()):
        process.kill()
    with pytest.raises(WorkerFailed, match="a labelling process was killed: check the memory"):
        list(results)
    assert 0 < small_run(tmp_path, 40).ndone < 40


@pytest.mark.parametrize("there", [False, True])
def test_a_link_is_followed(there, tmp_path):
    (tmp_path / "store").mkdir()
    link, target = tmp_path / "labels.h5", tmp_path / "store" / "mine.h5"
    link.symlink_to(target)
    if there:
        finish(small_run(tmp_path))
    assert finish(small_run(tmp_path)).complete
    assert link.is_symlink()
    assert not target.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.h5", "store"]
    assert [p.name for p in target.parent.iterdir()] == ["mine.h5"]


def test_a_pipe_gets_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, received = Path("labels.h5"), []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
    reader.start()
    run = Labelling(path, plain_frames(4), LEVEL, forces=False)
    assert len(list(run.run())) == 4
    reader.join(10.0)
    assert path.is_fifo()
    assert os.listdir() == ["labels.h5"]
    Path("copy.h5").write_bytes(*received)
    assert read_labels(Path("copy.h5")).complete


def test_finished_frames_on_their_way_to_an_output_of_ours_are_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    descriptor = os.open("out.h5", os.O_RDWR | os.O_CREAT)
    try:
        path = Path(f"/dev/fd/{descriptor}")
        stop_after(Labelling(path, plain_frames(4), LEVEL, forces=False), 2)
        assert sorted(os.listdir()) == [f"{descriptor}.parts", "out.h5"]
        assert os.fstat(descriptor).st_size == 0
        again = Labelling(path, plain_frames(4), LEVEL, forces=False)
        assert again.ndone == 2
        assert len(list(again.run())) == 2
    finally:
        os.close(descriptor)
    assert os.listdir() == ["out.h5"]
    assert read_labels(Path("out.h5")).complete


def test_the_longest_name_has_room_for_finished_frames(tmp_path):
    path = tmp_path / ("ä" * 123 + "a.long.h5")  # 255 bytes
    stop_after(Labelling(path, plain_frames(3), LEVEL, forces=False), 1)
    again = Labelling(path, plain_frames(3), LEVEL, forces=False)
    assert again.ndone == 1
    assert finish(again).complete
    assert list(tmp_path.iterdir()) == [path]
