"""Small models with random weights, quick to evaluate, for the tests above ``models``."""

import torch
from ase.build import molecule

from ase_srdft.dft.level import LevelOfTheory
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


def water(shift=0.0):
    """Water, one hydrogen displaced (Angstrom)."""
    atoms = molecule("H2O")
    atoms.positions[1] += [0.0, 0.02 + shift, 0.01]
    return atoms
