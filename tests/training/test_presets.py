"""Settings by name: what the paper's say, and what is laid over them."""

import pytest

from ase_srdft.common.errors import BadInput
from ase_srdft.common.settings import from_plain
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.presets import PRESETS, overlaid, preset


def test_the_papers_schedule():
    config = from_plain(TrainingConfig, preset("paper"))
    optimiser = config.optimiser
    assert (optimiser.batch_size, config.steps, config.pretraining_steps) == (8, 200_000, 10_000)
    assert (optimiser.learning_rate, optimiser.final_learning_rate) == (3e-4, 1e-6)
    assert (optimiser.weight_decay, config.buffer_size) == (1e-6, 2048)
    assert config.sampling.temperature_K == 500.0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_configuration_and_is_nobodys_to_change(name):
    first = preset(name)
    assert from_plain(TrainingConfig, first) != TrainingConfig()
    first["steps"] = first["optimiser"]["batch_size"] = 1
    assert preset(name)["steps"] != 1
    assert preset(name)["optimiser"]["batch_size"] != 1


def test_what_lies_above_wins_value_by_value():
    below = {"steps": 5, "optimiser": {"batch_size": 8, "learning_rate": 0.1}, "model": "qpt"}
    above = {"optimiser": {"learning_rate": 0.2}, "model": "fock", "seed": 3}
    expected = {
        "steps": 5,
        "optimiser": {"batch_size": 8, "learning_rate": 0.2},
        "model": "fock",
        "seed": 3,
    }
    assert overlaid(below, above) == expected
    assert below["optimiser"]["learning_rate"] == 0.1


def test_an_unknown_name():
    with pytest.raises(BadInput, match="unknown preset 'mine': use one of paper"):
        preset("mine")
