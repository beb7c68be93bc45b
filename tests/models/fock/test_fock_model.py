"""The Fock family: symmetries, orthonormality, batches, forces."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.common.units import EV_PER_ANGSTROM_PER_ATOMIC_FORCE
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import concatenate
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.reference_scf import mean_field
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.fock.fock_model import FockConfig, FockModel
from tests.tools.molecules import orbital_rotation, rotation_matrix, slope, system

ELEMENTS = (1, 6, 8)
SMALL = FockConfig(features=8, layers=2, nradial=10, guess="sap")
BASES = ["6-31g", "def2-svp", "def2-tzvp"]


def model_of(basis="6-31g", *, scale=0.05, fitting=True, elements=ELEMENTS, **config):
    """A float64 model; with scale 0 as it is born, else with random projections."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        level = LevelOfTheory(basis=basis, grid_level=0, density_fitting=fitting)
        model = FockModel(level, elements, replace(SMALL, **config)).double()
        if scale:
            for projection in projections(model):
                torch.nn.init.normal_(projection, std=scale)
    return model


def projections(model):
    return [p for name, p in model.named_parameters() if "projection" in name]


@pytest.fixture(scope="module", params=BASES)
def model(request):
    return model_of(request.param)


def geometry_of(model, name, stretch=0.1):
    level = {"basis": model.level.basis, "grid_level": 0, "guess": model.guess}
    return prepare(*system(name, stretch=stretch, **level))


def correction_of(model, *geometries):
    return [correction.detach() for correction in model.correction(geometries)]


def energy_of(model, geometry):
    return kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total


def energy_at(model, molecule, positions):
    return energy_of(model, prepare(molecule, positions))


def assert_close(actual, expected, atol):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


# what it starts from


