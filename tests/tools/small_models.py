"""Small models with random weights, quick to evaluate, for the tests above ``models``."""

import torch
from ase.build import molecule

from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import build_model

LEVEL = {"xc": "PBE", "basis": "sto-3g"}


def small_model(elements=(1, 8), seed=0, scale=0.02, **level):
    """A Fock model whose correction is not zero: some 0.03 Hartree from where it started."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        level = LevelOfTheory(**(LEVEL | level))
        model = build_model("fock", level, elements, {"features": 16, "layers": 2})
        for name, parameter in model.named_parameters():
            if "projection" in name:
                torch.nn.init.normal_(parameter, std=scale)
    return model


def potential_model(elements=(1, 8), seed=0, scale=0.05, level=None, **config):
    """A float64 model of a potential that is not zero, and tells exact exchange."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        level = LevelOfTheory(**(LEVEL | {"grid_level": 0} | (level or {})))
        settings = {"features": 16, "layers": 2, "nradial": 10} | config
        model = build_model("potential", level, elements, settings).double()
        for weights in (model.writing.weight, model.exchange):
            torch.nn.init.normal_(weights, std=scale)
    return model


ORBITAL_NETWORK = {
    "features": 16,
    "layers": 2,
    "orbital_layers": 2,
    "heads": 4,
    "mlp_features": 16,
    "nradial": 8,
}


def orbital_model(family, elements=(1, 8), seed=0, level=None, **config):
    """A small float64 model of a family with orbital tokens, whose every part does something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        level = LevelOfTheory(**(LEVEL | {"grid_level": 0} | (level or {})))
        model = build_model(family, level, elements, ORBITAL_NETWORK | config).double()
        if family == "qpt":
            torch.nn.init.normal_(model.head.key.weight, std=0.05)
        for layer in model.layers:
            torch.nn.init.normal_(layer.attention.bias_weights, std=0.2)
    return model


def water(shift=0.0):
    """Water, one hydrogen displaced (Angstrom)."""
    atoms = molecule("H2O")
    atoms.positions[1] += [0.0, 0.02 + shift, 0.01]
    return atoms
