"""The lowest of a model's state, its damped state and its guess's, where the model may be astray.

The energy is variational, so which of several states is nearest to self-consistency is known
without a reference: the one with the lowest energy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import EnergyBracket, energy_bracket
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel

__all__ = ["EvaluatedState", "lowest_state"]

#: Brackets wider than this (Hartree) are a reason to look whether another state is lower.
_SUSPICIOUS = 2.0e-3
#: Share of the model's correction that a damped state has.
_DAMPED = 0.5
#: Another state must be lower by this (Hartree): of two that are the same it is the model's.
_LOWER = 1.0e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluatedState:
    """A state with its energy.

    Attributes:
        state: one for each geometry.
        energy: E (Hartree), differentiable.
        fock: F[P] (Hartree), detached.
        bracket: around the SCF energy (Hartree).
        paths: of each geometry, ``model``, ``damped`` or ``guess``.
        builds: states that were evaluated, a Fock matrix each.
    """

    state: ElectronicState
    energy: Float[Tensor, " batch"]
    fock: Float[Tensor, "batch nao nao"]
    bracket: EnergyBracket
    paths: tuple[str, ...]
    builds: int = 1


def lowest_state(model: ElectronicStateModel, geometry: Geometry) -> EvaluatedState:
    """The model's state; where its bracket is wide, the lowest of it and two others.

    The others are the state of half of the model's correction, if it predicts a Hamiltonian, and
    that of the guess, which is all there is of a molecule with an element the model does not know.

    Args:
        model: to be asked.
        geometry: with the guess that the model starts from.
    """
    if model.unknown_elements(geometry.molecule.numbers):
        return _evaluated(geometry, _of_guess(geometry), "guess")
    best = _evaluated(geometry, model([geometry])[0], "model")
    if not bool((best.bracket.width > _SUSPICIOUS).any()):
        return best
    others = _others(model, geometry)
    for path, make in others.items():
        with torch.no_grad():
            other = _evaluated(geometry, make(), path)
        lower = other.energy < best.energy.detach() - _LOWER
        if bool(lower.any()):
            if torch.is_grad_enabled():
                other = _evaluated(geometry, make(), path)
            best = _merged(best, other, lower)
    return replace(best, builds=1 + len(others))


def _others(
    model: ElectronicStateModel, geometry: Geometry
) -> dict[str, Callable[[], ElectronicState]]:
    def damped() -> ElectronicState:
        guess, (hamiltonian,) = geometry.guess_fock, model.hamiltonian([geometry])
        return ElectronicState.aufbau(geometry, guess + _DAMPED * (hamiltonian - guess))

    others: dict[str, Callable[[], ElectronicState]] = {}
    if model.predicts_hamiltonian:
        others["damped"] = damped
    return others | {"guess": lambda: _of_guess(geometry)}


def _of_guess(geometry: Geometry) -> ElectronicState:
    return ElectronicState.aufbau(geometry, geometry.guess_fock)


def _evaluated(geometry: Geometry, state: ElectronicState, path: str) -> EvaluatedState:
    energies, fock = kohn_sham(geometry, state.density_matrix)
    total, matrix = energies.total, state.density_matrix.detach()
    return EvaluatedState(
        state=state,
        energy=total,
        fock=fock,
        bracket=energy_bracket(geometry, total.detach(), matrix, fock),
        paths=(path,) * len(geometry),
    )


def _merged(one: EvaluatedState, other: EvaluatedState, lower: Tensor) -> EvaluatedState:
    """The other where it is lower."""

    def chosen(first: Tensor, second: Tensor) -> Tensor:
        return torch.where(lower.view(-1, *(1,) * (first.ndim - 1)), second, first)

    first_levels, second_levels = one.state.mo_energy, other.state.mo_energy
    levels = None
    if first_levels is not None and second_levels is not None:
        levels = chosen(first_levels, second_levels)
    state = ElectronicState(
        density_matrix=chosen(one.state.density_matrix, other.state.density_matrix),
        mo_coeff=chosen(one.state.mo_coeff, other.state.mo_coeff),
        mo_energy=levels,
    )
    paths = zip(one.paths, other.paths, lower.tolist(), strict=True)
    return EvaluatedState(
        state=state,
        energy=chosen(one.energy, other.energy),
        fock=chosen(one.fock, other.fock),
        bracket=EnergyBracket(
            lower=chosen(one.bracket.lower, other.bracket.lower),
            upper=chosen(one.bracket.upper, other.bracket.upper),
            aufbau_gap=chosen(one.bracket.aufbau_gap, other.bracket.aufbau_gap),
        ),
        paths=tuple(second if is_lower else first for first, second, is_lower in paths),
    )
