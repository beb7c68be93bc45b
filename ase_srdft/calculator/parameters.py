"""What a calculator is asked for, checked: parameters into a model, nuclei against it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase.calculators.calculator import CalculationFailed, InputError

from ase_srdft.calculator.model_card import trained_structure
from ase_srdft.calculator.trained_isomer import TrainedIsomer
from ase_srdft.common.errors import BadGeometry, BadInput
from ase_srdft.common.nuclei import Nuclei
from ase_srdft.common.torch_state import seeded
from ase_srdft.common.units import EV_PER_ANGSTROM_PER_ATOMIC_FORCE, EV_PER_HARTREE
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.certified_single_point import Promise
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.shipped_models import GENERAL_MODEL, UNTRAINED, model_path
from ase_srdft.training.config import FRESH_FAMILY

__all__ = [
    "LEARN",
    "ON_UNCERTAIN",
    "Choice",
    "as_ase_error",
    "at_requested_level",
    "check_nuclei",
    "choose_model",
    "fresh_model",
    "level_of",
    "memory_name",
    "own_copy",
    "plain_parameters",
    "promise_of",
    "successor",
]

#: A model, and the one molecule that it was trained on, as far as there are such.
Choice = tuple[ElectronicStateModel | None, TrainedIsomer | None]

#: What to do where a model's state is further from the SCF than it may be.
ON_UNCERTAIN = ("correct", "warn", "raise")
#: Where and whether a calculator learns; True is "beside".
LEARN = (False, True, "beside", "in_turn", "pause")
_LEVEL_PARAMETERS = ("xc", "basis", "density_fitting", "grid_level")
_IN_MEMORY = " model in memory>"
_AT_LEAST_ONE = "a whole number of at least 1"


@contextmanager
def as_ase_error() -> Iterator[None]:
    """Turn our errors for bad geometries and other bad input into ASE's, which say the same."""
    try:
        yield
    except BadGeometry as err:
        raise CalculationFailed(str(err)) from None
    except BadInput as err:
        raise InputError(str(err)) from None


def memory_name(model: ElectronicStateModel) -> str:
    """What stands for a model that no file holds, where its parameters are written down."""
    return f"<{model.family} {model.level.xc}/{model.level.basis}{_IN_MEMORY}"


