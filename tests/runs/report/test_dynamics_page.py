"""The summary of a run of dynamics: what stands on it, of whole trajectories and of bare ones."""

import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_srdft.common.errors import BadInput
from ase_srdft.runs.report.dynamics_page import write_dynamics_page
from tests.runs.report.test_dynamics_picture import frames


def folder_of(path, images):
    write(path / "md.traj", images)
    (path / "config.yaml").write_text("structure: <water>\n", encoding="utf-8")
    return path


def test_the_page_tells_the_promise_and_how_it_was_kept(tmp_path):
    images = frames(20)
    path = write_dynamics_page(folder_of(tmp_path, images))
    assert path == tmp_path / "summary.html"
    page = path.read_text(encoding="utf-8")
    largest = max(1e3 * atoms.info["srdft_error"] for atoms in images)
    assert largest > 0.0
    assert f"{largest:.2g} meV</b>" in page
    assert page.count("<svg") == 7
    assert "structure: &lt;water&gt;" in page
    assert "<dt>Frames</dt>" in page
    assert page == write_dynamics_page(tmp_path).read_text(encoding="utf-8")


def test_frames_that_tell_energies_alone_have_a_page_too(tmp_path):
    images = frames(2)
    for atoms in images:
        atoms.info.clear()
        atoms.set_momenta(0.0 * atoms.positions)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    page = write_dynamics_page(folder_of(tmp_path, images)).read_text(encoding="utf-8")
    assert "does not tell what its energies are worth" in page
    assert "Mean temperature" not in page
    assert "bracket width in meV" not in page


def test_a_folder_without_its_files_is_refused(tmp_path):
    with pytest.raises(BadInput):
        write_dynamics_page(tmp_path)
    write(tmp_path / "md.traj", frames(2))
    with pytest.raises(BadInput, match=r"config\.yaml"):
        write_dynamics_page(tmp_path)
