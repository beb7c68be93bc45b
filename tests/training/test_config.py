"""The one source of configuration: plain values and back, and what is refused."""

import json
import math

import pytest
import yaml

from ase_srdft.common.errors import BadInput
from ase_srdft.common.settings import from_plain
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.fock.fock_model import FockConfig
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.training.build import initial_model
from ase_srdft.training.config import (
    OptimiserConfig,
    SelectionConfig,
    TrainingConfig,
)
from tests.tools.small_training import small_config, small_dataset

UNUSUAL = TrainingConfig(
    level=LevelOfTheory(xc="B3LYP", basis="def2-svp", density_fitting=False, charge=-1),
    model_config={"features": 12, "guess": "sap"},
    sampling=SamplingConfig(temperature_K=300.0, dynamics="langevin", allow_reactions=True),
    optimiser=OptimiserConfig(batch_size=3, learning_rate=2e-3, average_decay=0.5),
    selection=SelectionConfig(exponent=1.5, uniform_share=0.25, clip=3.0),
    self_refine=False,
    loss="hamiltonian",
    data_fraction=0.5,
    frames_share=0.25,
    coarse_share=0.5,
    pretraining_steps=3,
    steps=7,
    minutes=1.5,
    target_error_uEh=20.0,
    seed=11,
)


@pytest.mark.parametrize("config", [TrainingConfig(), UNUSUAL])
@pytest.mark.parametrize(
    "through",
    [lambda plain: json.loads(json.dumps(plain)), lambda plain: yaml.safe_load(yaml.dump(plain))],
    ids=["json", "yaml"],
)
def test_round_trip(config, through):
    assert from_plain(TrainingConfig, through(config.to_plain())) == config


def test_what_is_not_given_keeps_its_default():
    config = from_plain(TrainingConfig, {"steps": 5, "sampling": {"walkers": 9}})
    assert config == TrainingConfig(steps=5, sampling=SamplingConfig(walkers=9))
    assert (config.steps, config.sampling.walkers) != (TrainingConfig().steps, 4)
    assert from_plain(TrainingConfig, {}) == TrainingConfig()


