"""BFGS from the model Hessian: fewer steps to the same minimum."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from ase_srdft import ModelHessianBFGS, SRDFTCalculator


def relaxed(optimiser, name):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=0)
    atoms.calc = SRDFTCalculator(xc="LDA", basis="sto-3g", grid_level=0)
    with optimiser(atoms, logfile=None) as relaxation:
        assert relaxation.run(fmax=0.02, steps=100)
    return relaxation.nsteps, atoms


def test_fewer_steps_to_a_minimum_as_low():
    plain, expected = relaxed(BFGS, "CH3OH")
    ours, found = relaxed(ModelHessianBFGS, "CH3OH")
    assert ours < 0.8 * plain
    assert found.get_potential_energy() < expected.get_potential_energy() + 2e-3


def test_no_curvature_is_below_the_softest():
    atoms = Atoms("He2", [[0, 0, 0], [0, 0, 30.0]], calculator=EMT.__new__(EMT))
    curvatures = np.linalg.eigvalsh(ModelHessianBFGS(atoms, logfile=None).H0)
    assert curvatures == pytest.approx(0.5)


def test_stretches_are_stiffer_than_the_rest():
    atoms = molecule("H2")
    atoms.calc = EMT()
    curvatures = np.linalg.eigvalsh(ModelHessianBFGS(atoms, logfile=None).H0)
    assert curvatures[-1] > 30.0
    assert curvatures[:-1] == pytest.approx(0.5)
