"""The compiled Coulomb integrals and their contracted derivatives against libcint."""

import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ase_srdft.dft.basis.auxiliary_basis import auxiliary_shells
from ase_srdft.dft.coulomb import coulomb_energy, coulomb_matrix
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.exact_exchange import exchange_energy, exchange_matrix
from ase_srdft.dft.integrals.libcint import LibcintProvider
from ase_srdft.dft.integrals.provider import evaluate_integrals
from ase_srdft.dft.integrals.shell_tables import symmetric as symmetric_part
from ase_srdft.dft.kernels.coulomb import AuxiliaryTables
from ase_srdft.dft.kernels.library import loaded, threads, using_torch
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import (
    concatenate,
    detached,
    from_tensors,
    to_tensors,
)
from tests.tools.molecules import ODD_PLACES, prepared, random_state, symmetric, system

if loaded() is None:
    pytest.skip("no compiled kernels here", allow_module_level=True)

SLOW = pytest.mark.slow
LEVELS = {
    "minimal": {"basis": "sto-3g"},
    "split": {"basis": "6-31g"},
    "polarised": {"basis": "def2-svp", "xc": "PBE0"},
    "f functions": {"basis": "def2-tzvp"},
    "general contraction": {"basis": "cc-pvdz"},
}
MOLECULES = ["H2", "CO2", "CH3CH2OH", "SO2", "NaCl", "C2H4", "CH3Cl", "H2CO"]
CASES = [
    *(("H2O", level) for level in LEVELS),
    *(pytest.param(name, level, marks=SLOW) for name in MOLECULES for level in LEVELS),
]


def provider_of(numbers, **level):
    """With the kernels, whatever computed first; the oracle while torch is asked for."""
    with using_torch():
        provider = LibcintProvider(numbers, LevelOfTheory(**level), "core")
        assert not provider.taped_sets
    assert provider.taped_sets
    return provider


def evaluated(provider, coordinates):
    """The integrals by the kernels and by libcint."""
    with using_torch():
        expected = provider.evaluate(coordinates)
    return provider.evaluate(coordinates), expected


def assert_same(found, expected, tolerance):
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, scale))


def assert_equals_libcint(numbers, coordinates, nthreads=1, **level):
    provider = provider_of(numbers, **level)
    with threads(nthreads):
        found, expected = evaluated(provider, coordinates)
        for name in ("three_center", "metric"):
            assert_same(found[name], expected[name], 2e-12)
        rng = np.random.default_rng(1)
        nao, naux = len(expected["overlap"]), expected["metric"].shape[0]
        matrices = rng.standard_normal((7, nao, nao))
        matrices += matrices.transpose(0, 2, 1)
        vectors = rng.standard_normal((3, 7, naux))
        kernels = provider._kernels
        three = kernels.three_center_gradient(coordinates, matrices, vectors[0])
        weights = symmetric_part(vectors[1].T @ vectors[2])
        two = kernels.metric_gradient(coordinates, weights)
        cotangent = rng.standard_normal(expected["three_center"].shape)
        any_array = kernels.three_center_dense_gradient(coordinates, cotangent)
        one = kernels.nuclear_gradient(coordinates, matrices[0])
    rows, columns = np.tril_indices(nao)
    packed = matrices[:, rows, columns] * np.where(rows == columns, 1.0, 2.0)
    with using_torch():
        factored = provider.pull_back(coordinates, {"three_center": packed.T @ vectors[0]})
        dense = provider.pull_back(coordinates, {"three_center": cotangent})
        metric = provider.pull_back(coordinates, {"metric": weights})
        core = provider.pull_back(coordinates, {"core_hamiltonian": matrices[0]})
    assert_same(three, factored, 1e-12)
    assert_same(any_array, dense, 1e-12)
    assert_same(two, metric, 1e-12)
    compiled = provider.pull_back(coordinates, {"core_hamiltonian": matrices[0]})
    assert_same(compiled, core, 1e-12)
    assert np.abs(one.sum(0)).max() < 1e-9 * np.abs(one).max()


@pytest.mark.parametrize(("name", "level"), CASES)
def test_values_and_derivatives_are_libcints(name, level):
    molecule, positions = system(name)
    assert_equals_libcint(molecule.numbers, positions[0].numpy(), **LEVELS[level])


