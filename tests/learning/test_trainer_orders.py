"""What a trainer process is given: the same after JSON, and wrong values are refused."""

import json

import pytest

from ase_srdft.common.errors import BadInput
from ase_srdft.learning.trainer_orders import TrainerOrders
from ase_srdft.models.single_point import molecule_of
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.training.build import initial_model
from tests.tools.small_training import small_config, small_dataset


def orders():
    config, dataset = small_config(), small_dataset()
    model = initial_model(config, dataset)
    molecules = [molecule_of(model, numbers) for numbers in dataset.compositions]
    blueprint = SamplerBlueprint.of(
        model, molecules, config.sampling, coarse_grid=True, carried_bytes=10**8
    )
    return TrainerOrders(config=config, blueprint=blueprint, step=7, train_steps=3, pretrains=False)


def test_orders_are_the_same_after_json():
    plain = json.loads(json.dumps(orders().to_plain()))
    assert (plain["step"], plain["train_steps"]) == (7, 3)
    again = TrainerOrders.from_plain(plain)
    assert again == orders()
    assert not again.pretrains
    assert isinstance(again.blueprint.elements, tuple)
    assert [numbers for numbers, _ in again.blueprint.molecules] == [(8, 1, 1)]


def test_what_is_wrong_is_refused():
    plain = orders().to_plain()
    with pytest.raises(BadInput, match="unknown setting 'speed'"):
        TrainerOrders.from_plain(plain | {"config": {"speed": 1}})
    del plain["step"]
    with pytest.raises(KeyError, match="step"):
        TrainerOrders.from_plain(plain)
