"""Never worse than no model: the lowest of three states, without a reference."""

import pytest
import torch

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import concatenate
from ase_srdft.models.lowest_state import lowest_state
from ase_srdft.models.single_point import molecule_of, single_point
from tests.tools.molecules import assert_gradient, system
from tests.tools.small_models import orbital_model, potential_model, small_model

WATER = system("H2O")[1]


def energy_of(model, geometry):
    return float(kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total)


@torch.no_grad()
@pytest.mark.parametrize(
    ("step", "path"), [(0.0, "model"), (0.05, "model"), (0.1, "damped"), (1.0, "guess")]
)
def test_the_path_tells_which_state_is_lowest(step, path):
    """The model is a step down the gradient of the energy from the guess, maybe too far."""
    model = potential_model((1, 8), scale=0.0)
    molecule = molecule_of(model, (8, 1, 1))
    geometry = prepare(molecule, WATER)
    with torch.enable_grad():
        weights = model.writing.weight.requires_grad_()
        energy = kohn_sham(geometry, model([geometry])[0].density_matrix)[0].total
        (gradient,) = torch.autograd.grad(energy.sum(), weights)
    weights.data -= step * gradient / gradient.norm()
    found = lowest_state(model, geometry)
    alone = energy_of(model, geometry)
    assert found.paths == (path,)
    if path == "model":
        assert float(found.energy) == alone
    else:
        assert float(found.energy) < alone - 1e-4
    guess = energy_of(potential_model((1, 8), scale=0.0), geometry)
    assert float(found.energy) <= guess + 1e-12


@pytest.mark.parametrize(
    "model",
    [
        potential_model((1, 8), scale=3.0),
        small_model((1, 8), scale=0.5).double(),
        orbital_model("coefficient"),
    ],
    ids=lambda model: model.family,
)
def test_forces_are_of_the_state_that_was_taken(model):
    molecule = molecule_of(model, (8, 1, 1))
    result = single_point(model, molecule, WATER)
    assert result.paths == ("guess",)

    @torch.no_grad()
    def value(x):
        return single_point(model, molecule, x, forces=False).energy

    assert_gradient(value, -result.forces, WATER, rtol=2e-6, step=5e-4, directions=1)


@torch.no_grad()
def test_each_geometry_of_a_batch_has_its_own_path():
    model = potential_model((1, 8), scale=0.0)
    molecule = molecule_of(model, (8, 1, 1))
    geometries = [prepare(molecule, stretch * WATER) for stretch in (1.0, 1.7)]
    torch.manual_seed(0)
    torch.nn.init.normal_(model.writing.weight, std=0.08)
    alone = [lowest_state(model, each) for each in geometries]
    together = lowest_state(model, concatenate(geometries))
    assert together.paths == tuple(each.paths[0] for each in alone)
    for i, each in enumerate(alone):
        torch.testing.assert_close(together.energy[i], each.energy[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(
            together.state.density_matrix[i], each.state.density_matrix[0], rtol=0, atol=1e-9
        )
