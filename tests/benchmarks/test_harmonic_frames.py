"""Harmonic draws: each vibration gets kT / 2, whatever its curvature."""

import harmonic_frames
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS


@pytest.fixture
def ammonia():
    atoms = molecule("NH3", calculator=EMT())
    with BFGS(atoms, logfile=None) as relaxation:
        assert relaxation.run(fmax=1e-4, steps=200)
    return atoms


def test_a_unit_displacement_costs_half_an_electronvolt(ammonia):
    modes = harmonic_frames.unit_displacements(ammonia)
    assert modes.shape == (6, 4, 3)
    lowest, start = ammonia.get_potential_energy(), ammonia.get_positions()
    for mode in modes:
        costs = []
        for sign in (-1.0, 1.0):
            ammonia.positions = start + sign * 0.005 * mode
            costs.append(ammonia.get_potential_energy() - lowest)
        assert np.mean(costs) / 0.005**2 == pytest.approx(0.5, rel=0.02)


def test_what_is_no_minimum_is_refused(ammonia):
    ammonia.set_distance(0, 1, 2.0, fix=0)  # past where the force is largest
    with pytest.raises(SystemExit, match="not a minimum"):
        harmonic_frames.unit_displacements(ammonia)
