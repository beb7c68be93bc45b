"""ase-srdft-relax: a minimum, what it is worth, its vibrations, and exit codes."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import SCFError

from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.cli.relax import main

LEVEL = {"model": "untrained", "xc": "LDA", "basis": "sto-3g", "grid_level": 0}
WORDS = [
    *("--model", "untrained", "--xc", "lda", "--basis", "sto-3g", "--grid-level", "0"),
    *("--threads", "1", "-o", "relaxed.xyz"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    ase.io.write("long.xyz", Atoms("H2", [[0.0, 0.0, 0.0], [0.3, 0.0, 0.8]]))
    return tmp_path


def relax(*words, structure="long.xyz"):
    """Run the command as a shell would; returns the exit code."""
    try:
        return main([structure, *WORDS, *words])
    except SystemExit as leaving:
        return leaving.code


@pytest.mark.parametrize("optimiser", ["model-BFGS", "BFGS", "FIRE"])
def test_a_minimum_is_found_and_written(optimiser, capsys):
    assert relax("--optimiser", optimiser, "--trajectory", "way.traj") == 0
    atoms = ase.io.read("relaxed.xyz")
    assert 0.7 < atoms.get_distance(0, 1) < 0.77
    assert np.abs(atoms.get_forces()).max() < 0.01
    way = ase.io.read("way.traj", ":")
    assert len(way) > 2
    energies = [frame.get_potential_energy() for frame in way]
    assert atoms.get_potential_energy() == energies[-1] < energies[0] - 0.1
    assert atoms.info["srdft_force_error"] <= 0.002
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("H2 (long.xyz) at LDA/sto-3g")
    assert printed[-3] == f"energy: {atoms.get_potential_energy():.6f} eV"
    assert "within" in printed[-2]
    # the bond is where its stretching costs nothing
    atoms.calc = SRDFTCalculator(**LEVEL)
    lowest = atoms.get_potential_energy()
    for change in (-0.02, 0.02):
        other = atoms.copy()
        other.set_distance(0, 1, atoms.get_distance(0, 1) + change)
        other.calc = atoms.calc
        assert other.get_potential_energy() > lowest + 1e-3


def test_frequencies(capsys):
    assert relax("--frequencies") == 0
    (mode,) = ase.io.read("relaxed-modes.xyz", ":")
    frequency = mode.info["frequency_per_cm"]
    assert 4000.0 < frequency < 6500.0
    np.testing.assert_allclose(mode.arrays["mode"][0], -mode.arrays["mode"][1], atol=1e-6)
    printed = capsys.readouterr().out
    assert f"{frequency:.1f}" in printed
    assert f"zero-point energy: {0.5 * frequency / 8065.544:.4f} eV" in printed


def test_what_does_not_converge_is_said_and_kept(capsys):
    assert relax("--steps", "1", "--frequencies") == 1
    assert "not converged in 1 steps" in capsys.readouterr().err
    assert np.abs(ase.io.read("relaxed.xyz").get_forces()).max() > 0.01


def test_a_geometry_without_an_answer_is_one_line(monkeypatch, capsys):
    def fail(*_):
        raise SCFError("it did not converge")

    monkeypatch.setattr(SRDFTCalculator, "calculate", fail)
    assert relax() == 1
    assert capsys.readouterr().err == "ase-srdft-relax: error: it did not converge\n"
    assert not Path("relaxed.xyz").exists()


def test_the_charge_is_written():
    ase.io.write("h3.xyz", Atoms("H3", [[0, 0, 0], [0, 0, 0.9], [0, 0.8, 0.45]]))
    assert relax("--charge", "1", "--fmax", "0.5", structure="h3.xyz") == 0
    assert ase.io.read("relaxed.xyz").info["charge"] == 1


@pytest.mark.parametrize(
    ("words", "structure", "message"),
    [
        (["--fmax", "0"], "g2:H2", "'0' is no number above zero"),
        (["--optimiser", "LBFGS"], "g2:H2", "LBFGS"),
        (["--basis", "none-such"], "g2:H2", "none-such"),
        (["-o", "no/where.xyz"], "g2:H2", "no directory"),
        (["-o", "own.xyz"], "own.xyz", "structure to begin with"),
        ([], "none.xyz", "none.xyz"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, structure, message, capsys):
    ase.io.write("own.xyz", molecule("H2"))
    assert relax(*words, structure=structure) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("ase-srdft-relax: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("ase-srdft-relax ")


def test_interrupted_it_keeps_the_geometry_so_far(monkeypatch, capsys):
    from ase_srdft.dynamics.model_hessian_bfgs import ModelHessianBFGS

    step = ModelHessianBFGS.step

    def interrupted(optimiser, *given):
        if optimiser.nsteps == 1:
            raise KeyboardInterrupt
        return step(optimiser, *given)

    monkeypatch.setattr(ModelHessianBFGS, "step", interrupted)
    assert relax() == 75
    assert "interrupted: the geometry so far is in relaxed.xyz" in capsys.readouterr().err
    found, start = ase.io.read("relaxed.xyz"), ase.io.read("long.xyz")
    assert found.get_distance(0, 1) != pytest.approx(start.get_distance(0, 1), abs=1e-3)
    assert found.info == {}


def test_another_kind_of_file_is_refused(capsys):
    assert main(["g2:H2", "-o", "relaxed.traj"]) == 2
    assert "written as .xyz or .extxyz" in capsys.readouterr().err
