"""Where ASE finds the calculator by its name, without importing it before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ase.calculators.calculator import external_calculators, register_calculator_class

if TYPE_CHECKING:
    from ase_srdft.calculator.srdft_calculator import SRDFTCalculator

__all__ = ["NAME", "register", "register_lazily"]

NAME = "srdft"
_Calculator = TypeVar("_Calculator")


class _Lazily:
    """Stands for the calculator in ASE's table until that is imported."""

    nolabel = True  # as the calculator itself: of no use for names of files

    def __new__(cls, *args: Any, **kwargs: Any) -> SRDFTCalculator:  # type: ignore[misc]
        from ase_srdft.calculator.srdft_calculator import SRDFTCalculator

        return SRDFTCalculator(*args, **kwargs)


def register_lazily() -> None:
    """Let ``get_calculator_class("srdft")`` know the calculator, at the price of no import."""
    if NAME not in external_calculators:
        register_calculator_class(NAME, _Lazily)


def register(calculator: type[_Calculator]) -> type[_Calculator]:
    """Put the calculator in the place of what stands for it; to be used as a decorator."""
    register_lazily()
    external_calculators[NAME] = calculator
    return calculator
