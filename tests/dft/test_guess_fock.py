"""Guess Fock matrices against PySCF's guesses, and their derivatives."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyscf.scf import hf

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.common.errors import BadInput
from ase_srdft.dft.basis.guess_tables import atomic_potential, minimal_basis
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.guess_fock import guess_fock, minimal_density_matrix
from ase_srdft.dft.molecule import GUESSES
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.reference_scf import mean_field
from tests.tools.molecules import assert_gradient, prepared, system

LEVELS = {
    "LDA": {"xc": "LDA"},
    "PBE": {"xc": "PBE", "basis": "def2-svp"},
    "B3LYP": {"xc": "B3LYP"},
    "exact PBE0": {"xc": "PBE0", "density_fitting": False},
}


def on_the_levels_grid(geometry):
    quadrature, orthogonaliser = geometry.quadrature, geometry.orthogonaliser
    return guess_fock(geometry.molecule, geometry.integrals, quadrature, orthogonaliser)


def in_pyscf(geometry):
    return mean_field(geometry.molecule, geometry.positions[0].numpy())


def test_no_guess_is_another_by_a_second_name():
    focks = [prepared("H2O", guess=guess, grid_level=0, xc="B3LYP").guess_fock for guess in GUESSES]
    for first, second in itertools.combinations(focks, 2):
        assert float((first - second).abs().max()) > 1e-3


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("name", ["H2CO", "SiH4"])
def test_minao_is_the_fock_matrix_of_pyscfs_minao_density(name, level):
    geometry = prepared(name, guess="minao", grid_level=0, **level)
    scf = in_pyscf(geometry)
    density_matrix = hf.init_guess_by_minao(scf.mol)
    ours = minimal_density_matrix(geometry.molecule, geometry.integrals)[0]
    np.testing.assert_allclose(ours, density_matrix, rtol=0, atol=1e-10)
    fock = scf.get_fock(dm=density_matrix)
    assert np.abs(fock - scf.get_hcore()).max() > 0.1
    np.testing.assert_allclose(on_the_levels_grid(geometry).fock[0], fock, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "level",
    [*LEVELS.values(), {"xc": "PBE", "basis": "def2-tzvp"}],
    ids=[*LEVELS, "f functions"],
)
def test_roothaan_is_a_damped_step_from_minao(level):
    geometry = prepared("H2CO", guess="roothaan", grid_level=0, **level)
    scf = in_pyscf(geometry)
    start = scf.get_fock(dm=hf.init_guess_by_minao(scf.mol))
    levels, orbitals = scf.eig(start, scf.get_ovlp())
    step = scf.get_fock(dm=scf.make_rdm1(orbitals, scf.get_occ(levels, orbitals))) - start
    guess = on_the_levels_grid(geometry)
    assert np.abs(step).max() > 0.1
    np.testing.assert_allclose(guess.step[0], step, rtol=0, atol=1e-8)
    np.testing.assert_allclose(guess.fock[0], start + 0.3 * step, rtol=0, atol=1e-8)


def test_without_exact_exchange_the_companion_is_roothaan():
    companion, roothaan = (
        on_the_levels_grid(prepared("H2CO", guess=guess, grid_level=0))
        for guess in ("companion", "roothaan")
    )
    assert torch.equal(companion.fock, roothaan.fock)
    assert torch.equal(companion.step, roothaan.step)


@pytest.mark.parametrize(
    ("level", "companion"),
    [
        ({"xc": "B3LYP"}, "0.08*slater+0.92*b88,0.81*lyp+0.19*vwn_rpa"),
        ({"xc": "PBE0", "density_fitting": False}, "pbe,pbe"),
        ({"xc": "PBE0", "basis": "def2-tzvp"}, "pbe,pbe"),
    ],
    ids=["B3LYP", "exact PBE0", "f functions"],
)
def test_companion_takes_the_exchange_of_a_companions_density(level, companion):
    geometry = prepared("H2CO", guess="companion", grid_level=0, **level)
    scf, local = in_pyscf(geometry), in_pyscf(geometry)
    local.xc = companion

    def aufbau(fock):
        levels, orbitals = scf.eig(fock, scf.get_ovlp())
        return scf.make_rdm1(orbitals, scf.get_occ(levels, orbitals))

    atoms = hf.init_guess_by_minao(scf.mol)
    start = local.get_fock(dm=atoms)
    first = aufbau(start)
    damped = 0.7 * atoms + 0.3 * first
    change = local.get_j(dm=damped) - local.get_j(dm=atoms)
    near = aufbau(start + 0.75 * change)
    fraction = scf._numint.rsh_and_hybrid_coeff(scf.xc)[2]
    own = scf.get_fock(dm=damped) + 0.5 * fraction * (scf.get_k(dm=damped) - scf.get_k(dm=near))
    guess = on_the_levels_grid(geometry)
    np.testing.assert_allclose(guess.fock[0], own, rtol=0, atol=1e-8)
    np.testing.assert_allclose(guess.step[0], (own - start) / 0.3, rtol=0, atol=1e-7)
    for found, expected in zip(guess.density_matrices, (atoms, first), strict=True):
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "smallest", "largest"), [("H2CO", 1e-6, 2e-2), ("SH2", 0.0, 1e-12)]
)
def test_its_exchange_is_fitted_with_a_potentials_functions_up_to_neon(name, smallest, largest):
    level = {"xc": "B3LYP", "basis": "6-31g*", "grid_level": 0}
    molecule, positions = system(name, guess="companion", **level)
    with_potential = replace(molecule, potential_basis="def2-universal-jfit")
    own, other = (prepare(each, positions).guess_fock for each in (molecule, with_potential))
    assert smallest <= float((own - other).abs().max()) <= largest


def test_the_guess_is_the_same_whatever_the_grid_of_the_energy():
    molecule, positions = system("H2CO", guess="roothaan", grid_level=0)
    coarse, zero, one = (prepare(molecule, positions, level) for level in (COARSE_GRID, None, 1))
    assert coarse.grid.weights.shape != zero.grid.weights.shape
    assert torch.equal(coarse.guess_fock, zero.guess_fock)
    assert torch.equal(coarse.guess_fock, one.guess_fock)
    # and near what the level's own grid would give
    exact = on_the_levels_grid(one).fock
    assert 0.0 < (exact - one.guess_fock).abs().max() < 5e-3


@pytest.mark.parametrize("name", ["H2CO", "SiH4"])
def test_sap_is_the_core_and_pyscfs_potentials(name):
    geometry = prepared(name, guess="sap", grid_level=0)
    scf = in_pyscf(geometry)
    symbols = {chemical_symbols[n]: n for n in geometry.molecule.numbers}
    tables = {s: np.array(atomic_potential(n)) for s, n in symbols.items()}
    potential = hf.make_sap(scf.mol, tables)
    assert potential.diagonal().min() > 0.1  # the screening repels
    expected = scf.get_hcore() + potential
    np.testing.assert_allclose(geometry.guess_fock[0], expected, rtol=0, atol=1e-10)


def test_core_is_the_core():
    geometry = prepared("H2CO", guess="core", grid_level=0)
    np.testing.assert_allclose(geometry.guess_fock[0], in_pyscf(geometry).get_hcore(), atol=1e-11)


@pytest.mark.parametrize("guess", ["companion", "roothaan", "minao", "sap"])
def test_guess_is_nearer_to_the_scf_than_the_core(guess):
    def error(name):
        geometry = prepared("H2O", guess=name, grid_level=0)
        scf = in_pyscf(geometry)
        scf.kernel()
        return np.abs(geometry.guess_fock[0].numpy() - scf.get_fock()).max()

    assert error(guess) < 0.2 * error("core")


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("guess", ["companion", "roothaan", "minao", "sap", "core"])
def test_guess_by_the_nuclei(guess, level):
    molecule, positions = system("H2O", guess=guess, grid_level=0, **level)
    shape = (1, molecule.nao, molecule.nao)
    cotangent = torch.tensor(np.random.default_rng(6).standard_normal(shape))

    def value(x):
        return (prepare(molecule, x).guess_fock * cotangent).sum()

    start = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(start), start)
    assert_gradient(value, gradient, positions, rtol=1e-6, step=5e-4, directions=1)


@pytest.mark.parametrize("number", [1, 2, 6, 9, 14, 17, 22, 26, 35, 36])
def test_minimal_basis_holds_the_electrons(number):
    basis = minimal_basis(number)
    assert basis.occupations.sum() == pytest.approx(number, abs=1e-12)
    assert basis.occupations.max() <= 2.0
    assert sum(2 * shell[0] + 1 for shell in basis.shells) <= len(basis.occupations)


@pytest.mark.parametrize(
    ("table", "number", "other"), [(minimal_basis, 118, "sap"), (atomic_potential, 0, "minao")]
)
def test_an_element_beyond_the_tables_is_refused(table, number, other):
    with pytest.raises(BadInput, match=f"use guess '{other}'"):
        table(number)
