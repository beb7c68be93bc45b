"""The compiled quadrature against the one in torch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.units import Bohr

from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.grid.molecular_grid import build_grid
from ase_srdft.dft.kernels import quadrature as kernels
from ase_srdft.dft.kernels.arrays import as_array
from ase_srdft.dft.kernels.library import loaded, threads, using_torch
from ase_srdft.dft.level_of_theory import FUNCTIONALS, LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.xc.quadrature import Quadrature, xc_energy, xc_potential
from ase_srdft.models.single_point import molecule_of, single_point
from tests.tools.molecules import assert_gradient, symmetric, system
from tests.tools.small_models import small_model

if loaded() is None:
    pytest.skip("no compiled kernels here", allow_module_level=True)

#: Every functional, shells from s to f, all of the periods, one atom, linear molecules.
CASES = [
    ("H2", "sto-3g", "LDA"),
    ("Ne", "def2-svp", "PBE0"),
    ("CO2", "6-31g", "BLYP"),
    ("H2O", "def2-svp", "PBE"),
    ("H2O", "def2-tzvp", "B3LYP"),
    ("H2CO", "6-31g*", "B3LYP5"),
    ("C2H2", "cc-pvdz", "LDA"),
    ("CH3Cl", "6-31g", "PBE"),
    ("KH", "6-31g", "B3LYP"),
    ("BrH", "sto-3g", "BLYP"),
]
SLOW_MOLECULES = ["H2", "Ne", "CO2", "H2O", "SO2", "CH3CH2OH", "CH3Cl", "KH", "BrH", "C6H6"]
SLOW_BASES = ["sto-3g", "6-31g", "def2-svp", "6-31g*", "def2-tzvp"]
SLOW_CASES = [(name, basis) for name in SLOW_MOLECULES for basis in SLOW_BASES]
SLOW_CASES.remove(("BrH", "6-31g"))  # there is no such basis


def moving(name, basis, xc, level=0, seed=0):
    """A molecule, positions that require gradients, and two symmetric matrices P and W."""
    if name == "BrH":
        molecule = Molecule(numbers=(35, 1), level=LevelOfTheory(basis=basis, xc=xc), guess="core")
        positions = torch.tensor([[[0.1, 0.0, 0.2], [0.3, 0.1, 2.9]]], dtype=torch.float64)
    else:
        molecule, positions = system(name, basis=basis, xc=xc, grid_level=level, guess="core")
    return molecule, positions, *matrices(molecule.nao, molecule.nocc, seed=seed)


def matrices(nao, nocc, seed=0, batch=1):
    """A positive matrix of a density matrix's size, and a symmetric one.

    Of full rank: where a density has a node, its derivatives by rho are all rounding.
    """
    rng = np.random.default_rng(seed)
    orbitals = torch.tensor(rng.random((batch, nao, nocc)) - 0.2) / nao**0.5
    density_matrix = orbitals @ orbitals.transpose(-1, -2)
    density_matrix += 0.2 * torch.eye(nao, dtype=torch.float64)
    return density_matrix, 0.1 * symmetric(batch, nao, nao, seed=seed)


def quadrature_of(molecule, positions, level):
    template = molecule.grid_template(level, torch.device("cpu"))
    return Quadrature(
        basis=molecule.basis,
        functional=molecule.level.functional,
        positions=positions,
        grid=build_grid(positions, template),
    )


def everything(molecule, positions, density_matrix, trial, level=0, nthreads=1):
    """Values and derivatives of both nodes, by name."""
    with threads(nthreads):
        start = positions.clone().requires_grad_()
        weights = quadrature_of(molecule, positions, level).grid.weights.requires_grad_()
        quadrature = quadrature_of(molecule, start, level)
        quadrature = replace(quadrature, grid=replace(quadrature.grid, weights=weights))
        matrix = density_matrix.clone().requires_grad_()
        energy, potential = xc_energy(quadrature, matrix)
        slopes = torch.autograd.grad(energy.sum(), (matrix, start, weights))
        again = xc_potential(quadrature, matrix)
        responses = torch.autograd.grad(again, (matrix, start, weights), trial)
    names = ("energy", "V", "E by P", "E by R", "e", "V again", "V by P", "V by R", "V by w")
    values = [energy.detach(), potential, *slopes, again.detach(), *responses]
    results = dict(zip(names, values, strict=True))
    for name in ("e", "V by w"):
        results[name] = results[name] * weights.detach()
    return results


def assert_equals_torch(molecule, positions, *matrices_and_level):
    found = everything(molecule, positions, *matrices_and_level)
    with using_torch():
        expected = everything(molecule, positions, *matrices_and_level)
    assert float(expected["energy"].max()) < -0.01
    for name, value in expected.items():
        scale = max(1.0, float(value.abs().max()))
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=2e-12 * scale, err_msg=name, equal_nan=False
        )
    return expected


@pytest.mark.parametrize(("name", "basis", "xc"), CASES)
def test_all_values_and_derivatives_are_those_of_torch(name, basis, xc):
    molecule, *rest = moving(name, basis, xc)
    expected = assert_equals_torch(molecule, *rest)
    assert float(expected["V"].abs().max()) > 0.1
    assert float(expected["V by P"].abs().max()) > 1e-3
    if molecule.natoms > 1:
        assert float(expected["E by R"].abs().max()) > 1e-2
        assert float(expected["V by R"].abs().max()) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "basis"), SLOW_CASES)
def test_every_functional_on_every_molecule(name, basis):
    for seed, xc in enumerate(FUNCTIONALS):
        molecule, *rest = moving(name, basis, xc, seed=seed)
        assert_equals_torch(molecule, *rest, COARSE_GRID)


PLACES = {
    "far apart": ((8, 1, 1, 8, 1, 1), 60.0, 1.0),
    "half an angstrom": ((8, 1, 1), 0.0, 0.5 / 0.96),
    "tight": ((8, 1, 1), 0.0, 0.3),
}


@pytest.mark.parametrize("place", PLACES)
def test_in_odd_places(place):
    numbers, apart, scale = PLACES[place]
    water = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]) * scale / Bohr
    copies = [water + np.array([0.0, 0.0, apart * i]) for i in range(len(numbers) // 3)]
    molecule = Molecule(numbers=numbers, level=LevelOfTheory(basis="6-31g"), guess="core")
    positions = torch.tensor(np.concatenate(copies))[None]
    assert_equals_torch(molecule, positions, *matrices(molecule.nao, molecule.nocc))


@pytest.mark.slow
def test_turned():
    molecule, positions, *rest = moving("CH3CH2OH", "6-31g*", "PBE")
    rng = np.random.default_rng(5)
    for _ in range(30):
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        assert_equals_torch(molecule, positions @ torch.tensor(turn), *rest)


def test_two_far_molecules_are_the_sum_of_each():
    water, positions, density_matrix, _ = moving("H2O", "6-31g", "PBE")
    both = Molecule(numbers=water.numbers * 2, level=water.level, guess="core")
    far = torch.cat([positions, positions + 80.0], 1)
    one, _ = xc_energy(quadrature_of(water, positions, 0), density_matrix)
    matrix = torch.block_diag(density_matrix[0], density_matrix[0])[None]
    two, _ = xc_energy(quadrature_of(both, far, 0), matrix)
    assert float(one) < -1.0
    np.testing.assert_allclose(two, 2.0 * one, atol=1e-11)


def problem_of(quadrature, **changes):
    partition = quadrature.grid.template.partition
    problem = kernels.GridProblem(
        library=loaded(),
        numbers=quadrature.basis.numbers,
        basis=quadrature.basis.name,
        functional=quadrature.functional,
        owners=partition.owners,
        offsets=partition.offsets,
        positions=as_array(quadrature.positions),
        weights=as_array(quadrature.grid.weights),
    )
    return replace(problem, **changes)


def test_orbitals_below_the_cutoff_do_not_count():
    molecule, positions, density_matrix, trial = moving("CH3CH2OH", "6-31g", "PBE")
    positions = 1.5 * positions  # farther apart than the orbitals reach
    quadrature = quadrature_of(molecule, positions, 0)
    arrays = as_array(density_matrix), as_array(trial)
    found, everywhere, rough = (
        kernels.potential_gradient(problem_of(quadrature, cutoff=cutoff), *arrays, moves=True)
        for cutoff in (kernels.ORBITAL_CUTOFF, 0.0, 1e-3)
    )
    for one, other, far in zip(
        found.derivatives, everywhere.derivatives, rough.derivatives, strict=True
    ):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * scale)
        assert np.abs(one - other).max() > 0.0  # something was left out
        assert np.abs(far - other).max() > 1e-9 * scale


def test_points_without_density_give_nothing():
    molecule, positions, density_matrix, trial = moving("H2O", "6-31g", "BLYP")
    quadrature = quadrature_of(molecule, positions, 0)
    offsets = 50.0 + quadrature.grid.template.partition.offsets
    for cutoff in (0.0, kernels.ORBITAL_CUTOFF):
        problem = problem_of(quadrature, offsets=offsets, cutoff=cutoff)
        sums = kernels.xc_energy(problem, as_array(density_matrix), moves=True)
        gradient = kernels.potential_gradient(
            problem, as_array(density_matrix), as_array(trial), moves=True
        )
        for array in (sums.energy, *sums.derivatives, *gradient.derivatives):
            assert np.array_equal(array, np.zeros_like(array))


@pytest.mark.parametrize("xc", ["LDA", "B3LYP"])
def test_no_digit_depends_on_threads_or_batch(xc):
    molecule, positions, _, _ = moving("H2O", "6-31g", xc)
    three = torch.cat([positions, 1.1 * positions, 1.2 * positions])
    both = matrices(molecule.nao, molecule.nocc, batch=3)
    one = everything(molecule, three, *both)
    two = everything(molecule, three, *both, nthreads=2)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    for i in range(3):
        alone = everything(molecule, three[i : i + 1], *(m[i : i + 1] for m in both))
        for name, value in alone.items():
            assert torch.equal(value, one[name][i : i + 1]), name


def test_derivative_by_the_nuclei_only_where_it_is_wanted():
    molecule, positions, density_matrix, trial = moving("H2O", "6-31g", "PBE")
    quadrature = quadrature_of(molecule, positions, 0)
    matrix = density_matrix.clone().requires_grad_()
    energy, potential = xc_energy(quadrature, matrix)
    (slope,) = torch.autograd.grad(energy.sum(), matrix)
    torch.testing.assert_close(slope, potential, rtol=0, atol=0)
    problem, array = problem_of(quadrature), as_array(density_matrix)
    assert kernels.xc_energy(problem, array, moves=False).by_nucleus is None
    here = kernels.potential_gradient(problem, array, as_array(trial), moves=False)
    moved = kernels.potential_gradient(problem, array, as_array(trial), moves=True)
    assert here.by_nucleus is None
    assert np.array_equal(here.by_matrix, moved.by_matrix)


def test_too_little_memory():
    molecule, positions, density_matrix, _ = moving("H2", "sto-3g", "PBE")
    library = SimpleNamespace(srdft_xc_energy=lambda *_: 1)
    problem = problem_of(quadrature_of(molecule, positions, 0), library=library)
    with pytest.raises(MemoryError):
        kernels.xc_potential(problem, as_array(density_matrix))


@pytest.mark.parametrize("limit", [("MAX_ANGULAR_MOMENTUM", 1), ("_TERMS", ("pbe_x",))])
def test_what_the_kernels_cannot_do_is_left_to_torch(monkeypatch, limit):
    molecule, positions, density_matrix, _ = moving("H2O", "def2-svp", "PBE")
    quadrature = quadrature_of(molecule, positions, 0)
    calls = []
    monkeypatch.setattr(kernels, "xc_potential", lambda _, matrix: calls.append(1) or matrix)
    assert torch.equal(xc_potential(quadrature, density_matrix), density_matrix)
    monkeypatch.setattr(kernels, *limit)
    assert not torch.equal(xc_potential(quadrature, density_matrix), density_matrix)
    assert calls == [1]


def test_every_term_of_a_functional_is_compiled():
    for functional in FUNCTIONALS.values():
        assert kernels.supports(3, functional)
        assert not kernels.supports(4, functional)


@pytest.mark.slow
@pytest.mark.parametrize("xc", ["LDA", "PBE", "B3LYP"])
def test_forces_by_finite_differences(xc):
    level = {"xc": xc, "basis": "6-31g*", "grid_level": 0}
    model = small_model((1, 6, 8), **level).double().requires_grad_(False)
    molecule = molecule_of(model, system("H2CO")[0].numbers)
    positions = system("H2CO")[1]
    point = single_point(model, molecule, positions)

    def energy(x):
        return single_point(model, molecule, x, forces=False).energy

    assert_gradient(energy, -point.forces, positions, rtol=2e-6, step=5e-4)