@pytest.mark.parametrize(
    "level", ["minimal", *(pytest.param(n, marks=SLOW) for n in [*LEVELS][1:])]
)
def test_an_atom_has_no_gradient(level):
    provider = provider_of((10,), **LEVELS[level])
    coordinates = np.array([[0.1, -0.2, 0.3]])
    found, expected = evaluated(provider, coordinates)
    for name in ("three_center", "metric"):
        assert_same(found[name], expected[name], 2e-12)
    ones, matrix = np.ones((1, len(expected["metric"]))), np.ones((1, *expected["overlap"].shape))
    dense = np.ones(expected["three_center"].shape)
    kernels = provider._kernels
    three = kernels.three_center_gradient(coordinates, matrix, ones)
    every = kernels.three_center_dense_gradient(coordinates, dense)
    two = kernels.metric_gradient(coordinates, ones.T @ ones)
    one = kernels.nuclear_gradient(coordinates, matrix[0])
    assert max(np.abs(gradient).max() for gradient in (three, every, two, one)) < 1e-11


@pytest.mark.parametrize("name", ODD_PLACES)
def test_in_odd_places(name):
    numbers, positions = ODD_PLACES[name]
    assert_equals_libcint(numbers, np.array(positions, dtype=float), basis="def2-svp")


@SLOW
@pytest.mark.parametrize("seed", range(30))
def test_turned(seed):
    molecule, positions = system("H2O")
    turned = positions[0].numpy() @ Rotation.random(random_state=seed).as_matrix()
    assert_equals_libcint(molecule.numbers, np.ascontiguousarray(turned), basis="def2-tzvp")


@pytest.mark.parametrize("nthreads", [2, 5])
def test_no_digit_depends_on_the_threads(nthreads):
    molecule, positions = system("H2CO")
    compiled = provider_of(molecule.numbers, basis="6-31g")
    coordinates, naux = positions[0].numpy(), len(compiled.evaluate(positions[0].numpy())["metric"])
    matrices, vectors = symmetric(2, molecule.nao, molecule.nao).numpy(), np.ones((2, naux))

    def everything():
        gradient = compiled._kernels.three_center_gradient(coordinates, matrices, vectors)
        values = compiled._kernels.three_center(coordinates)
        dense = compiled._kernels.three_center_dense_gradient(coordinates, values)
        return values, gradient, dense

    alone = everything()
    with threads(nthreads):
        together = everything()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# The slots of the graph


def energy_of(molecule, positions, matrix):
    """Something of Coulomb and exchange, matrices and energies, of one set of integrals."""
    integrals = evaluate_integrals(positions, molecule.provider)
    first = coulomb_matrix(integrals, matrix)
    second = coulomb_matrix(integrals, matrix + 0.01 * first @ first)
    energy, _ = coulomb_energy(integrals, second / 10.0)
    other = exchange_matrix(integrals, matrix - 0.02 * first)
    exchange, _ = exchange_energy(integrals, other / 20.0)
    both = energy.sum() - exchange.sum()
    return both + (first * second).sum() + (matrix * other).sum() + integrals.overlap.square().sum()


def batch_of_two():
    molecule, positions = system("H2O", guess="core")
    both = torch.cat([positions, 1.1 * positions])
    return molecule, both, symmetric(2, molecule.nao, molecule.nao)


def expected_gradients(both, matrix):
    with using_torch():
        molecule = Molecule(numbers=(8, 1, 1), level=LevelOfTheory(basis="sto-3g"), guess="core")
        assert not molecule.provider.taped_sets
        leaves = [both.clone().requires_grad_(), matrix.clone().requires_grad_()]
        return torch.autograd.grad(energy_of(molecule, *leaves), leaves)


def test_gradients_by_slots_are_those_by_arrays():
    _, both, matrix = batch_of_two()
    molecule = Molecule(numbers=(8, 1, 1), level=LevelOfTheory(basis="sto-3g"), guess="core")
    matrix = symmetric(2, molecule.nao, molecule.nao)
    expected = expected_gradients(both, matrix)
    leaves = [both.clone().requires_grad_(), matrix.clone().requires_grad_()]
    energy = energy_of(molecule, *leaves)
    for _ in range(2):  # and again: nothing of an earlier pass is counted
        found = torch.autograd.grad(energy, leaves, retain_graph=True)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, 0.5 * (other + other.mT) if one is found[1] else other)
    # by the matrix alone, and then by the nuclei
    torch.autograd.grad(energy, leaves[1], retain_graph=True)
    (by_nuclei,) = torch.autograd.grad(energy, leaves[0])
    torch.testing.assert_close(by_nuclei, expected[0])


