"""Orbitals on the grid and their derivatives against PySCF's evaluation."""

import numpy as np
import pytest
import torch

from ase_srdft.dft.basis.atomic_orbitals import Basis
from ase_srdft.dft.basis.orbitals_on_grid import (
    contract_gradients,
    evaluate_orbitals,
    position_derivative,
    weighted_orbitals,
)
from ase_srdft.dft.reference_scf import mean_field
from tests.tools.molecules import assert_gradient, system

# every shell kind, contractions that share primitives, several atoms of one element, a lone atom
CASES = [
    ("H2CO", "sto-3g"),
    ("CH3CH2OH", "6-31g"),
    ("H2CO", "def2-svp"),
    ("SO2", "6-31g*"),
    ("Ne", "def2-svp"),
    ("H2CO", "def2-tzvp"),
]


def owners_of_orbitals(basis):
    """The atom of each orbital, natural order."""
    return np.concatenate([[i] * (s.stop - s.start) for i, s in enumerate(basis.atom_slices)])


class OnPoints:
    """Our orbitals on random points, PySCF's values and derivatives, and random contractions."""

    def __init__(self, name, basis, order):
        molecule, positions = system(name, basis=basis)
        rng = np.random.default_rng(3)
        spread = rng.normal(scale=2.0, size=(1, 60, 3))
        points = positions.mean(1, keepdim=True) + torch.tensor(spread)
        self.basis = molecule.basis
        self.orbitals = evaluate_orbitals(self.basis, positions, points, order)
        mol = mean_field(molecule, positions[0].numpy()).mol
        table = mol.eval_gto("GTOval_sph_deriv2", points[0].numpy()).transpose(0, 2, 1)
        table = table[:, self.basis.grid_order.numpy()]
        self.values, self.gradients = table[0], table[1:4]
        self.hessians = np.empty((3, 3, *self.values.shape))
        for row, (a, b) in enumerate([(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]):
            self.hessians[a, b] = self.hessians[b, a] = table[4 + row]
        self.c, self.u = rng.standard_normal((2, *self.values.shape))
        self.a = rng.standard_normal(self.values.shape[1])
        self.v = rng.standard_normal((3, self.values.shape[1]))


def batched(array):
    return torch.tensor(array)[None]


@pytest.mark.parametrize(("name", "basis"), CASES)
def test_orders_are_inverse_and_atoms_own_their_orbitals(name, basis):
    molecule, _ = system(name, basis=basis)
    orbitals = molecule.basis
    assert orbitals.grid_order[orbitals.natural_order].tolist() == list(range(orbitals.nao))
    assert orbitals.nao == molecule.nao == len(owners_of_orbitals(orbitals))


def test_the_order_of_atoms_does_not_matter():
    forward, backward = Basis((8, 1, 6), "6-31g"), Basis((6, 1, 8), "6-31g")
    assert forward.nao == backward.nao == 20
    assert forward.atom_slices[0].stop - forward.atom_slices[0].start == 9


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(("name", "basis"), CASES)
def test_values_are_pyscfs(name, basis, order):
    at = OnPoints(name, basis, order)
    assert np.abs(at.values).max() > 0.1
    np.testing.assert_allclose(at.orbitals.values[0], at.values, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("name", "basis"), CASES)
def test_gradients_are_pyscfs(name, basis):
    at = OnPoints(name, basis, 1)
    expected = np.einsum("mn,amn->an", at.c, at.gradients)
    assert np.abs(expected).max() > 0.1
    ours = contract_gradients(at.orbitals, batched(at.c))[0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize(("name", "basis"), CASES)
def test_weighted_orbitals_are_pyscfs(name, basis, gradient):
    at = OnPoints(name, basis, 1)
    expected = at.a * at.values
    if gradient:
        slope = np.einsum("an,amn->mn", at.v, at.gradients)
        assert np.abs(slope).max() > 0.1
        expected = expected + slope
    vector = batched(at.v) if gradient else None
    ours = weighted_orbitals(at.orbitals, batched(at.a), vector)[0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize(("name", "basis"), CASES)
def test_position_derivatives_are_pyscfs(name, basis, gradient):
    at = OnPoints(name, basis, 2 if gradient else 1)
    terms = at.c * at.gradients
    if gradient:
        curvature = at.u * np.einsum("bn,abmn->amn", at.v, at.hessians)
        assert np.abs(curvature).max() > 0.1
        terms = terms + curvature
    arguments = (batched(at.u), batched(at.v)) if gradient else (None, None)
    by_point, by_nucleus = position_derivative(at.orbitals, batched(at.c), *arguments)
    np.testing.assert_allclose(by_point[0], terms.sum(1), rtol=0, atol=1e-11)
    owners = owners_of_orbitals(at.basis)[at.basis.grid_order.numpy()]
    expected = np.zeros(by_nucleus.shape[1:])
    np.add.at(expected, owners, -terms.sum(2).T)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(by_nucleus[0], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("basis", ["def2-svp", "def2-tzvp"])
def test_gradients_by_finite_differences(basis):
    molecule, positions = system("H2CO", basis=basis)
    points = positions.mean(1, keepdim=True) + 0.7
    weights = torch.linspace(-1.0, 1.0, molecule.nao, dtype=torch.float64)[None, :, None]

    def value(x):
        return (weights * evaluate_orbitals(molecule.basis, positions, x, 0).values).sum()

    orbitals = evaluate_orbitals(molecule.basis, positions, points, 1)
    gradient = contract_gradients(orbitals, weights).transpose(1, 2)
    assert_gradient(value, gradient, points)


def test_far_away_there_is_nothing():
    molecule, positions = system("H2CO", basis="def2-svp")
    orbitals = evaluate_orbitals(molecule.basis, positions, positions + 100.0, 2)
    assert float(orbitals.values.abs().max()) < 1e-30
    assert bool(torch.isfinite(orbitals.values).all())


def test_a_batch_is_its_members():
    molecule, positions = system("H2O", basis="def2-svp")
    both = torch.cat([positions, 1.2 * positions])
    offsets = torch.linspace(0, 1, 12, dtype=torch.float64).view(1, 4, 3)
    points = both.mean(1, keepdim=True) + offsets
    together = evaluate_orbitals(molecule.basis, both, points, 1)
    assert float((together.values[0] - together.values[1]).abs().max()) > 1e-3
    ones = torch.ones_like(together.values)
    gradients = contract_gradients(together, ones)
    for i in range(2):
        alone = evaluate_orbitals(molecule.basis, both[i : i + 1], points[i : i + 1], 1)
        torch.testing.assert_close(together.values[i], alone.values[0], rtol=0, atol=1e-14)
        gradient = contract_gradients(alone, ones[:1])[0]
        torch.testing.assert_close(gradients[i], gradient, rtol=0, atol=1e-13)
