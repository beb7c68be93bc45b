"""Trajectories of dynamics, read back and drawn."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.verlet import VelocityVerlet
from matplotlib.figure import Figure

from ase_srdft import SRDFTCalculator
from ase_srdft.common.errors import BadInput
from ase_srdft.runs.report.dynamics_picture import draw_dynamics, write_dynamics_picture
from ase_srdft.runs.report.dynamics_record import DynamicsRecord, read_dynamics

PATHS = ["corrected", "model", "corrected", "scf", "corrected"]


def frames(count=5):
    """Made up, with all that a trajectory may tell."""
    made = []
    for index in range(count):
        atoms = molecule("H2O")
        atoms.set_momenta((index + 1.0) * np.ones((3, 3)))
        atoms.calc = SinglePointCalculator(atoms, energy=-2000.0 + 0.1 * index)
        atoms.info = {
            "srdft_error": 1e-4 * (index + 1),
            "srdft_start_error": 1e-2 * (index + 1),
            "srdft_force_error": 2e-3,
            "srdft_builds": 2 + index,
            "srdft_coarse_builds": 7,
            "srdft_path": PATHS[index % 5],
            "srdft_level": "PBE/sto-3g",
            "srdft_model": f"organics v{index}",
        }
        made.append(atoms)
    return made


def panels(record):
    figure = Figure()
    draw_dynamics(figure, record)
    return [panel.axes[0] for panel in figure.subfigs]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


@pytest.mark.parametrize("name", ["md.traj", "md.extxyz"])
def test_what_the_frames_tell(name, tmp_path):
    made = frames()
    write(tmp_path / name, made)
    record = read_dynamics(tmp_path / name)
    np.testing.assert_allclose(record.potential_eV, [-2000, -1999.9, -1999.8, -1999.7, -1999.6])
    np.testing.assert_allclose(record.kinetic_eV, [a.get_kinetic_energy() for a in made], rtol=1e-5)
    np.testing.assert_allclose(record.temperature_K, [a.get_temperature() for a in made], rtol=1e-5)
    np.testing.assert_allclose(record.error_eV, 1e-4 * np.arange(1, 6))
    np.testing.assert_allclose(record.start_error_eV, 1e-2 * np.arange(1, 6))
    np.testing.assert_allclose(record.force_error_eV_per_A, 2e-3)
    assert record.builds.tolist() == [2, 3, 4, 5, 6]
    assert record.coarse_builds.tolist() == [7] * 5
    assert list(record.paths) == PATHS
    assert (record.level, record.model, record.unit) == ("PBE/sto-3g", "organics v4", "frame")
    assert read_dynamics(tmp_path / name, 5.0).time.tolist() == [0.0, 5.0, 10.0, 15.0, 20.0]


def test_the_time_is_that_of_ases_dynamics(tmp_path):
    atoms = molecule("N2")
    atoms.calc = EMT()
    path = str(tmp_path / "md.traj")
    VelocityVerlet(atoms, 0.5 * units.fs, trajectory=path, loginterval=4).run(8)
    record = read_dynamics(tmp_path / "md.traj")
    assert record.unit == "fs"
    np.testing.assert_allclose(record.time, [0.0, 2.0, 4.0])
    assert record.paths == ("", "", "")


def test_dynamics_with_our_calculator(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = SRDFTCalculator("untrained", xc="LDA", basis="sto-3g", grid_level=0)
    path = str(tmp_path / "md.traj")
    VelocityVerlet(atoms, 0.5 * units.fs, trajectory=path).run(1)
    record = read_dynamics(tmp_path / "md.traj")
    certificate = atoms.calc.certificate
    assert record.paths == ("corrected",) * 2
    assert record.error_eV[-1] == pytest.approx(certificate.error)
    assert record.start_error_eV[-1] == pytest.approx(certificate.start_error)
    assert record.force_error_eV_per_A[-1] == pytest.approx(certificate.force_error)
    assert record.builds[-1] == certificate.builds
    assert record.coarse_builds[-1] == certificate.coarse_builds


def test_the_panels_hold_the_numbers(tmp_path):
    write(tmp_path / "md.traj", frames())
    record = read_dynamics(tmp_path / "md.traj", 2.0)
    energies, temperature, brackets, forces, paths, builds = panels(record)
    np.testing.assert_allclose(lines(energies)["potential"][:, 1], [0, 0.1, 0.2, 0.3, 0.4])
    total = lines(energies)["potential"] + lines(energies)["kinetic"]
    np.testing.assert_allclose(lines(energies)["total"][:, 1], total[:, 1])
    np.testing.assert_allclose(lines(temperature)["each frame"][:, 1], record.temperature_K)
    np.testing.assert_allclose(lines(brackets)["the answer"][:, 1], 0.1 * np.arange(1, 6))
    np.testing.assert_allclose(lines(brackets)["the model alone"][:, 1], 10.0 * np.arange(1, 6))
    np.testing.assert_allclose(lines(forces)["estimate"][:, 1], 2.0)
    assert brackets.get_yscale() == forces.get_yscale() == "log"
    shares = {bars.get_label(): [bar.get_height() for bar in bars] for bars in paths.containers}
    assert shares == {
        "model: 20 %": [0, 100, 0, 0, 0],
        "corrected: 60 %": [100, 0, 100, 0, 100],
        "scf: 20 %": [0, 0, 0, 100, 0],
    }
    assert lines(builds)["the level’s grid: mean 4"][:, 1].tolist() == [2, 3, 4, 5, 6]
    assert all(axes.get_xlabel() == "time in fs" for axes in (energies, builds))


def test_what_is_not_recorded_is_said(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    write(tmp_path / "one.extxyz", atoms)
    record = read_dynamics(tmp_path / "one.extxyz")
    found = panels(record)
    assert found[0].has_data()
    for axes in found[1:]:
        assert [text.get_text() for text in axes.texts] == ["not recorded"]
    write_dynamics_picture(tmp_path / "one.png", record)
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_a_model_as_it_is_has_no_error_of_forces(tmp_path):
    made = frames(2)
    for atoms in made:
        atoms.info["srdft_force_error"] = 0.0
        atoms.info["srdft_error"] = 0.0
    write(tmp_path / "md.traj", made)
    _, _, brackets, forces, _, _ = panels(read_dynamics(tmp_path / "md.traj"))
    assert not forces.lines
    assert (lines(brackets)["the answer"][:, 1] > 0.0).all()


def test_no_trajectory_is_refused(tmp_path):
    write(tmp_path / "bare.xyz", Atoms("He"))
    (tmp_path / "words.traj").write_text("nothing")
    refusals = {"bare.xyz": "no energies", "words.traj": "words", "none.traj": "no file"}
    for name, words in refusals.items():
        with pytest.raises(BadInput, match=words):
            read_dynamics(tmp_path / name)


def test_long_trajectories_keep_their_largest_errors(tmp_path):
    count = 4100
    values = np.full(count, 1e-4)
    values[3333] = 0.5
    record = DynamicsRecord(
        formula="H2O",
        time=np.arange(count, dtype=float),
        unit="fs",
        potential_eV=np.sin(np.arange(count)),
        kinetic_eV=np.full(count, np.nan),
        temperature_K=np.full(count, np.nan),
        error_eV=values,
        start_error_eV=values,
        force_error_eV_per_A=values,
        builds=np.where(np.arange(count) < 2050, 4.0, 2.0),
        coarse_builds=np.full(count, np.nan),
        paths=("model",) * count,
        level="",
        model="",
    )
    energies, _, brackets, forces, paths, builds = panels(record)
    assert len(lines(energies)["potential"]) <= 2000
    assert "total" not in lines(energies)
    for axes, label in ((brackets, "the answer"), (forces, "estimate")):
        points = lines(axes)[label]
        assert len(points) <= 2000
        assert points[:, 1].max() == pytest.approx(500.0)
    assert len(paths.patches) <= 40
    (points,) = lines(builds).values()
    assert points[[0, -1], 1].tolist() == [4.0, 2.0]
