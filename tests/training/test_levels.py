"""Several levels of theory in one run, and runs that go on from the weights of others."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from ase_srdft.common.errors import BadInput
from ase_srdft.models.model_file import save_model
from ase_srdft.training.build import initial_model
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.data.starts import molecules_at_a_time
from ase_srdft.training.events import ValidationCounters
from ase_srdft.training.trainer import Trainer
from ase_srdft.training.validation_set import which_are_held_out
from tests.tools.small_models import potential_model, small_model
from tests.tools.small_training import events_of, small_config

LEVELS = ("LDA/sto-3g", "PBE0/6-31g")
SMALL = {"model": "potential", "model_config": {"features": 8, "layers": 1}}


def config_of(**changes):
    return small_config(**(SMALL | {"levels": LEVELS, "steps": 3} | changes))


def without_model_config(**changes):
    return replace(config_of(**changes), model_config={})


def test_every_molecule_at_every_level():
    config = config_of(safe_width_mEh=1e-9, pretraining_frames=4, validation_frames=4)
    trainer = Trainer(config, Dataset.of([molecule("H2O"), molecule("H2")]))
    assert trainer.names == [
        f"{name} {level}" for name in ("H2O", "H2") for level in ("LDA/sto-3g", "PBE0/6-31g")
    ]
    trainer.begin()
    kinds = [trainer.cache.molecule_of(key) for key in trainer.buffer.samples]
    assert [kinds.count(m) for m in range(4)] == [4, 4, 4, 4]
    before = trainer.train(0.0).energy
    assert np.isfinite(before)
    validation = trainer.validator.validate()
    assert len(validation.widths_of_molecules) == 4
    assert np.isfinite(validation.widths_of_molecules).all()
    assert [each.level for each in validation.of_levels] == list(LEVELS)
    assert [each.ngeometries for each in validation.of_levels] == [2, 2]
    means = np.mean(np.reshape(validation.widths_of_molecules, (2, 2)), axis=0)
    assert [each.bracket_width for each in validation.of_levels] == pytest.approx(means)
    assert {name for name, _ in validation.worst} == set(trainer.names)


def test_dynamics_at_every_level():
    config = config_of(steps=8, safe_width_mEh=1e3, train_steps_per_round=4)
    trainer = Trainer(config, Dataset.of([molecule("H2O")]))
    trainer.begin()
    trainer.sampling.place_walkers()
    samples = [s for _ in range(2) for batch in trainer.sampling.turn() for s in batch.samples]
    assert {sample.molecule for sample in samples} == {0, 1}
    assert len({round(sample.energy, 1) for sample in samples}) == 2


def test_many_molecules_take_turns_and_share_out_over_samplers():
    names = ["H2O", "H2", "CH4", "NH3", "HF", "N2", "LiH", "CO", "HCN"]
    config = config_of(
        safe_width_mEh=1e3,
        pretraining_frames=1,
        validation_frames=2,
        sampling={"walkers": 3},
        engine={"name": "local", "samplers": 2},
    )
    trainer = Trainer(config, Dataset.of([molecule(name) for name in names]))
    assert trainer.notes == [
        "9 molecules at 2 levels of theory are given: dynamics goes from one to the next, 3 of "
        "them at a time (--walkers)"
    ]
    trainer.begin()
    trainer.sampling.place_walkers()
    states = trainer.sampling.checkpoints
    assert [state.arrays["start.together"].tolist() for state in states] == [[2], [1]]
    walkers = [[state.arrays[f"start.{m}.walkers"].tolist() for m in range(18)] for state in states]
    assert [len(a) + len(b) for a, b in zip(*walkers, strict=True)] == 18 * [1]


@pytest.mark.parametrize(
    ("nmolecules", "walkers", "together"),
    [(1, 4, None), (16, 4, None), (17, 4, 4), (17, 17, None), (17, 30, None), (3618, 8, 8)],
)
def test_how_many_molecules_move_at_a_time(nmolecules, walkers, together):
    assert molecules_at_a_time(nmolecules, walkers) == together


def test_what_belongs_to_a_level_is_refused_at_two():
    with pytest.raises(BadInput, match=r"family 'fock' belong to one level .* 2 are given"):
        Trainer(config_of(model="fock"), Dataset.of([molecule("H2O")]))


@pytest.mark.parametrize(
    ("levels", "message"),
    [(["PBE"], "functional/basis"), (["PBE/sto-3g", "pbe/STO-3G"], "each level once")],
)
def test_levels_that_are_none(levels, message):
    with pytest.raises(BadInput, match=message):
        config_of(levels=tuple(levels))


def test_of_many_molecules_some_are_held_out_and_all_have_copies():
    names = ["H2O", "H2", "CH4", "NH3", "HF", "N2"]
    config = config_of(levels=(), validation_frames=2, buffer_size=12, pretraining_frames=64)
    trainer = Trainer(config, Dataset.of([molecule(name) for name in names]))
    assert trainer.notes[-1] == (
        "buffer_size 12 has room for 2 of 64 copies (pretraining_frames) of each of 6 molecules"
    )
    trainer.begin()
    kinds = [trainer.cache.molecule_of(key) for key in trainer.buffer.samples]
    assert [kinds.count(m) for m in range(6)] == 6 * [2]
    assert len(trainer.held_out) == 2


def test_it_goes_on_from_the_weights_of_another(tmp_path):
    path = tmp_path / "start.srdft"
    start = potential_model((1, 8), level={"xc": "PBE"}, features=8, layers=1).float()
    save_model(path, start, {})
    config = without_model_config(start_from=str(path))
    dataset = Dataset.of([molecule("H2O"), molecule("CH4")])
    model = initial_model(config, dataset)
    assert (model.elements, model.config) == ((1, 6, 8), start.config)
    assert model.level == config.all_levels[0] != start.level  # asked at where nobody says
    old, new = start.state_dict(), model.float().state_dict()
    rows = [0, 2]
    torch.testing.assert_close(new["writing.weight"][:, rows], old["writing.weight"])
    torch.testing.assert_close(new["exchange"][rows], old["exchange"])
    assert float(new["writing.weight"][:, 1].abs().max()) == 0.0
    torch.testing.assert_close(
        new["backbone.net.embedding.weight"], old["backbone.net.embedding.weight"]
    )
    events = events_of(Trainer(config, dataset), "training")
    assert len(events) == 3


@pytest.mark.parametrize(("asked", "used"), [(None, 1e-2 / 8), (3e-3, 3e-3)])
def test_weights_to_start_from_want_a_smaller_learning_rate_than_fresh_ones(tmp_path, asked, used):
    path = tmp_path / "start.srdft"
    save_model(path, potential_model((1, 8), features=8, layers=1), {})
    config = without_model_config(start_from=str(path))
    config = replace(config, optimiser=replace(config.optimiser, learning_rate=asked))
    trainer = Trainer(config, Dataset.of([molecule("H2O")]))
    assert trainer.config.optimiser.learning_rate == pytest.approx(used, rel=1e-12)


def test_weights_go_on_from_another_guess_that_reads_as_much(tmp_path):
    path = tmp_path / "start.srdft"
    start = potential_model((1, 8), features=8, layers=1, guess="roothaan")
    save_model(path, start, {})
    dataset = Dataset.of([molecule("H2O")])
    config = replace(
        without_model_config(start_from=str(path)), model_config={"guess": "companion"}
    )
    model = initial_model(config, dataset)
    assert (model.guess, model.config.guess) == ("companion", "companion")
    for name, weights in start.float().state_dict().items():
        torch.testing.assert_close(model.float().state_dict()[name], weights)
    config = replace(config, model_config={"guess": "minao"})
    with pytest.raises(BadInput, match="'minao' has other things to read"):
        initial_model(config, dataset)


def test_weights_of_another_family_or_size_are_refused(tmp_path):
    path = tmp_path / "start.srdft"
    save_model(path, small_model((1, 8)), {})
    dataset = Dataset.of([molecule("H2O")])
    with pytest.raises(BadInput, match="give --model fock"):
        initial_model(config_of(start_from=str(path)), dataset)
    save_model(path, potential_model((1, 8)), {})
    with pytest.raises(BadInput, match=r"features=16.*leave --model-config out"):
        initial_model(config_of(start_from=str(path)), dataset)
    with pytest.raises(BadInput, match="no model"):
        initial_model(config_of(start_from=str(tmp_path / "none")), dataset)


def test_a_fock_model_does_not_learn_elements(tmp_path):
    path = tmp_path / "start.srdft"
    save_model(path, small_model((1, 8)), {})
    config = without_model_config(start_from=str(path), model="fock", levels=())
    with pytest.raises(BadInput, match="does not know C"):
        initial_model(config, Dataset.of([molecule("CH4")]))


def test_of_many_frames_of_many_molecules_no_more_than_half_are_held_out():
    assert len(which_are_held_out(range(5), 4)) == 2
    held = which_are_held_out([0, 0, 1, 1, 2, 2, 3, 3], 3)
    assert len(held) == 3
    assert set(held) < {1, 3, 5, 7}  # the last ones of their molecules


def test_the_level_is_the_first_of_several():
    config = config_of(level={"xc": "B3LYP", "basis": "def2-svp", "grid_level": 0})
    assert (config.level.xc, config.level.basis, config.level.grid_level) == ("LDA", "sto-3g", 0)
    assert config.level == config.all_levels[0]


def test_the_worst_of_all_is_known_where_it_is_a_target():
    """Not where some have nothing held out; then no target of the worst is reached."""
    data = Dataset.of([molecule("H2O"), molecule("H2")])
    trainer = Trainer(config_of(validation_frames=2, target_worst_error_uEh=1e9), data)
    trainer.begin()
    assert trainer.held_out.molecules == {0, 1, 2, 3}

    def has_validated(trainer):
        trainer.validator.counters = ValidationCounters(
            best_width=1e-5,
            worst_molecules=[0],
            worst_widths=[2e-5],
            validated_nsampled=trainer.held_out.nreplaceable,
        )
        return trainer.validator.worst_width, trainer.target_is_reached

    assert has_validated(trainer) == (2e-5, True)

    few = Trainer(config_of(validation_frames=2), data)
    few.begin()
    assert len(few.held_out.molecules) == 2
    trainer.held_out.keys = trainer.held_out.keys[:2]  # as a run begun without this target has
    assert has_validated(trainer) == (np.inf, False)
