"""What a calculator says of itself: its parameters in files, and in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ase.calculators.calculator import Calculator, InputError

from ase_srdft.calculator.model_runner import ModelRunner
from ase_srdft.calculator.parameters import ON_UNCERTAIN, level_of
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.shipped_models import UNTRAINED

__all__ = ["WrittenParameters"]

_Calculator = TypeVar("_Calculator", bound="WrittenParameters")
_LEVEL, _CHECKSUM = "level", "model_sha256"


class WrittenParameters(Calculator):
    """A calculator that names its level of theory and its model where parameters are kept."""

    _runner: ModelRunner | None

    @classmethod
    def fromdict(cls: type[_Calculator], parameters: Mapping[str, Any]) -> _Calculator:
        """The calculator that gave these parameters by ``todict``.

        Raises:
            InputError: they are refused, or the model of that name has changed since.
        """
        # the level follows from the others
        given = {k: v for k, v in parameters.items() if k not in (_LEVEL, _CHECKSUM)}
        calculator = cls(**given)
        found = None if calculator._runner is None else calculator._runner.checksum
        wanted = parameters.get(_CHECKSUM, found)
        if found != wanted:
            raise InputError(
                f"the model {given.get('model')!r} is another than these parameters were written "
                f"with ({_CHECKSUM} {found} instead of {wanted}): take that one's file, or leave "
                f"out {_CHECKSUM} to have this one"
            )
        return calculator

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """The parameters as a trajectory or a database keeps them.

        Besides them ``level``, the level of theory in words, and of a model that was given
        ``model_sha256``, its checksum, by which `fromdict` knows it again.

        Args:
            skip_default: whether to leave out the parameters that have their default.
        """
        written: dict[str, Any] = super().todict(skip_default)  # type: ignore[no-untyped-call]
        written[_LEVEL] = str(self._level)
        if self._runner is not None and self.parameters["model"] != UNTRAINED:
            written[_CHECKSUM] = self._runner.checksum
        return written

    def __repr__(self) -> str:
        model = self.parameters["model"]
        return f"{type(self).__name__}({model!r}, {self._level}, {self._promise_in_words()})"

    def _promise_in_words(self) -> str:
        wanted = self.parameters
        if wanted["max_error"] is None:
            return "max_error=None"
        words = f"max_error={wanted['max_error']:g} eV"
        if wanted["on_uncertain"] != ON_UNCERTAIN[0]:
            return f"{words}, on_uncertain={wanted['on_uncertain']!r}"
        return f"{words}, max_force_error={wanted['max_force_error']:g} eV/Å"

    @property
    def _level(self) -> LevelOfTheory:
        """That answers are at."""
        return level_of(self.parameters, None if self._runner is None else self._runner.model)
