"""The potential family: symmetries, levels of theory, batches, forces."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.fitted_density import potential_matrix
from ase_srdft.dft.kernels.library import using_torch
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import concatenate
from ase_srdft.models.potential.potential_model import PotentialConfig
from ase_srdft.models.single_point import molecule_of, single_point
from tests.tools.molecules import (
    assert_gradient,
    orbital_rotation,
    rotation_matrix,
    rotation_of_shells,
    system,
)
from tests.tools.small_models import potential_model

ELEMENTS = (1, 6, 8)
LEVELS = [{}, {"xc": "B3LYP"}, {"density_fitting": False}, {"basis": "def2-tzvp"}]


def model_of(level=None, **config):
    return potential_model(ELEMENTS, level={"basis": "6-31g"} | (level or {}), **config)


def geometry_of(model, name="H2CO", seed=0):
    needs = {"guess": model.guess, "potential_basis": model.potential_basis}
    return prepare(*system(name, seed=seed, **needs, **model.level.to_dict()))


def coefficients_of(model, geometry):
    return model.coefficients([geometry])[0].detach()


def own_energy(model, geometry):
    """Of the model's own state, whether another is lower or not."""
    return kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total


def energy_of(model, geometry):
    return own_energy(model, geometry).detach()


@torch.no_grad()
@pytest.mark.parametrize("level", LEVELS)
def test_it_begins_with_the_guess(level):
    model = model_of(level)
    geometry = geometry_of(model)
    (fock,) = model.hamiltonian([geometry])
    assert float((fock - geometry.guess_fock).abs().max()) > 1e-3
    torch.nn.init.zeros_(model.writing.weight)
    (fock,) = model.hamiltonian([geometry])
    torch.testing.assert_close(fock, geometry.guess_fock, rtol=0, atol=0)


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("level", LEVELS[:3])
def test_the_potential_turns_with_the_molecule(level, improper):
    model = model_of(level)
    geometry = geometry_of(model, "CH3CH2OH" if not level else "H2CO")
    molecule, matrix = geometry.molecule, rotation_matrix(5, improper)
    turned = prepare(molecule, geometry.positions @ matrix.T)
    functions = rotation_of_shells([s.angular for s in molecule.potential_shells], matrix)
    orbitals = orbital_rotation(molecule.level.basis, molecule.numbers, matrix)
    # the guess is made with a grid, which does not turn: put the turned one in its place
    assert float((turned.guess_changes - geometry.guess_changes @ functions.T).abs().max()) < 0.05
    turned = replace(
        turned,
        guess_changes=geometry.guess_changes @ functions.T,
        guess_fock=orbitals @ geometry.guess_fock @ orbitals.T,
    )
    here, there = coefficients_of(model, geometry), coefficients_of(model, turned)
    expected = here @ functions.T
    assert float((here - expected).abs().max()) > 1e-3
    torch.testing.assert_close(there, expected, rtol=0, atol=1e-10)
    first, second = (model([each])[0].density_matrix.detach() for each in (geometry, turned))
    torch.testing.assert_close(second, orbitals @ first @ orbitals.T, rtol=0, atol=1e-9)


def test_the_order_of_atoms_changes_nothing():
    model = model_of()
    geometry = geometry_of(model)
    order = [2, 0, 3, 1]
    old = geometry.molecule
    molecule = replace(old, numbers=tuple(old.numbers[i] for i in order))
    permuted = prepare(molecule, geometry.positions[:, order])
    energies = [float(energy_of(model, each)) for each in (geometry, permuted)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-9)


def test_two_far_molecules_do_not_know_of_each_other():
    """Messages end at the cutoff; what is read of a dipole ends as one over r squared."""
    model = model_of({"density_fitting": False, "basis": "sto-3g"})
    needs = {"guess": model.guess, "potential_basis": model.potential_basis}
    level = model.level.to_dict()
    parts = [system(name, stretch=0.0, **needs, **level) for name in ("H2O", "CH4")]
    (water, first), (methane, second) = parts
    both = replace(water, numbers=water.numbers + methane.numbers)
    shift = torch.tensor([6000.0, 0.0, 0.0], dtype=torch.float64)
    together = torch.cat([first, second + shift], 1)
    alone = [float(energy_of(model, prepare(*part))) for part in parts]
    assert float(energy_of(model, prepare(both, together))) == pytest.approx(sum(alone), abs=2e-6)
    near = torch.cat([first, second + 0.001 * shift], 1)
    assert abs(float(energy_of(model, prepare(both, near))) - sum(alone)) > 1e-4


