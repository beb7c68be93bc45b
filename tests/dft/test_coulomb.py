"""Coulomb and exchange matrices against PySCF's, fitted and exact."""

import numpy as np
import pytest
import torch
from pyscf import df
from pyscf.scf import hf

from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.exact_exchange import exchange_matrix
from ase_srdft.dft.integrals.packed_pairs import from_lower_triangle, lower_triangle
from ase_srdft.dft.integrals.provider import Integrals, evaluate_integrals
from ase_srdft.dft.reference_scf import mean_field
from tests.tools.molecules import assert_gradient, symmetric, system

CASES = {
    "exact": {"name": "H2O", "basis": "6-31g*", "density_fitting": False},
    "jfit": {"name": "H2CO", "xc": "PBE", "basis": "def2-svp"},
    "jkfit": {"name": "H2CO", "xc": "PBE0", "basis": "def2-svp"},
    "named": {"name": "H2O", "density_fitting": "weigend"},
}
MATRICES = {"coulomb": coulomb_matrix, "exchange": exchange_matrix}


def integrals_of(name, **options):
    molecule, positions = system(name, **options)
    return molecule, positions, evaluate_integrals(positions, molecule.provider)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matrices_are_pyscfs(case):
    molecule, positions, integrals = integrals_of(**case)
    density_matrix = symmetric(1, molecule.nao, molecule.nao)
    mol = mean_field(molecule, positions[0].numpy()).mol
    if molecule.level.auxiliary_basis is None:
        expected = hf.get_jk(mol, density_matrix[0].numpy())
    else:
        fitting = df.DF(mol, molecule.level.auxiliary_basis)
        expected = fitting.get_jk(density_matrix[0].numpy(), hermi=1)
    for function, matrix in zip(MATRICES.values(), expected, strict=True):
        assert np.abs(matrix).max() > 1.0
        ours = function(integrals, density_matrix)[0]
        np.testing.assert_allclose(ours, matrix, rtol=0, atol=1e-10 * np.abs(matrix).max())


def test_fitting_is_close_to_exact():
    _, _, exact = integrals_of("H2O", xc="PBE0", density_fitting=False)
    molecule, _, fitted = integrals_of("H2O", xc="PBE0")
    density_matrix = torch.eye(molecule.nao, dtype=torch.float64)[None]
    for function in MATRICES.values():
        difference = function(exact, density_matrix) - function(fitted, density_matrix)
        assert 1e-6 < float(difference.abs().max()) < 1e-2


@pytest.mark.parametrize("function", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matrices_are_linear_symmetric_and_self_adjoint(function, case):
    molecule, _, integrals = integrals_of(**case)
    first, second = (symmetric(1, molecule.nao, molecule.nao, seed=seed) for seed in (1, 2))
    ours, other = function(integrals, first), function(integrals, second)
    scale = float(ours.abs().max())
    torch.testing.assert_close(ours, ours.transpose(-1, -2), rtol=0, atol=1e-10 * scale)
    joint = function(integrals, 2.0 * first - second)
    torch.testing.assert_close(joint, 2.0 * ours - other, rtol=0, atol=1e-10 * scale)
    left, right = float((second * ours).sum()), float((first * other).sum())
    assert left == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("function", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_repulsion_is_positive(function, case):
    molecule, _, integrals = integrals_of(**case)
    density_matrix = symmetric(1, molecule.nao, molecule.nao, seed=3)
    assert float((density_matrix * function(integrals, density_matrix)).sum()) > 1.0


@pytest.mark.parametrize("function", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_energy_by_the_nuclei(function, case):
    molecule, positions, _ = integrals_of(**case)
    density_matrix = symmetric(1, molecule.nao, molecule.nao, seed=4)

    def energy(x):
        integrals = evaluate_integrals(x, molecule.provider)
        return (density_matrix * function(integrals, density_matrix)).sum()

    start = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(start), start)
    assert_gradient(energy, gradient, positions, rtol=1e-7)


def test_fitted_matrices_pass_gradcheck():
    rng = np.random.default_rng(5)
    nao, naux = 3, 4
    factor = torch.tensor(rng.standard_normal((1, naux, naux)))
    metric = factor @ factor.transpose(-1, -2) + torch.eye(naux, dtype=torch.float64)
    three_center = torch.tensor(rng.standard_normal((1, nao * (nao + 1) // 2, naux)))
    density_matrix = symmetric(1, nao, nao)

    def matrices(metric, three_center, density_matrix):
        unused = torch.zeros(1, nao, nao, dtype=torch.float64)
        even = 0.5 * (metric + metric.transpose(-1, -2))
        integrals = Integrals(
            overlap=unused,
            core_hamiltonian=unused,
            metric=even,
            metric_factor=torch.linalg.cholesky(even.detach()),
            three_center=three_center,
        )
        density_matrix = 0.5 * (density_matrix + density_matrix.transpose(-1, -2))
        return tuple(function(integrals, density_matrix) for function in MATRICES.values())

    inputs = [t.requires_grad_() for t in (metric, three_center, density_matrix)]
    assert torch.autograd.gradcheck(matrices, inputs)


def test_pack_and_unpack_are_inverse():
    matrix = symmetric(2, 5, 5)
    packed = lower_triangle(matrix)
    assert packed.shape == (2, 15)
    assert packed[0].tolist() == [float(matrix[0, i, j]) for i in range(5) for j in range(i + 1)]
    torch.testing.assert_close(from_lower_triangle(packed, 5), matrix, rtol=0, atol=0)
