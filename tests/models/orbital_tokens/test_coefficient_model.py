"""The coefficient family: size, options, symmetries it has and has not."""

from dataclasses import replace

import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.orbital_tokens.coefficient_model import CoefficientConfig, CoefficientModel
from tests.tools.molecules import prepared
from tests.tools.small_models import orbital_model

ELEMENTS = (1, 6, 8)


def model_of(**config):
    return orbital_model("coefficient", ELEMENTS, **config)


def geometry_of(model, name="H2CO"):
    level = {"xc": "PBE", "basis": "sto-3g", "grid_level": 0}
    return prepared(name, guess=model.guess, **level)


@torch.no_grad()
def energy_of(model, geometry):
    return float(kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total[0])


def test_the_default_has_as_many_weights_as_the_published_model():
    level = LevelOfTheory(xc="PBE", basis="6-31g")
    model = CoefficientModel(level, ELEMENTS, CoefficientConfig())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(8.4e6, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_density": "sap"}, "start_density is 'sap': use minao or basis_order or core"),
        ({"occupied": "last"}, "occupied is 'last': use first or dominant"),
        ({"heads": 0}, "heads is 0"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadInput) as caught:
        CoefficientConfig(**options)
    assert message in str(caught.value)


@torch.no_grad()
@pytest.mark.parametrize("start", ["minao", "core", "basis_order"])
def test_start_densities_hold_the_electrons(start):
    model = model_of(start_density=start)
    geometry = geometry_of(model)
    density_matrix = model.start_density(geometry)
    overlap = geometry.integrals.overlap
    electrons = float((density_matrix * overlap).sum())
    if start == "minao":  # what the atoms' orbitals have outside the basis is lost
        assert electrons == pytest.approx(geometry.molecule.nelectron, rel=0.02)
    else:
        assert electrons == pytest.approx(geometry.molecule.nelectron, abs=1e-9)
        idempotent = density_matrix @ overlap @ density_matrix
        torch.testing.assert_close(idempotent, 2.0 * density_matrix, rtol=0, atol=1e-9)


@torch.no_grad()
def test_the_start_density_matters():
    energies = set()
    for start in ("minao", "core", "basis_order"):
        model = model_of(start_density=start)
        energies.add(round(energy_of(model, geometry_of(model)), 6))
    assert len(energies) == 3


@torch.no_grad()
def test_a_new_model_of_full_size_is_well_conditioned():
    torch.manual_seed(0)
    model = CoefficientModel(
        LevelOfTheory(xc="PBE", basis="6-31g"), ELEMENTS, CoefficientConfig()
    ).double()
    geometry = prepared("CH3CH2OH", guess="minao", xc="PBE", basis="6-31g", grid_level=0)
    made = []
    model.head.register_forward_hook(lambda _module, _inputs, output: made.append(output))
    model([geometry])
    assert len(made) == 6
    assert float(torch.linalg.cond(made[-1][..., : geometry.molecule.nocc]).max()) < 3e3


def permuted(geometry, order):
    numbers = tuple(geometry.molecule.numbers[i] for i in order)
    molecule = replace(geometry.molecule, numbers=numbers)
    return prepare(molecule, geometry.positions[:, order])


@pytest.mark.parametrize("start", ["minao", "core"])
def test_dominant_orbitals_do_not_depend_on_the_order_of_atoms(start):
    model = model_of(occupied="dominant", start_density=start)
    geometry = geometry_of(model)
    energy = energy_of(model, permuted(geometry, [2, 0, 3, 1]))
    assert energy == pytest.approx(energy_of(model, geometry), abs=1e-8)


def test_first_columns_do_as_documented():
    model = model_of(occupied="first")
    geometry = geometry_of(model)
    difference = energy_of(model, permuted(geometry, [2, 0, 3, 1])) - energy_of(model, geometry)
    assert abs(difference) > 1e-3


def test_moving_everything_changes_nothing():
    model = model_of()
    geometry = geometry_of(model)
    moved = prepare(geometry.molecule, geometry.positions + 5.0)
    assert energy_of(model, moved) == pytest.approx(energy_of(model, geometry), abs=1e-8)


@torch.no_grad()
def test_turning_changes_the_energy_and_a_frame_is_the_turned_molecule():
    """What is drawn in training is exactly the molecule with its nuclei turned."""
    model = model_of(frame="random")
    geometry = geometry_of(model)
    state = model([geometry])[0]
    rotation = model.tokens._frame(geometry).rotations[0]
    model.tokens.ndrawn.zero_()
    again = model([geometry])[0]
    torch.testing.assert_close(again.density_matrix, state.density_matrix, rtol=0, atol=0)
    model.tokens.ndrawn.fill_(1)
    seen = model([geometry])[0]
    model.eval()
    turned = prepare(geometry.molecule, geometry.positions @ rotation.T)
    own = model([turned])[0]
    for name in ("overlap", "core_hamiltonian"):
        here, there = getattr(geometry.integrals, name), getattr(turned.integrals, name)
        assert float((seen.density_matrix * here).sum()) == pytest.approx(
            float((own.density_matrix * there).sum()), abs=1e-8
        )
    assert abs(energy_of(model, turned) - energy_of(model, geometry)) > 1e-3


def test_a_single_atom_has_a_state():
    model = orbital_model("coefficient", (2,), level={"basis": "6-31g"})
    molecule = Molecule(numbers=(2,), level=model.level, guess=model.guess)
    geometry = prepare(molecule, torch.zeros(1, 1, 3, dtype=torch.float64))
    lowest = reference_scf(molecule, geometry.positions[0].numpy()).energy
    # between both of the two orbitals, which are all there are
    assert lowest <= energy_of(model, geometry) < lowest + 10.0