def plain_parameters(parameters: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The parameters as JSON knows them.

    Raises:
        InputError: a name that is not known, a charge, a multiplicity or a number of threads
            that is no whole number, no threads, an open shell, or a promise that is none.
    """
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InputError(f"unknown parameter {unknown[0]!r}: use one of {', '.join(known)}")
    plain = dict(parameters)
    if "model" in plain:
        plain["model"] = _model_name(plain["model"])
    if "device" in plain:
        plain["device"] = str(plain["device"])
    _check_state(plain)
    _check_work(plain)
    _check_promise(plain)
    _check_learn(plain)
    return plain


def _model_name(model: ElectronicStateModel | str | Path | None) -> str:
    if isinstance(model, ElectronicStateModel):
        return memory_name(model)
    return GENERAL_MODEL if model is None else str(model)


def _check_state(plain: dict[str, Any]) -> None:
    for name in ("charge", "multiplicity"):
        if plain.get(name) is not None:
            plain[name] = _whole(
                name, plain[name], "a whole number, or None for what the atoms say"
            )
    if plain.get("multiplicity") not in (None, 1):
        raise InputError(
            f"multiplicity {plain['multiplicity']}: closed shells only, so use 1 or None"
        )


def _check_work(plain: dict[str, Any]) -> None:
    if "threads" in plain:
        plain["threads"] = _whole("threads", plain["threads"], _AT_LEAST_ONE)
        if plain["threads"] < 1:
            raise InputError(f"threads {plain['threads']}: use {_AT_LEAST_ONE}")


def _check_promise(plain: dict[str, Any]) -> None:
    for name in ("max_error", "max_force_error"):
        if name in plain and (plain[name] is not None or name == "max_force_error"):
            plain[name] = _positive(name, plain[name])
    if plain.get("on_uncertain", ON_UNCERTAIN[0]) not in ON_UNCERTAIN:
        raise InputError(
            f"on_uncertain {plain['on_uncertain']!r}: use one of {', '.join(ON_UNCERTAIN)}"
        )


def _check_learn(plain: dict[str, Any]) -> None:
    learn = plain.get("learn", False)
    if not isinstance(learn, bool | str) or learn not in LEARN:
        choices = ", ".join(map(repr, LEARN))
        raise InputError(f"learn {learn!r}: use one of {choices}")


def _positive(name: str, value: Any) -> float:
    try:
        if 0.0 < float(value) < float("inf"):
            return float(value)
    except (TypeError, ValueError):
        pass
    unless = ", or None for the model's state as it is" if name == "max_error" else ""
    raise InputError(f"{name} {value!r}: use a number above zero{unless}")


def _whole(name: str, value: Any, instead: str) -> int:
    try:
        if int(value) == value:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} {value!r}: use {instead}")


def choose_model(
    given: Mapping[str, Any],
    old: Mapping[str, Any],
    wanted: Mapping[str, Any],
    current: Choice,
) -> Choice:
    """The model to go on with; None for one that is made for the atoms to come.

    Args:
        given: parameters that change, as given.
        old: plain parameters before.
        wanted: plain parameters after.
        current: choice before.

    Raises:
        BadInput: no such model, or a damaged file.
    """
    if "model" in given:
        model = given["model"]
        if isinstance(model, ElectronicStateModel):
            return own_copy(model), None
        return (None, None) if model == UNTRAINED else _load_named_model(wanted["model"])
    names = (*_LEVEL_PARAMETERS, "charge")
    if wanted["model"] == UNTRAINED and any(wanted[name] != old[name] for name in names):
        return None, None
    return current


def _load_named_model(name: str) -> Choice:
    """A shipped model, or one from a file."""
    if name.startswith("<") and name.endswith(_IN_MEMORY):
        raise BadInput(
            f"{name} was an object of the process that wrote these parameters: save it there "
            "with ase_srdft.models.model_file.save_model and give the file's path"
        )
    path = model_path(Path(name).expanduser())
    loaded = load_model(path)
    structure = trained_structure(loaded)
    isomer = None if structure is None else TrainedIsomer(model=name, structure=structure)
    return own_copy(loaded.model), isomer


def promise_of(parameters: Mapping[str, Any]) -> Promise | None:
    """What answers are to keep, in atomic units; None for the model's state as it is."""
    if parameters["max_error"] is None:
        return None
    return Promise(
        error=parameters["max_error"] / EV_PER_HARTREE,
        force_error=parameters["max_force_error"] / EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
    )


def own_copy(model: ElectronicStateModel) -> ElectronicStateModel:
    """A copy to evaluate only: nobody's training changes it."""
    model = copy.deepcopy(model)
    model.zero_grad(set_to_none=True)
    return model.double().eval().requires_grad_(False)


def _requested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {k: parameters[k] for k in _LEVEL_PARAMETERS if parameters[k] is not None}


def level_of(parameters: Mapping[str, Any], model: ElectronicStateModel | None) -> LevelOfTheory:
    """The level of theory that answers are at."""
    return LevelOfTheory(**_requested(parameters)) if model is None else model.level


def at_requested_level(
    parameters: Mapping[str, Any], model: ElectronicStateModel | None
) -> ElectronicStateModel | None:
    """The model at the level of theory that is asked for; what is not named is its default's.

    Raises:
        BadInput: a level of theory that does not exist, or that the model does not know.
    """
    requested = _requested(parameters)
    if model is None:
        LevelOfTheory(**requested)
        return None
    charge, own = parameters["charge"], model.default_level
    wanted = replace(own, **requested)
    if model.level_free:
        return model.at_level(wanted)
    if replace(wanted, grid_level=own.grid_level) != own:
        named = {k: v for k, v in requested.items() if k != "grid_level"}
        raise BadInput(
            f"{', '.join(f'{k}={v!r}' for k, v in named.items())} is not the level of theory "
            f"of the model, {own}: leave these parameters out, or use another model"
        )
    if charge is not None and charge != own.charge:
        raise BadInput(_wrong_charge(f"charge={charge}", model))
    return model.at_level(wanted)


def successor(
    parameters: Mapping[str, Any],
    model: ElectronicStateModel,
    current: ElectronicStateModel | None,
) -> ElectronicStateModel:
    """A model that takes the place of the present one, at the level of theory asked for.

    Raises:
        BadInput: a level of theory that is not the present one's, or that it does not know.
    """
    if current is not None and not model.level_free and _but_grid(model) != _but_grid(current):
        raise BadInput(f"the new model is at {model.level}, the calculator at {current.level}")
    chosen = at_requested_level(parameters, model)
    assert chosen is not None
    return chosen


def _but_grid(model: ElectronicStateModel) -> LevelOfTheory:
    """Its level of theory, apart from the grid, which is free."""
    return replace(model.level, grid_level=0)


def _wrong_charge(what: str, model: ElectronicStateModel) -> str:
    return (
        f"{what}, but the model was trained for molecules of charge {model.level.charge} and "
        "knows no other: use a model trained at this charge, or set the charge"
        f" (charge={model.level.charge} or the atoms' initial charges) to the model's"
    )


def fresh_model(parameters: Mapping[str, Any], nuclei: Nuclei) -> ElectronicStateModel:
    """An untrained model for the elements of a molecule: its state is the guess's.

    It belongs to no level of theory, and that family learns fastest.

    The same every time: its random weights are drawn from a seed, and the global generator of
    random numbers is left as it was.

    Raises:
        BadInput: an unknown level of theory, an element that it does not cover, an open shell.
    """
    level = LevelOfTheory(**_requested(parameters), charge=nuclei.charge)
    Molecule(numbers=nuclei.numbers, level=level)
    elements = tuple(sorted(set(nuclei.numbers)))
    with seeded(0):
        return own_copy(build_model(FRESH_FAMILY, level, elements, {}))


def check_nuclei(nuclei: Nuclei, model: ElectronicStateModel, known: bool = True) -> None:
    """Refuse a molecule that a model cannot be asked about.

    Args:
        nuclei: the molecule.
        model: to be asked.
        known: whether it must know all elements.

    Raises:
        BadInput: a charge or an element the model does not know.
    """
    if known:
        model.check_elements(nuclei.numbers)
    if not model.level_free and nuclei.charge != model.level.charge:
        raise BadInput(_wrong_charge(f"the atoms have a total charge of {nuclei.charge}", model))
