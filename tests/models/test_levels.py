"""Weights that belong to no level of theory, asked at any; and weights that belong to one."""

import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.preparation import prepare
from ase_srdft.models.single_point import molecule_of, single_point
from tests.tools.molecules import system
from tests.tools.small_models import potential_model, small_model

WATER = system("H2O")[1]
LEVELS = [
    LevelOfTheory(xc="B3LYP", basis="6-31g*", grid_level=0),
    LevelOfTheory(xc="PBE0", basis="sto-3g", density_fitting=False, grid_level=0),
    LevelOfTheory(xc="LDA", basis="def2-tzvp", grid_level=0),
]


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_one_network_at_every_level(level):
    model = potential_model((1, 8), scale=0.0)
    there = model.at_level(level)
    molecule = molecule_of(there, (8, 1, 1))
    result = single_point(there, molecule, WATER, forces=False)
    assert molecule.level == level
    assert model.level != level
    assert there.default_level == model.level == model.default_level
    assert 0.0 < float(result.bracket.width) < 0.1
    assert all(a is b for a, b in zip(model.parameters(), there.parameters(), strict=True))


def test_a_charge_is_the_molecules():
    model = potential_model((1, 8), scale=0.0)
    ion = molecule_of(model, (8, 1), LevelOfTheory(basis="sto-3g", charge=-1))
    assert ion.nelectron == 10
    with pytest.raises(BadInput, match="open shell"):
        molecule_of(model, (8, 1))


def test_a_model_of_one_level_is_asked_on_any_grid_and_nowhere_else():
    model = small_model((1, 8)).double()
    own = model.level.to_dict()
    fine = model.at_level(LevelOfTheory(**own | {"grid_level": 3}))
    energies = [
        float(single_point(each, molecule_of(each, (8, 1, 1)), WATER, forces=False).energy)
        for each in (model, fine)
    ]
    assert energies[0] != energies[1]
    assert energies[0] == pytest.approx(energies[1], abs=5e-3)
    for change in ({"xc": "LDA"}, {"basis": "6-31g"}, {"density_fitting": False}, {"charge": 2}):
        with pytest.raises(BadInput, match="tied to functional"):
            model.at_level(LevelOfTheory(**own | change))


def test_weights_that_change_change_at_every_level():
    model = potential_model((1, 8), scale=0.0)
    there = model.at_level(LEVELS[1])
    molecule = molecule_of(there, (8, 1, 1))
    geometry = prepare(molecule, WATER)
    before = there([geometry])[0].density_matrix.detach()
    torch.nn.init.normal_(model.writing.weight, std=0.1)
    after = there([geometry])[0].density_matrix.detach()
    assert float((after - before).abs().max()) > 1e-3