def test_whole_numbers_will_do_for_floats():
    config = from_plain(TrainingConfig, {"minutes": 3, "sampling": {"temperature_K": 300}})
    assert type(config.minutes) is float
    assert type(config.sampling.temperature_K) is float
    assert (config.minutes, config.sampling.temperature_K) == (3.0, 300.0)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([1], "the configuration is [1]: use name: value pairs"),
        ({"sampling": None}, "sampling is None: use name: value pairs"),
        ({"level": "PBE"}, "level is 'PBE': use name: value pairs"),
        ({"stepz": 5}, "unknown setting 'stepz': use one of level, levels, model, "),
        ({1: 5}, "unknown setting '1'"),
        ({"sampling": {"walker": 5}}, "unknown setting 'sampling.walker': use one of temp"),
        ({"steps": "ten"}, "steps is 'ten': use int"),
        ({"steps": 2.5}, "steps is 2.5: use int"),
        ({"steps": True}, "steps is True: use int"),
        ({"steps": None}, "steps is None: use int"),
        ({"minutes": "long"}, "minutes is 'long': use float or None"),
        ({"self_refine": 1}, "self_refine is 1: use bool"),
        ({"device": 0}, "device is 0: use str"),
        ({"model_config": [1]}, "model_config is [1]: use dict"),
        ({"level": {"density_fitting": 1}}, "level.density_fitting is 1: use bool or str"),
        ({"level": {"xc": "M06"}}, "unknown xc 'M06'"),
        ({"level": {"grid_level": 10}}, "grid level 10"),
        ({"selection": {"share": 0.5}}, "unknown setting 'selection.share': use one of exponent"),
        ({"optimiser": {"learning_rate": [1]}}, "optimiser.learning_rate is [1]: use float"),
    ],
)
def test_plain_values_refused(plain, message):
    with pytest.raises(BadInput) as caught:
        from_plain(TrainingConfig, plain)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "names", "values", "what"),
    [
        (
            SamplingConfig,
            ["temperature_K", "step_size", "timestep_fs", "friction_per_fs", "energy_spike"],
            [0.0, -1.0, math.nan, math.inf],
            "a positive number",
        ),
        (SamplingConfig, ["walkers", "steps_per_round"], [0, -3], "at least 1"),
        (SamplingConfig, ["step_size"], [2.0, 5.0], "less than 2"),
        (SamplingConfig, ["dynamics"], ["verlet", ""], "overdamped or metropolis or langevin"),
        (
            OptimiserConfig,
            ["learning_rate", "gradient_clip", "gradient_spike"],
            [0.0, -1.0, math.nan, math.inf],
            "a positive number",
        ),
        (OptimiserConfig, ["batch_size", "warmup_steps"], [0, -1], "at least 1"),
        (
            OptimiserConfig,
            ["final_learning_rate", "weight_decay"],
            [-1e-9, math.nan, math.inf],
            "at least 0",
        ),
        (
            OptimiserConfig,
            ["average_decay", "second_moment_decay"],
            [0.0, 1.0, -0.1, math.nan],
            "0 to 1",
        ),
        (OptimiserConfig, ["error_exponent"], [-0.1, 1.1, math.nan], "0 to 1"),
        (SelectionConfig, ["exponent"], [-0.5, math.nan, math.inf], "at least 0"),
        (SelectionConfig, ["clip"], [0.0, 0.9, math.nan, math.inf], "at least 1"),
        (SelectionConfig, ["uniform_share"], [0.0, -0.1, 1.1, math.nan], "above 0, and 1 at most"),
        (
            TrainingConfig,
            [
                "steps",
                "train_steps_per_round",
                "pretraining_frames",
                "buffer_size",
                "validation_frames",
                "validate_every",
                "threads",
            ],
            [0, -1],
            "at least 1",
        ),
        (
            TrainingConfig,
            ["minutes", "target_error_uEh", "memory_gb", "safe_width_mEh"],
            [0.0, -1.0, math.nan, math.inf],
            "a positive number",
        ),
        (TrainingConfig, ["frames_share"], [-0.1, 1.1, math.nan], "0 to 1"),
        (TrainingConfig, ["data_fraction"], [0.0, -0.1, 1.1, math.nan], "above 0, and 1 at most"),
        (TrainingConfig, ["coarse_share"], [-0.1, 1.1, math.nan], "0 to 1"),
        (TrainingConfig, ["pretraining_steps"], [-1], "at least 0"),
        (TrainingConfig, ["seed"], [-1, 2**63], "0 to 2^63 - 1"),
    ],
)
def test_impossible_values_refused(cls, names, values, what):
    for name in names:
        for value in values:
            with pytest.raises(BadInput) as caught:
                cls(**{name: value})
            assert str(caught.value).startswith(f"{name} is {value!r}: use ")
            assert what in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (TrainingConfig, {"seed": 2**63 - 1, "frames_share": 0.0, "steps": 1}),
        (TrainingConfig, {"frames_share": 1.0, "minutes": None, "target_error_uEh": None}),
        (OptimiserConfig, {"final_learning_rate": 0.0, "weight_decay": 0.0, "warmup_steps": 1}),
        (SamplingConfig, {"step_size": 1.99}),
        (SelectionConfig, {"exponent": 0.0, "uniform_share": 1.0, "clip": 1.0}),
    ],
)
def test_limits_themselves_are_allowed(cls, values):
    assert {name: getattr(cls(**values), name) for name in values} == values


def test_configuration_of_a_model_by_the_same_rules():
    assert from_plain(FockConfig, {"features": 4, "cutoff_bohr": 9}).cutoff_bohr == 9.0
    with pytest.raises(BadInput, match=r"model_config.features is 2.5: use int"):
        from_plain(FockConfig, {"features": 2.5}, "model_config")


def test_numbers_of_a_model_may_be_text_as_yaml_has_them():
    config = small_config(model_config={"features": "4", "cutoff_bohr": "1e1"})
    model = initial_model(config, small_dataset())
    assert (model.config.features, model.config.cutoff_bohr) == (4, 10.0)
    assert type(model.config.features) is int
    for value in ("many", "nan", 2.5):
        with pytest.raises(BadInput, match=r"model_config\.features is "):
            initial_model(small_config(model_config={"features": value}), small_dataset())
    with pytest.raises(BadInput, match=r"model_config\.cutoff_bohr is inf"):
        initial_model(small_config(model_config={"cutoff_bohr": float("inf")}), small_dataset())
