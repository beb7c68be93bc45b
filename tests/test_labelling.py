"""Labelling: the numbers are PySCF's, nothing is done twice, and nothing is mixed up."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from pyscf import dft, gto

from ase_srdft import labelling
from ase_srdft.dft.level import LevelOfTheory
from ase_srdft.errors import BadInput, ReferenceNotConverged, WorkerFailed
from ase_srdft.files import locked_directory
from ase_srdft.labelling import Labelling
from ase_srdft.labels import Failure, read_labels
from tests.small_labels import LEVEL, plain_frames

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
    asked, original = [], labelling.label_frame

    def count(task):
        asked.append(task.frame)
        return original(task)

    monkeypatch.setattr(labelling, "label_frame", count)
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
    monkeypatch.setattr(labelling, "_PIECE_SECONDS", 0.0)
    monkeypatch.setattr(labelling, "_PIECE_SHARE", 0.0)
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
    original = labelling.reference_scf

    def fail(molecule, positions, forces):
        if np.array_equal(positions, plain_frames(3)[1][1]):
            raise ReferenceNotConverged("it did not converge")
        return original(molecule, positions, forces)

    monkeypatch.setattr(labelling, "reference_scf", fail)
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
    monkeypatch.setattr(labelling, "_PATIENCE_SECONDS", 0.0)
    run = small_run(tmp_path)
    run.pieces.mkdir()
    lock = locked_directory(run.pieces, 0.0)
    with pytest.raises(BadInput, match="another run is at work in"):
        finish(run)
    os.close(lock)
    assert finish(run).complete


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
    pools, original = [], labelling._submitted

    def remember(pool, task):
        pools.append(pool)
        return original(pool, task)

    monkeypatch.setattr(labelling, "_submitted", remember)
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
