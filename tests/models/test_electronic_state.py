"""What every family of models keeps: orthonormal orbitals, the variational bound, forces."""

import pytest
import torch

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import concatenate
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.electronic_state import FAMILIES, family
from ase_srdft.models.model_file import load_model, save_model
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.models.single_point_result import concatenate_single_points
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.config import OptimiserConfig
from ase_srdft.training.weight_updater import WeightUpdater
from tests.tools.molecules import assert_gradient, prepared, system
from tests.tools.small_models import orbital_model, potential_model, small_model

ELEMENTS = (1, 6, 8)


def model_of(name, level=None, **config):
    if name == "fock":
        return small_model(ELEMENTS, grid_level=0, **(level or {})).double()
    if name == "potential":
        return potential_model(ELEMENTS, level=level)
    return orbital_model(name, ELEMENTS, level=level, **config)


def geometry_of(model, name="H2O", seed=0):
    needs = {"guess": model.guess, "potential_basis": model.potential_basis}
    return prepared(name, seed=seed, **needs, **model.level.to_dict())


def test_every_family_is_found_by_its_name():
    assert [family(name).family for name in FAMILIES] == list(FAMILIES)


@torch.no_grad()
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    ("name", "basis"), [("H2O", "sto-3g"), ("CH3CH2OH", "6-31g"), ("H2O", "def2-tzvp")]
)
@pytest.mark.parametrize("kind", FAMILIES)
def test_orbitals_are_orthonormal_and_make_up_the_density(kind, name, basis, single):
    model = model_of(kind, {"basis": basis})
    model = model.float() if single else model
    geometry = geometry_of(model, name)
    (state,) = model([geometry])
    identity = torch.eye(geometry.molecule.nao, dtype=torch.float64)[None]
    products = state.mo_coeff.mT @ geometry.integrals.overlap @ state.mo_coeff
    torch.testing.assert_close(products, identity, rtol=0, atol=1e-10)
    occupied = state.mo_coeff[..., : geometry.molecule.nocc]
    expected = 2.0 * occupied @ occupied.mT
    torch.testing.assert_close(state.density_matrix, expected, rtol=0, atol=1e-10)
    assert state.density_matrix.dtype == torch.float64
    assert (state.mo_energy is None) == (kind == "coefficient")


@torch.no_grad()
@pytest.mark.parametrize("xc", ["PBE", "B3LYP"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_no_energy_is_below_the_self_consistent_one(kind, xc):
    model = model_of(kind, {"xc": xc})
    geometry = geometry_of(model)
    energy = kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total
    reference = reference_scf(geometry.molecule, geometry.positions[0].numpy())
    assert float(energy) > reference.energy + 1e-7


@torch.no_grad()
@pytest.mark.parametrize("kind", FAMILIES)
def test_different_molecules_in_one_batch_are_what_they_are_alone(kind):
    model = model_of(kind)
    water = [geometry_of(model, seed=seed) for seed in (0, 1)]
    methane = geometry_of(model, "CH4")
    states = model([concatenate(water), methane])
    found = [*states[0].density_matrix, *states[1].density_matrix]
    assert float((found[0] - found[1]).abs().max()) > 1e-3
    for matrix, geometry in zip(found, [*water, methane], strict=True):
        alone = model([geometry])[0].density_matrix[0]
        torch.testing.assert_close(matrix, alone, rtol=0, atol=1e-10)


FORCES = [
    ("coefficient", {"xc": "PBE"}, {}),
    ("coefficient", {"xc": "PBE", "basis": "def2-tzvp"}, {}),
    ("coefficient", {"xc": "LDA"}, {"start_density": "core", "occupied": "dominant"}),
    ("coefficient", {"xc": "B3LYP"}, {"start_density": "basis_order", "backbone": "painn"}),
    ("qpt", {"xc": "LDA"}, {}),
    ("qpt", {"xc": "PBE", "basis": "def2-tzvp"}, {}),
    ("qpt", {"xc": "PBE"}, {"mixed": "density", "guess": "sap"}),
    ("qpt", {"xc": "B3LYP"}, {"backbone": "painn"}),
]


@pytest.mark.parametrize(("kind", "level", "config"), FORCES)
def test_forces_by_finite_differences_of_the_models_own_energy(kind, level, config):
    model = model_of(kind, level, **config)
    molecule = molecule_of(model, (8, 1, 1))
    positions = system("H2O", basis="sto-3g")[1]

    def value(x):
        geometry = prepare(molecule, x)
        return kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total

    start = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(start).sum(), start)
    with torch.no_grad():
        assert_gradient(value, gradient, positions, rtol=1e-6, step=5e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_saved_model_gives_the_same_state(kind, tmp_path):
    config = {} if kind in ("fock", "potential") else {"frame": "random"}
    model = model_of(kind, **config).float()
    save_model(tmp_path / "m.srdft", model, {})
    loaded = load_model(tmp_path / "m.srdft").model
    assert (loaded.family, loaded.config) == (kind, model.config)
    geometry = geometry_of(model)
    expected = model.double().eval()([geometry])[0].density_matrix
    torch.testing.assert_close(loaded([geometry])[0].density_matrix, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", FAMILIES)
def test_pieces_of_an_evaluation_are_put_together(kind):
    model = model_of(kind)
    molecule = molecule_of(model, (8, 1, 1))
    parts = [single_point(model, molecule, system("H2O", seed=seed)[1]) for seed in (0, 1)]
    whole = concatenate_single_points(parts)
    assert torch.equal(whole.energy, torch.cat([part.energy for part in parts]))
    levels = whole.state.mo_energy
    assert (levels is None) == (kind == "coefficient")
    if levels is not None:
        assert torch.equal(levels[1:], parts[1].state.mo_energy)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("fock", {}),
        ("coefficient", {}),
        ("coefficient", {"frame": "random"}),
        ("qpt", {}),
        ("qpt", {"frame": "random"}),
    ],
)
def test_training_lowers_the_energy(kind, config):
    model = model_of(kind, {"xc": "LDA"}, **config)
    geometry = geometry_of(model)
    rate = 3e-3
    optimiser = OptimiserConfig(warmup_steps=1, learning_rate=rate, final_learning_rate=rate)
    updater = WeightUpdater(model, optimiser, ThreadMap())
    energies = [updater.update([geometry], 0.0).energy for _ in range(30)]
    if not config:  # in other axes it is another state
        assert energies[1] < energies[0] - 1e-6
    assert sum(energies[-3:]) / 3 < energies[0] - 1e-4
