"""The QPT family: iterations after a transformer, differentiated through."""

import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.reference_scf import reference_scf
from ase_srdft.models.model_file import build_model
from ase_srdft.models.orbital_tokens.qpt_model import QptConfig
from tests.tools.molecules import assert_gradient, prepared
from tests.tools.small_models import ORBITAL_NETWORK, orbital_model

LEVEL = {"xc": "PBE", "basis": "sto-3g", "grid_level": 0}


def model_of(**config):
    return orbital_model("qpt", (1, 6, 8), **config)


def geometry_of(model, name="H2CO", **level):
    return prepared(name, guess=model.guess, **(LEVEL | level))


def energy_of(model, geometry):
    return kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations is -1: use at least 0"),
        ({"mixing": 0.0}, "mixing is 0.0: use a number above 0"),
        ({"mixing": 1.5}, "mixing is 1.5"),
        ({"mixed": "potential"}, "mixed is 'potential': use fock or density"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadInput) as caught:
        QptConfig(**options)
    assert message in str(caught.value)


@torch.no_grad()
def test_a_new_model_without_iterations_is_its_guess():
    level = orbital_model("qpt").level
    model = build_model("qpt", level, (1, 6, 8), ORBITAL_NETWORK | {"iterations": 0}).double()
    geometry = geometry_of(model)
    guess = geometry.orthogonal(geometry.guess_fock)
    projector, levels, _ = occupied_projector(guess, geometry.molecule.nocc)
    (state,) = model([geometry])
    torch.testing.assert_close(
        state.density_matrix, geometry.density_matrix(projector), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(state.mo_energy, levels, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("mixed", ["fock", "density"])
def test_iterations_lead_to_self_consistency(mixed):
    """From wherever the transformer leaves off; more of them, nearer."""
    errors = []
    for iterations in (0, 4, 40):
        model = model_of(iterations=iterations, mixed=mixed)
        geometry = geometry_of(model, "H2O")
        reference = reference_scf(geometry.molecule, geometry.positions[0].numpy())
        errors.append(float(energy_of(model, geometry)) - reference.energy)
    assert errors[0] > 1e-2
    assert errors[1] < 0.1 * errors[0]
    assert abs(errors[2]) < 1e-7


@torch.no_grad()
def test_orbital_energies_are_those_of_the_last_hamiltonian():
    model = model_of(iterations=60)
    geometry = geometry_of(model, "H2O")
    (state,) = model([geometry])
    fock = kohn_sham(geometry, state.density_matrix)[1]
    diagonal = state.mo_coeff.mT @ fock @ state.mo_coeff
    torch.testing.assert_close(diagonal, torch.diag_embed(state.mo_energy), rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_order_of_atoms_and_their_place_change_nothing():
    model = model_of()
    geometry = geometry_of(model)
    order = [2, 0, 3, 1]
    numbers = tuple(geometry.molecule.numbers[i] for i in order)
    molecule = type(geometry.molecule)(numbers=numbers, level=model.level, guess=model.guess)
    energy = float(energy_of(model, geometry))
    other = prepare(molecule, geometry.positions[:, order] + 5.0)
    assert float(energy_of(model, other)) == pytest.approx(energy, abs=1e-8)
    without = model_of(iterations=0)
    assert float(energy_of(without, geometry)) > energy + 1e-3


@pytest.mark.parametrize("xc", ["LDA", "PBE", "B3LYP"])
@pytest.mark.parametrize("mixed", ["fock", "density"])
def test_the_slope_by_the_weights_goes_through_every_iteration(xc, mixed):
    model = model_of(mixed=mixed, level={"xc": xc})
    geometry = geometry_of(model, "H2O", xc=xc)
    weight = model.head.key.weight
    (gradient,) = torch.autograd.grad(energy_of(model, geometry).sum(), weight)
    start = weight.detach().clone()

    @torch.no_grad()
    def value(x):
        weight.copy_(x)
        return energy_of(model, geometry)

    assert_gradient(value, gradient, start, rtol=1e-6, step=1e-3)
