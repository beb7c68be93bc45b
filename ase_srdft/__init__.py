"""A density-functional calculator for ASE that learns while it samples."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ase_srdft.calculator.ase_names import register_lazily
from ase_srdft.version import __version__

if TYPE_CHECKING:
    from ase_srdft.calculator.about import about
    from ase_srdft.calculator.model_card import ModelCard, model_card
    from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
    from ase_srdft.dft.level_of_theory import LevelOfTheory
    from ase_srdft.dynamics.certificate_logger import CertificateLogger
    from ase_srdft.dynamics.model_hessian_bfgs import ModelHessianBFGS
    from ase_srdft.dynamics.overdamped_langevin import OverdampedLangevin
    from ase_srdft.dynamics.self_refining_langevin import SelfRefiningLangevin
    from ase_srdft.models.shipped_models import list_models

_PUBLIC = {
    "CertificateLogger": "ase_srdft.dynamics.certificate_logger",
    "LevelOfTheory": "ase_srdft.dft.level_of_theory",
    "ModelCard": "ase_srdft.calculator.model_card",
    "ModelHessianBFGS": "ase_srdft.dynamics.model_hessian_bfgs",
    "OverdampedLangevin": "ase_srdft.dynamics.overdamped_langevin",
    "SRDFTCalculator": "ase_srdft.calculator.srdft_calculator",
    "SelfRefiningLangevin": "ase_srdft.dynamics.self_refining_langevin",
    "about": "ase_srdft.calculator.about",
    "list_models": "ase_srdft.models.shipped_models",
    "model_card": "ase_srdft.calculator.model_card",
}

__all__ = [
    "CertificateLogger",
    "LevelOfTheory",
    "ModelCard",
    "ModelHessianBFGS",
    "OverdampedLangevin",
    "SRDFTCalculator",
    "SelfRefiningLangevin",
    "__version__",
    "about",
    "list_models",
    "model_card",
]


register_lazily()


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that importing the package is fast."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
