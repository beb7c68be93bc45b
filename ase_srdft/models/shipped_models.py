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
    "structure_path",
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


def structure_path(model: Path) -> Path | None:
    """The file of a structure with the bonds that a shipped model was trained on, if there is one.

    It is beside those models whose own record lacks a structure, made by
    ``benchmarks/paper/shipped_models.py``: the model's own minimum.
    """
    path = model.with_suffix(".xyz")
    shipped = model.parent.resolve() == shipped_folder().resolve()
    return path if shipped and path.is_file() else None
