"""Models that ship with the package, found by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ase_srdft.common.errors import BadInput

__all__ = [
    "GENERAL_MODEL",
    "UNTRAINED",
    "list_models",
    "model_path",
    "shipped_folder",
]

#: For any organic molecule at any level of theory: what is taken where no model is named.
GENERAL_MODEL = "organics"
#: The name of no model: one is made for the elements of the first atoms.
UNTRAINED = "untrained"
_SUFFIX = ".srdft"


def shipped_folder() -> Path:
    """Where their files are."""
    return Path(str(files("ase_srdft") / "shipped"))


def list_models() -> list[str]:
    """Names of the shipped models, sorted; what each is, `ase_srdft.model_card` tells."""
    return sorted(path.stem for path in shipped_folder().glob(f"*{_SUFFIX}"))


def model_path(name: str | Path) -> Path:
    """The file of a model: an existing path, or the name of a shipped model.

    Raises:
        BadInput: neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if str(name) in list_models():
        return shipped_folder() / f"{name}{_SUFFIX}"
    shipped = ", ".join(list_models()) or "none"
    raise BadInput(
        f"no model {str(name)!r}: give the path of a model file or a shipped model's "
        f"name ({shipped})"
    )