def test_a_new_model_corrects_nothing():
    model = model_of(scale=0.0)
    geometry = geometry_of(model, "H2CO")
    (correction,) = correction_of(model, geometry)
    assert correction.shape == geometry.guess_fock.shape
    assert not correction.any()
    orthogonal = geometry.orthogonal(geometry.guess_fock)
    guess, levels, _ = occupied_projector(orthogonal, geometry.molecule.nocc)
    (state,) = model([geometry])
    assert_close(state.density_matrix.detach(), geometry.density_matrix(guess), 1e-12)
    assert_close(state.mo_energy, levels, 1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", ["H2O", pytest.param("CH3CH2OH", marks=pytest.mark.slow)])
def test_a_new_model_in_triple_zeta_is_pyscfs_step_from_the_guess(name):
    model = model_of("def2-tzvp", scale=0.0, guess="roothaan")
    geometry = geometry_of(model, name)
    scf = mean_field(geometry.molecule, geometry.positions[0].numpy())
    levels, orbitals = scf.eig(geometry.guess_fock[0].numpy(), scf.get_ovlp())
    density_matrix = scf.make_rdm1(orbitals, scf.get_occ(levels, orbitals))
    expected = scf.energy_tot(np.asarray(density_matrix))
    assert energy_of(model, geometry).item() == pytest.approx(expected, abs=1e-9)


def test_a_new_model_can_learn():
    model = model_of(scale=0.0)
    energy_of(model, geometry_of(model, "H2O")).sum().backward()
    slopes = [p.grad.abs().max().item() for p in projections(model) if p.grad is not None]
    assert max(slopes) > 1e-4
    assert len(slopes) < len(projections(model))  # water has no carbon


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correction_basis": "plane waves"}, "correction_basis is 'plane waves': use orthonormal"),
        ({"features": 0}, "features is 0"),
        ({"layers": -1}, "layers is -1"),
        ({"cutoff_bohr": 0.0}, "cutoff_bohr is 0.0"),
        ({"nradial": 0}, "nradial is 0"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadInput) as caught:
        FockConfig(**options)
    assert message in str(caught.value)


def test_an_unknown_element_is_refused(model):
    model.check_elements((8, 1, 1))
    with pytest.raises(BadInput, match="does not know N, Cl: it knows H, C, O"):
        model.check_elements((17, 1, 6, 7))


# what it returns


@pytest.mark.parametrize("name", ["H2O", "H2CO"])
def test_the_correction_is_symmetric_and_not_small(model, name):
    geometry = geometry_of(model, name)
    (correction,) = correction_of(model, geometry)
    assert_close(correction, correction.transpose(-1, -2), 1e-15)
    for rows in geometry.molecule.basis.atom_slices:
        for columns in geometry.molecule.basis.atom_slices:
            assert float(correction[0, rows, columns].abs().max()) > 1e-4


def test_orbitals_are_orthonormal_and_make_up_the_density(model):
    geometry = geometry_of(model, "H2CO")
    (state,) = model([geometry])
    overlap, nocc = geometry.integrals.overlap, geometry.molecule.nocc
    identity = torch.eye(geometry.molecule.nao, dtype=torch.float64)[None]
    assert_close(state.mo_coeff.transpose(-1, -2) @ overlap @ state.mo_coeff, identity, 1e-10)
    occupied = state.mo_coeff[..., :nocc]
    density_matrix = state.density_matrix.detach()
    assert_close(density_matrix, 2.0 * occupied @ occupied.transpose(-1, -2), 1e-10)
    electrons = float((density_matrix * overlap).sum())
    assert electrons == pytest.approx(geometry.molecule.nelectron, abs=1e-10)
    assert bool((state.mo_energy.diff() >= 0).all())
    assert not state.mo_coeff.requires_grad
    assert not state.mo_energy.requires_grad
    assert state.density_matrix.requires_grad


@pytest.mark.parametrize("correction_basis", ["orthonormal", "atomic"])
def test_orbitals_diagonalise_the_corrected_guess(correction_basis):
    model = model_of(correction_basis=correction_basis, scale=0.01)
    geometry = geometry_of(model, "H2CO")
    (correction,) = correction_of(model, geometry)
    inverse = torch.linalg.inv(geometry.orthogonaliser)
    if correction_basis == "orthonormal":
        correction = inverse @ correction @ inverse
    (state,) = model([geometry])
    fock = geometry.guess_fock + correction
    matrix = state.mo_coeff.transpose(-1, -2) @ fock @ state.mo_coeff
    assert_close(matrix, torch.diag_embed(state.mo_energy), 1e-9)


# symmetries


@pytest.mark.parametrize("correction_basis", ["orthonormal", "atomic"])
def test_the_hamiltonian_has_the_models_orbitals(correction_basis):
    model = model_of(correction_basis=correction_basis)
    geometry = geometry_of(model, "H2CO")
    (hamiltonian,) = model.hamiltonian([geometry])
    assert model.predicts_hamiltonian
    assert float((hamiltonian - geometry.guess_fock).detach().abs().max()) > 0.1
    assert_close(hamiltonian, hamiltonian.transpose(-1, -2), 1e-12)
    (state,) = model([geometry])
    orbitals = state.mo_coeff.transpose(-1, -2) @ hamiltonian @ state.mo_coeff
    assert_close(orbitals.detach(), torch.diag_embed(state.mo_energy), 1e-10)


def test_a_family_without_a_hamiltonian_says_so():
    class Orbitals(ElectronicStateModel):
        family = "orbitals"

    model = Orbitals(LevelOfTheory(), ELEMENTS, None)
    assert not model.predicts_hamiltonian
    with pytest.raises(BadInput, match="the family 'orbitals' predicts no Hamiltonian: use one"):
        model.hamiltonian([])


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("name", ["H2CO", "CH3CH2OH"])
def test_the_correction_turns_with_the_molecule(model, name, improper):
    geometry = geometry_of(model, name)
    molecule, matrix = geometry.molecule, rotation_matrix(5, improper)
    turned = prepare(molecule, geometry.positions @ matrix.T)
    orbitals = orbital_rotation(molecule.level.basis, molecule.numbers, matrix)
    # the orbitals' rotation is right: the core Hamiltonian follows it
    core = orbitals @ geometry.integrals.core_hamiltonian @ orbitals.T
    assert_close(turned.integrals.core_hamiltonian, core, 1e-10)
    here, there = correction_of(model, geometry)[0], correction_of(model, turned)[0]
    assert float((here - there).abs().max()) > 1e-2
    assert_close(there, orbitals @ here @ orbitals.T, 1e-10)
    first, second = model([geometry])[0], model([turned])[0]
    assert_close(second.mo_energy, first.mo_energy, 1e-9)
    density_matrix = orbitals @ first.density_matrix.detach() @ orbitals.T
    assert_close(second.density_matrix.detach(), density_matrix, 1e-9)


@pytest.mark.parametrize("guess", ["roothaan", "minao", "sap"])
@pytest.mark.parametrize("name", ["H2CO", "CH3CH2OH"])
def test_the_correction_of_the_inverted_molecule(name, guess):
    model = model_of(guess=guess)
    geometry = geometry_of(model, name)
    molecule = geometry.molecule
    matrix = -torch.eye(3, dtype=torch.float64)
    inverted = prepare(molecule, -geometry.positions)
    orbitals = orbital_rotation(molecule.level.basis, molecule.numbers, matrix)
    here, there = correction_of(model, geometry)[0], correction_of(model, inverted)[0]
    assert float((here - there).abs().max()) > 1e-2
    assert_close(there, orbitals @ here @ orbitals.T, 1e-10)
    # the lattice of the grid is its own mirror image, so even the energy has no noise
    energies = [energy_of(model, g).item() for g in (geometry, inverted)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-9)


def test_the_order_of_atoms_changes_nothing(model):
    geometry = geometry_of(model, "H2CO")
    order = [2, 0, 3, 1]
    numbers = tuple(geometry.molecule.numbers[i] for i in order)
    molecule = Molecule(numbers=numbers, level=model.level, guess=model.guess)
    permuted = prepare(molecule, geometry.positions[:, order])
    slices = geometry.molecule.basis.atom_slices
    orbitals = torch.cat([torch.arange(slices[i].start, slices[i].stop) for i in order])
    here, there = correction_of(model, geometry)[0], correction_of(model, permuted)[0]
    assert_close(there, here[:, orbitals[:, None], orbitals], 1e-12)
    energies = [energy_of(model, g).item() for g in (geometry, permuted)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-9)


def test_moving_everything_changes_nothing(model):
    geometry = geometry_of(model, "H2CO")
    moved = prepare(geometry.molecule, geometry.positions + 5.0)
    here, there = correction_of(model, geometry)[0], correction_of(model, moved)[0]
    assert float(here.abs().max()) > 1e-2
    assert_close(there, here, 1e-12)
    energies = [energy_of(model, g).item() for g in (geometry, moved)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-9)


def test_two_far_molecules_do_not_know_of_each_other():
    """Beyond the cutoff, energies add; exact integrals, as fitted ones miss a charge of 1e-6."""
    model = model_of("sto-3g", fitting=False)
    (methane, first), (hydrogen, second) = (
        system(name, stretch=0.0, basis="sto-3g", grid_level=0, density_fitting=False)
        for name in ("CH4", "H2")
    )
    both = Molecule(numbers=methane.numbers + hydrogen.numbers, level=model.level, guess="sap")
    shift = torch.tensor([57.0, 0.0, 0.0], dtype=torch.float64)
    together = torch.cat([first, second + shift], 1)
    alone = [energy_at(model, m, x).item() for m, x in ((methane, first), (hydrogen, second))]
    assert energy_at(model, both, together).item() == pytest.approx(sum(alone), abs=1e-7)
    near = torch.cat([first, second + 0.1 * shift], 1)
    assert abs(energy_at(model, both, near).item() - sum(alone)) > 1e-4


def test_the_correction_is_smooth_to_zero_at_the_cutoff():
    # a guess reaches further
    model = model_of(cutoff_bohr=6.0, reads_guess=False)
    molecule, _ = system("H2", grid_level=0)
    rows, columns = molecule.basis.atom_slices
    distances = 6.0 * torch.tensor([0.5, 0.99, 0.999, 1.0, 1.1], dtype=torch.float64)
    positions = torch.zeros(5, 2, 3, dtype=torch.float64)
    positions[:, 1, 2] = distances
    (correction,) = correction_of(model, prepare(molecule, positions))
    far = correction[4]
    between = correction[:, rows, columns].abs().amax((1, 2))
    beside = (correction[:, rows, rows] - far[rows, rows]).abs().amax((1, 2))
    assert float(far[rows, rows].abs().max()) > 1e-4
    for part in (between, beside):
        assert float(part[0]) > 1e-4
        # as (1 - x^2)^3, or its square: a thousandth at a tenth of the distance to the cutoff
        assert 0.0 < float(part[2]) < 1.1e-3 * float(part[1])
        assert float(part[1]) < 1e-3 * float(part[0])
        assert float(part[3:].max()) < 1e-15  # zero but for the rounding of other batch rows


# batches


@torch.no_grad()
def test_different_molecules_in_one_batch_are_what_they_are_alone(model):
    water, methane, hydrogen = (geometry_of(model, name) for name in ("H2O", "CH4", "H2"))
    stretched = prepare(water.molecule, 1.1 * water.positions)
    batches = [concatenate([water, stretched]), methane, hydrogen]
    members = [water, stretched, methane, hydrogen]
    matrices = [matrix for state in model(batches) for matrix in state.density_matrix]
    corrections = [matrix for batch in model.correction(batches) for matrix in batch]
    for geometry, matrix, correction in zip(members, matrices, corrections, strict=True):
        assert float(correction.abs().max()) > 1e-2
        assert_close(correction, model.correction([geometry])[0][0], 1e-12)
        assert_close(matrix, model([geometry])[0].density_matrix[0], 1e-11)


@pytest.mark.parametrize("guess", ["roothaan", "minao", "sap"])
def test_a_single_atom_has_a_state_and_no_force(guess):
    model = model_of(elements=(2,), guess=guess)
    geometry = geometry_of(model, "He")
    assert float(correction_of(model, geometry)[0].abs().max()) > 1e-3
    start = geometry.positions.clone().requires_grad_()
    energy = energy_at(model, geometry.molecule, start)
    assert -3.0 < energy.item() < -2.5
    (gradient,) = torch.autograd.grad(energy.sum(), start)
    np.testing.assert_allclose(gradient, np.zeros((1, 1, 3)), atol=1e-9)


# forces


@pytest.mark.parametrize(
    ("name", "basis", "config"),
    [
        ("H2CO", "6-31g", {"guess": "roothaan"}),
        ("H2CO", "6-31g", {"guess": "minao"}),
        ("H2CO", "6-31g", {"guess": "sap"}),
        ("H2CO", "def2-svp", {"guess": "roothaan"}),
        ("H2O", "def2-tzvp", {"guess": "roothaan"}),
        pytest.param("CH3CH2OH", "def2-tzvp", {"guess": "roothaan"}, marks=pytest.mark.slow),
        (
            "H2CO",
            "6-31g",
            {"guess": "roothaan", "reads_guess": False, "correction_basis": "atomic"},
        ),
    ],
)
def test_forces_by_finite_differences_of_the_models_own_energy(name, basis, config):
    """Through overlap, guess and network: to 1e-5 eV/Angstrom."""
    model = model_of(basis, scale=0.02, **config)
    geometry = geometry_of(model, name)
    molecule, positions = geometry.molecule, geometry.positions
    start = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy_at(model, molecule, start).sum(), start)
    np.testing.assert_allclose(gradient.sum(1), np.zeros((1, 3)), atol=1e-8)
    rng = np.random.default_rng(8)
    for _ in range(3):
        direction = torch.tensor(rng.standard_normal(positions.shape))
        direction = direction / direction.norm()
        with torch.no_grad():
            expected = slope(lambda x: energy_at(model, molecule, x), positions, direction)
        ours = float((gradient * direction).sum())
        assert abs(expected) > 1e-3
        assert ours * EV_PER_ANGSTROM_PER_ATOMIC_FORCE == pytest.approx(
            expected * EV_PER_ANGSTROM_PER_ATOMIC_FORCE, abs=1e-5
        )