@pytest.mark.parametrize("name", ["H2", "H2O"])
def test_forces_with_exact_exchange_are_torchs(name):
    geometry = prepared(name, basis="6-31g", xc="B3LYP", guess="minao")
    state = random_state(geometry)

    def forces():
        start = geometry.positions.clone().requires_grad_()
        energies, _ = kohn_sham(prepare(geometry.molecule, start), state)
        assert abs(energies.exact_exchange.item()) > 0.1
        return torch.autograd.grad(energies.total.sum(), start)[0]

    found = forces()
    with using_torch():
        expected = forces()
    assert float(expected.abs().max()) > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_small_cotangent_of_exchange_counts():
    molecule, both, _ = batch_of_two()
    start = both.clone().requires_grad_()
    matrix = symmetric(2, molecule.nao, molecule.nao).requires_grad_()
    exchange = exchange_matrix(evaluate_integrals(start, molecule.provider), matrix)
    weights = symmetric(2, molecule.nao, molecule.nao, seed=1)
    leaves = (start, matrix)
    whole = torch.autograd.grad(exchange, leaves, weights, retain_graph=True)
    small = torch.autograd.grad(exchange, leaves, 1e-14 * weights)
    for one, other in zip(small, whole, strict=True):
        assert float(other.abs().max()) > 1e-2
        torch.testing.assert_close(1e14 * one, other)


def test_a_node_left_out_of_a_pass_does_not_count():
    _, both, _ = batch_of_two()
    molecule = Molecule(numbers=(8, 1, 1), level=LevelOfTheory(basis="sto-3g"), guess="core")
    matrix = symmetric(2, molecule.nao, molecule.nao)
    start = both.clone().requires_grad_()
    integrals = evaluate_integrals(start, molecule.provider)
    first, _ = coulomb_energy(integrals, matrix)
    other, _ = coulomb_energy(integrals, 2.0 * matrix)
    (fourfold,) = torch.autograd.grad(other.sum(), start, retain_graph=True)
    (once,) = torch.autograd.grad(first.sum(), start)
    assert float(once.abs().max()) > 1e-2
    torch.testing.assert_close(fourfold, 4.0 * once)


def test_gradients_pass_through_a_joined_batch():
    molecule, both, matrix = batch_of_two()
    start = both.clone().requires_grad_()
    apart = [prepare(molecule, start[i : i + 1]) for i in range(2)]
    joined = concatenate(apart)
    matrix = symmetric(2, molecule.nao, molecule.nao)
    energy, _ = coulomb_energy(joined.integrals, matrix)
    (found,) = torch.autograd.grad(energy.sum(), start)
    whole = prepare(molecule, start)
    expected, _ = coulomb_energy(whole.integrals, matrix)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), start)[0])
    assert float(found.abs().max()) > 1e-2


def test_numbers_without_history_claim_no_slots():
    molecule, both, matrix = batch_of_two()
    geometry = prepare(molecule, both.requires_grad_())
    sent = pickle.loads(pickle.dumps(to_tensors(detached(geometry))))
    assert not {"cotangent_slots", "metric"} & set(sent)
    assert "metric_factor" in sent
    plain = from_tensors(molecule, sent, geometry.grid.template.level)
    weights = matrix.clone().requires_grad_()
    energy, coulomb = coulomb_energy(plain.integrals, weights)
    (by_matrix,) = torch.autograd.grad(energy.sum(), weights)
    torch.testing.assert_close(by_matrix, coulomb)
    assert not plain.integrals.three_center.requires_grad


def test_batches_with_and_without_history_are_not_joined():
    molecule, both, _ = batch_of_two()
    geometry = prepare(molecule, both.requires_grad_())
    for mixture in ([geometry, detached(geometry)], [detached(geometry), geometry]):
        with pytest.raises(ValueError, match="history"):
            concatenate(mixture)


def test_too_many_matrices_are_an_error():
    molecule, both, matrix = batch_of_two()
    integrals = evaluate_integrals(both.requires_grad_(), molecule.provider)
    for _ in range(64):
        coulomb_matrix(integrals, matrix)
    with pytest.raises(RuntimeError, match="prepare the geometry anew"):
        coulomb_matrix(integrals, matrix)


def test_the_tables_of_a_molecule_grow_as_it_does():
    """Thousands of molecules are kept in a training run."""

    def size(numbers):
        shells = auxiliary_shells(numbers, "def2-universal-jkfit")
        return len(pickle.dumps(AuxiliaryTables(len(numbers), shells)))

    one, four = size((6, 6, 8, 7)), size(4 * (6, 6, 8, 7))
    assert 2e4 < one < four < 6 * one
