"""A YAML file of settings, read strictly: each name stands once, and whole numbers are decimal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ase_srdft.common.errors import BadInput

__all__ = ["read_settings"]

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


class _Loader(yaml.SafeLoader):
    """YAML whose names are given once, and whose whole numbers are decimal."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping.

        Raises:
            BadInput: a name stands in it twice.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise BadInput(f"{key.value!r} is set again in line {line}: set it once")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int | str:
        """A whole number; what YAML 1.1 takes for one (``010`` is 8, ``1:30`` is 90) stays text."""
        text = str(self.construct_scalar(node))
        return int(text) if _DECIMAL.fullmatch(text) else text


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)


def read_settings(path: Path) -> dict[str, Any]:
    """Plain nested values.

    Raises:
        BadInput: the file cannot be read, is no YAML, gives a name twice, or holds no names.
    """
    try:
        plain = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as err:
        raise BadInput(f"cannot read {path}: {err.strerror}; check the path") from None
    except BadInput as err:
        raise BadInput(f"{path}: {err}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        # impossible dates and bytes are ValueErrors
        reason = " ".join(str(err).split())
        raise BadInput(f"{path} is no YAML ({reason}): use name: value lines") from err
    if plain is None:
        raise BadInput(f"{path} is empty: write name: value lines, or leave --config out")
    if not isinstance(plain, dict):
        raise BadInput(f"{path} holds {type(plain).__name__}: use name: value lines")
    return plain
