"""Normal modes: of springs whose frequencies are known, and without rigid motions."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from ase_srdft.dynamics.normal_modes import displaced, normal_modes

STEP = 0.01


def modes_of(atoms, calculator):
    forces = []
    for image in displaced(atoms, STEP):
        image.calc = calculator
        forces.append(image.get_forces())
    return normal_modes(atoms, forces, STEP)


def spring_forces(image, constant, length):
    bond = image.positions[1] - image.positions[0]
    distance = np.linalg.norm(bond)
    pull = constant * (distance - length) * bond / distance
    return np.array([pull, -pull])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_spring_vibrates_as_the_textbook_says(sign):
    atoms = Atoms("HCl", [[0, 0, 0], [0.3, 0.4, 1.2]])
    constant, length = sign * 30.0, np.linalg.norm(atoms.positions[1])  # eV/Å²
    forces = [spring_forces(image, constant, length) for image in displaced(atoms, STEP)]
    found = normal_modes(atoms, forces, STEP)
    masses = atoms.get_masses()
    reduced = masses.prod() / masses.sum() * units._amu  # kg
    per_second = np.sqrt(30.0 * units._e * 1e20 / reduced) / (2 * np.pi)
    expected = sign * per_second / (100 * units._c)
    np.testing.assert_allclose(found.frequencies_per_cm, [expected], rtol=1e-4)
    energy = max(0.0, 0.5 * units._hplanck * per_second * sign / units._e)
    assert found.zero_point_energy_eV == pytest.approx(energy, rel=1e-4)
    assert found.nimaginary == (sign < 0)
    mode = found.modes[0]
    np.testing.assert_allclose(masses @ mode, 0.0, atol=1e-12)
    assert np.linalg.norm(mode) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "nmodes"), [("N2O", 4), ("H2O", 3), ("NH3", 6)])
def test_frequencies_are_those_of_ase(name, nmodes, tmp_path):
    atoms = molecule(name)
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=300)
    found = modes_of(atoms, EMT())
    assert found.modes.shape == (nmodes, len(atoms), 3)
    vibrations = Vibrations(atoms, name=str(tmp_path / "vibrations"), delta=STEP)
    vibrations.run()
    theirs = vibrations.get_frequencies()[-nmodes:]
    real = found.frequencies_per_cm > 100.0
    assert real.sum() >= nmodes - 2
    np.testing.assert_allclose(found.frequencies_per_cm[real], theirs.real[real], rtol=2e-3)
