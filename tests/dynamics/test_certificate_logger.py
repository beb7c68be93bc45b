"""The log of dynamics: ASE's columns, and what the certificate says."""

import io

import pytest
from ase import units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from ase_srdft import CertificateLogger, SRDFTCalculator


@pytest.fixture
def atoms():
    water = molecule("H2O")
    water.calc = SRDFTCalculator("untrained", xc="LDA", basis="sto-3g", grid_level=0)
    return water


def test_a_line_for_each_step(atoms):
    log = io.StringIO()
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    dynamics.attach(CertificateLogger(dynamics, atoms, log, peratom=True))
    dynamics.run(2)
    title, *lines = log.getvalue().splitlines()
    columns = title.split()
    assert columns[0] == "Time[ps]"
    assert columns[-4:] == ["Bracket[meV]", "Start[meV]", "Force[meV/A]", "Path"]
    assert [len(line.split()) for line in lines] == [len(columns)] * 3
    *numbers, path = lines[-1].split()
    certificate = atoms.calc.certificate
    assert path == "corrected"
    assert float(numbers[0]) == pytest.approx(0.001)
    assert float(numbers[2]) == pytest.approx(atoms.get_potential_energy() / 3, abs=1e-3)
    in_mev = [1e3 * certificate.error, 1e3 * certificate.start_error, 1e3 * certificate.force_error]
    assert [float(number) for number in numbers[-3:]] == pytest.approx(in_mev, rel=1e-2)
    assert in_mev[1] > 500.0  # the guess


def test_a_file_that_goes_on_and_an_optimiser(atoms, tmp_path):
    for header in (True, False):
        optimiser = BFGS(atoms, logfile=None)
        optimiser.attach(CertificateLogger(optimiser, atoms, str(tmp_path / "log"), header))
        optimiser.run(fmax=0.01, steps=1)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 5
    assert lines[0].split()[0] == "Etot[eV]"
    assert [line.split()[-1] for line in lines] == ["Path", *["corrected"] * 4]