@torch.no_grad()
def test_different_molecules_and_levels_in_one_batch_are_what_they_are_alone():
    model = model_of()
    water = [geometry_of(model, "H2O", seed=seed) for seed in (0, 1)]
    hybrid = geometry_of(model_of({"xc": "B3LYP", "basis": "sto-3g"}), "CH4")
    found = [u for batch in model.coefficients([concatenate(water), hybrid]) for u in batch]
    for u, geometry in zip(found, [*water, hybrid], strict=True):
        torch.testing.assert_close(u, model.coefficients([geometry])[0][0], rtol=0, atol=1e-12)
    assert float((found[0] - found[1]).abs().max()) > 1e-3


@torch.no_grad()
def test_it_is_told_the_fraction_of_exact_exchange():
    model = model_of({"xc": "PBE0"})
    geometry = geometry_of(model)
    told = coefficients_of(model, geometry)
    level = replace(geometry.molecule.level, xc="PBE", density_fitting="def2-universal-jkfit")
    other = replace(geometry, molecule=replace(geometry.molecule, level=level))
    assert float((coefficients_of(model, other) - told).abs().max()) > 1e-3
    torch.nn.init.zeros_(model.exchange)
    torch.testing.assert_close(coefficients_of(model, other), coefficients_of(model, geometry))


@pytest.mark.parametrize("single", [False, True])
def test_a_single_atom_has_a_state_and_no_force(single):
    model = potential_model((2,), level={"basis": "6-31g"})
    model = model.float() if single else model
    molecule, positions = system("He")
    own = molecule_of(model, molecule.numbers)
    result = single_point(model, own, positions)
    assert -3.0 < float(result.energy) < -2.5
    np.testing.assert_allclose(result.forces, np.zeros((1, 1, 3)), atol=1e-9)


FORCES = [
    ("H2CO", {}, "roothaan"),
    ("H2CO", {}, "minao"),
    ("H2O", {"xc": "B3LYP"}, "roothaan"),
    ("H2O", {"xc": "PBE0", "density_fitting": False}, "roothaan"),
    ("H2O", {"xc": "LDA", "basis": "def2-tzvp"}, "roothaan"),
]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("name", "level", "guess"), FORCES)
def test_forces_by_finite_differences_of_the_models_own_energy(name, level, guess, compiled):
    model = model_of(level, guess=guess)
    molecule = molecule_of(model, system(name)[0].numbers)
    positions = system(name)[1]

    def value(x):
        return own_energy(model, prepare(molecule, x))

    start = positions.clone().requires_grad_()
    with nullcontext() if compiled else using_torch():
        (gradient,) = torch.autograd.grad(value(start).sum(), start)
    with torch.no_grad():
        assert_gradient(value, gradient, positions, rtol=2e-6, step=5e-4, directions=1)


def test_hybrids_have_functions_for_the_potential_alone():
    pure, hybrid = (geometry_of(model_of(level), "H2O") for level in ({}, {"xc": "B3LYP"}))
    assert pure.integrals.potential_three_center is None
    own = hybrid.integrals.potential_three_center
    assert own is not None
    assert own.shape[-1] < pure.integrals.three_center.shape[-1]
    u = torch.zeros(1, own.shape[-1], dtype=torch.float64)
    u[0, 0] = 1.0
    matrix = potential_matrix(hybrid.integrals, u)[0]
    rows, columns = np.tril_indices(len(matrix))
    torch.testing.assert_close(matrix[rows, columns], own[0, :, 0])


def test_a_guess_without_densities_is_refused():
    with pytest.raises(BadInput, match="roothaan"):
        PotentialConfig(guess="sap")


def test_an_element_that_it_does_not_know_is_refused():
    model = model_of()
    with pytest.raises(BadInput):
        molecule_of(model, (7, 1, 1, 1))


def test_the_molecule_says_which_functions_there_are():
    level = model_of({"xc": "B3LYP"}).level
    molecule = Molecule(numbers=(8, 1, 1), level=level, potential_basis="def2-universal-jfit")
    assert max(shell.angular for shell in molecule.potential_shells) == 2
    shared = replace(molecule, level=replace(level, xc="PBE"))
    assert max(shell.angular for shell in shared.potential_shells) > 2
