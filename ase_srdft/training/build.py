"""What a training run is made of, built from its settings and its dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase_srdft.common.devices import torch_device
from ase_srdft.common.errors import BadInput
from ase_srdft.common.settings import from_plain
from ase_srdft.common.torch_state import seeded, undisturbed
from ase_srdft.models.electronic_state import ElectronicStateModel, family
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.shipped_models import model_path
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.sampling.workers.inline_pool import InlinePool
from ase_srdft.sampling.workers.lead_rank_pool import LeadRankPool
from ase_srdft.sampling.workers.process_pool import ProcessPool
from ase_srdft.sampling.workers.ray_pool import RayPool
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_pool import SamplerPool
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset, evenly_spaced
from ase_srdft.training.data.geometry_cache import GeometryCache
from ase_srdft.training.data.isomers import names_of
from ase_srdft.training.data.molecule_brackets import MoleculeBrackets
from ase_srdft.training.data.replay_buffer import ReplayBuffer
from ase_srdft.training.data.starts import notes_on
from ase_srdft.training.losses import loss_of
from ase_srdft.training.training_parts import TrainingParts
from ase_srdft.training.validation_set import ValidationSet, which_are_held_out
from ase_srdft.training.weight_updater import WeightUpdater

__all__ = ["build_parts", "initial_model", "new_pool"]

#: Share of the memory for what is trained on; the rest is for what is held out.
_TRAINED_SHARE, _HELD_OUT_SHARE = 0.8, 0.2


@undisturbed
def initial_model(config: TrainingConfig, dataset: Dataset) -> ElectronicStateModel:
    """A model for the elements of a dataset: that of ``start_from``, or a fresh one.

    The seed decides the weights that are new.

    Raises:
        BadInput: an unknown family, a configuration that it does not take, or a model to start
            from that cannot be used.
    """
    if config.start_from is not None:
        return _model_to_start_from(config, dataset)
    settings: Any = from_plain(family(config.model).Config, config.model_config, "model_config")
    with seeded(config.seed):
        return build_model(config.model, config.all_levels[0], dataset.elements, asdict(settings))


def _model_to_start_from(config: TrainingConfig, dataset: Dataset) -> ElectronicStateModel:
    assert config.start_from is not None
    model = load_model(model_path(Path(config.start_from).expanduser())).model
    if config.model != model.family:
        raise BadInput(
            f"start_from {config.start_from!r} is a model of the family {model.family!r}, and the "
            f"run is to train one of {config.model!r}: give --model {model.family} (from Python "
            f"model={model.family!r})"
        )
    wanted = config.model_config
    if model.level_free and wanted.get("guess", model.guess) != model.guess:
        model = _with_guess(model, wanted["guess"])
    if model.level_free:  # what it is asked at where nobody says: as of a fresh one
        model = model.at_level(config.all_levels[0])
    _check_settings(config, model)
    unknown = set(dataset.elements) - set(model.elements)
    if unknown:
        with seeded(config.seed):
            model = model.with_elements(tuple(unknown.union(model.elements)))
    return model


def _check_settings(config: TrainingConfig, model: ElectronicStateModel) -> None:
    """Refuse settings of the family that are not those of the model to start from.

    Raises:
        BadInput: naming them.
    """
    own = asdict(model.config)
    others = {n: value for n, value in config.model_config.items() if own.get(n) != value}
    if others:
        raise BadInput(
            f"start_from {config.start_from!r} has "
            f"{', '.join(f'{n}={own.get(n)!r}' for n in others)}, and model_config says "
            f"{', '.join(f'{n}={value!r}' for n, value in others.items())}: leave --model-config "
            "out (from Python model_config), its settings are those of the file"
        )


def _with_guess(model: ElectronicStateModel, guess: str) -> ElectronicStateModel:
    """The same weights, to go on from another guess.

    Raises:
        BadInput: no guess of the family's, or one that has other things to read.
    """
    settings = asdict(model.config) | {"guess": guess}
    other = build_model(model.family, model.level, model.elements, settings)
    try:
        other.load_state_dict(model.state_dict())
    except RuntimeError as err:
        raise BadInput(
            f"guess {guess!r} has other things to read than the {model.guess!r} that the weights "
            f"were trained with: use {model.guess!r}, or train a fresh model"
        ) from err
    return other.double()


def build_parts(
    config: TrainingConfig,
    dataset: Dataset,
    model: ElectronicStateModel | None,
    ranks: Ranks | None,
) -> TrainingParts:
    """Everything that a run works on; for the arguments and errors see `Trainer`."""
    ranks = ranks or Ranks.single()
    ranks.check_batch_size(config.optimiser.batch_size)
    if not config.self_refine and not dataset.frames:
        raise BadInput("nothing to train on: give frames, or let the run sample (self_refine)")
    device = torch_device(ranks.device_name(config.device))
    model = model if model is not None else initial_model(config, dataset)
    levels = config.all_levels
    if len(levels) > 1 and not model.level_free:
        raise BadInput(
            f"models of the family {model.family!r} belong to one level of theory, and "
            f"{len(levels)} are given: use the family 'potential' (--model potential), or one run "
            "for each"
        )
    dataset = dataset.at_levels(len(levels))
    molecules = dataset.molecules(levels, model.guess, model.potential_basis)
    names = names_of(molecules)
    notes = notes_on(dataset, names, config)
    for molecule in dict.fromkeys(molecules):
        model.check_elements(molecule.numbers)
        model.check_level(molecule.level)
    for molecule in {(m.level, n): m for m in molecules for n in m.numbers}.values():
        _ = molecule.provider  # an unknown auxiliary basis shows here
    # the samplers' cores are ours until there is anything to sample with
    threads = ThreadMap(config.threads + config.sampler_cores)
    loss = loss_of(config, dataset)
    fine_tuning = config.start_from is not None
    model = model.to(device)
    updater = WeightUpdater(model, config.optimiser, threads, ranks, loss, fine_tuning)

    def new_cache(share: float, coarse: bool, nworking: int) -> GeometryCache:
        memory_bytes = int(share * config.memory_gb * 1e9)
        return GeometryCache(molecules, memory_bytes, coarse, device, threads, nworking)

    share_of_batch = -(-config.optimiser.batch_size // ranks.size)
    cache = new_cache(_TRAINED_SHARE, config.coarse_sampling, share_of_batch)
    # validation works between training steps, in the same room
    held_out = ValidationSet(new_cache(_HELD_OUT_SHARE, False, 0), ranks, dataset.labels)
    frames = _given_frames(config, dataset, cache, held_out)
    buffer = ReplayBuffer(
        cache,
        frames,
        config.frames_share,
        config.buffer_size,
        config.selection,
        MoleculeBrackets([molecule.nelectron for molecule in molecules]),
    )
    return TrainingParts(
        config=config,
        dataset=dataset,
        ranks=ranks,
        device=device,
        molecules=molecules,
        names=names,
        notes=notes,
        threads=threads,
        updater=updater,
        cache=cache,
        buffer=buffer,
        held_out=held_out,
    )


def new_pool(parts: TrainingParts) -> SamplerPool:
    """The samplers of the configured engine; of several ranks the lead has them.

    Raises:
        BadInput: a device that is not there.
    """
    if parts.ranks.size == 1:
        return _own_pool(parts)
    return LeadRankPool(parts.ranks, lambda: _own_pool(parts))


def _own_pool(parts: TrainingParts) -> SamplerPool:
    return _POOLS[parts.config.engine.name](parts)


def _in_this_process(parts: TrainingParts) -> SamplerPool:
    return InlinePool(parts.sampler_from)


def _in_processes(parts: TrainingParts) -> SamplerPool:
    settings = parts.config.engine
    for name in settings.sampler_devices:
        torch_device(name)
    return ProcessPool(settings, _blueprint(parts), parts.molecules, parts.device)


def _on_ray(parts: TrainingParts) -> SamplerPool:
    return RayPool(parts.config.engine, _blueprint(parts), parts.molecules, parts.device)


def _blueprint(parts: TrainingParts) -> SamplerBlueprint:
    return SamplerBlueprint.of(
        parts.updater.averaged,
        parts.molecules,
        parts.config.sampling,
        parts.config.coarse_sampling,
        parts.config.carried_bytes,
    )


#: The pool of each of ``ENGINES``.
_POOLS: dict[str, Callable[[TrainingParts], SamplerPool]] = {
    "sync": _in_this_process,
    "local": _in_processes,
    "ray": _on_ray,
}


def _given_frames(
    config: TrainingConfig, dataset: Dataset, cache: GeometryCache, held_out: ValidationSet
) -> list[int]:
    """Keys of the frames to train on; the last ones, of each molecule some, are held out."""
    frames = dataset.frames
    if len(frames) == 1:
        raise BadInput("a single frame: give at least two, one is held out, or none")
    held = which_are_held_out([m for m, _ in frames], config.validation_frames)
    held_out.add_frames(frames[index] for index in held)
    trained = sorted(set(range(len(frames))).difference(held))
    chosen = evenly_spaced(trained, config.data_fraction)
    return [cache.add(*frames[index]) for index in chosen]