def test_weights_get_the_slope_of_the_energy():
    model = model_of(scale=0.02)
    geometry = geometry_of(model, "H2O")
    parameters = [p for p in model.parameters() if p.requires_grad]
    energy_of(model, geometry).sum().backward()
    rng = np.random.default_rng(9)
    directions = [torch.tensor(rng.standard_normal(tuple(p.shape))) for p in parameters]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    ours = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    start = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def energy(step):
        for parameter, value, direction in zip(parameters, start, directions, strict=True):
            parameter.copy_(value + step * direction)
        return energy_of(model, geometry)

    expected = slope(energy, 0.0, 1.0, step=1e-4)
    assert abs(expected) > 1e-3
    assert ours == pytest.approx(expected, rel=1e-6)


def test_single_precision_follows_double():
    model = model_of(scale=0.02)
    geometry = geometry_of(model, "H2CO")
    double = energy_of(model, geometry).item()
    single = energy_of(model.float(), geometry)
    assert single.dtype == torch.float64
    assert single.item() == pytest.approx(double, abs=1e-6)


def test_casting_to_single_precision_and_back_leaves_the_tables_exact():
    # only the weights may be rounded: with weights that single precision holds exactly, a model
    # cast down and up again gives the same correction to rounding
    torch.manual_seed(3)
    level = LevelOfTheory(basis="sto-3g")
    model = FockModel(level, (1, 8), FockConfig(features=8, layers=1))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    molecule = Molecule(numbers=(8, 1, 1), level=level, guess="roothaan")
    positions = torch.tensor([[[0.0, 0, 0.2], [0, 1.4, -0.9], [0, -1.5, -0.9]]]).double()
    geometry = prepare(molecule, positions)
    fresh = FockModel(level, (1, 8), FockConfig(features=8, layers=1)).double()
    fresh.load_state_dict(model.state_dict())
    expected = fresh.correction([geometry])[0]
    found = model.double().float().double().correction([geometry])[0]
    assert expected.abs().max() > 1e-3
    assert (found - expected).abs().max() < 1e-14


def test_a_single_radial_function_is_refused():
    with pytest.raises(BadInput, match="nradial is 1: use at least 2"):
        FockConfig(nradial=1)
