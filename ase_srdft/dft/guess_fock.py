"""Guess Fock matrices: what the model's correction starts from, differentiable in the nuclei."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.coulomb import coulomb_matrix
from ase_srdft.dft.exact_exchange import exchange_matrix
from ase_srdft.dft.fitted_density import fitted_densities
from ase_srdft.dft.fock_matrix import fock_matrix
from ase_srdft.dft.integrals.provider import Integrals
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.xc.quadrature import Quadrature, xc_potential

__all__ = [
    "DAMPING",
    "Guess",
    "aufbau_density_matrix",
    "guess_changes",
    "guess_fock",
    "minimal_density_matrix",
]

#: How far the guesses ``companion`` and ``roothaan`` go (``benchmarks/guess_choice.py`` compares
#: others).
DAMPING = 0.3
#: Share of the change of J that is left when the change of V_xc, of other sign, is left out.
_SCREENED = 0.75
#: Atomic number of the heaviest element whose exchange the functions of a potential fit well.
_HEAVIEST_OF_SMALL_FIT = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Guess:
    """What a model's correction starts from.

    Attributes:
        fock: F_guess(R) (Hartree).
        step: F[P0] - F0, the undamped Roothaan step (Hartree), or what takes its place
            (``companion``); None where there is none.
        density_matrices: what it was made of: the superposed atoms', then P0 (not ``minao``).
    """

    fock: Float[Tensor, "batch nao nao"]
    step: Float[Tensor, "batch nao nao"] | None = None
    density_matrices: tuple[Float[Tensor, "batch nao nao"], ...] = ()


def minimal_density_matrix(
    molecule: Molecule, integrals: Integrals
) -> Float[Tensor, "batch nao nao"]:
    """Superposed spherical atoms in the basis: S^-1 S12 n S12^T S^-1 (PySCF's ``minao``)."""
    assert integrals.guess_overlap is not None
    occupations = molecule.guess_occupations.to(integrals.overlap.device)
    orbitals: Tensor = torch.linalg.solve(integrals.overlap, integrals.guess_overlap)
    return (orbitals * occupations) @ orbitals.transpose(-1, -2)


def aufbau_density_matrix(
    molecule: Molecule,
    orthogonaliser: Float[Tensor, "batch nao nao"],
    fock: Float[Tensor, "batch nao nao"],
) -> Float[Tensor, "batch nao nao"]:
    """P of the lowest orbitals of a Fock matrix."""
    projector, _, _ = occupied_projector(orthogonaliser @ fock @ orthogonaliser, molecule.nocc)
    return 2.0 * orthogonaliser @ projector @ orthogonaliser


def guess_fock(
    molecule: Molecule,
    integrals: Integrals,
    quadrature: Quadrature | None,
    orthogonaliser: Float[Tensor, "batch nao nao"],
) -> Guess:
    """F_guess(R).

    ``companion``: the same as ``roothaan`` without exact exchange; with it see
    :func:`_companion_guess`.
    ``roothaan``: one damped Roothaan step from ``minao``, F0 + 0.3 (F[P0] - F0).
    ``minao``: the Fock matrix F0 of the superposed atomic densities, at the level of theory.
    ``sap``: h plus superposed atomic potentials (Lehtola 2019), no quadrature.
    ``core``: h alone.

    Args:
        molecule: names the guess.
        integrals: at the nuclei.
        quadrature: not needed for ``sap`` and ``core``.
        orthogonaliser: X = S^(-1/2).
    """
    core = integrals.core_hamiltonian
    if molecule.guess == "core":
        return Guess(fock=core)
    if molecule.guess == "sap":
        assert integrals.guess_potential is not None
        return Guess(fock=core + integrals.guess_potential)
    assert quadrature is not None
    atoms = minimal_density_matrix(molecule, integrals)
    if molecule.guess == "companion" and quadrature.functional.exact_exchange > 0:
        return _companion_guess(molecule, integrals, quadrature, orthogonaliser, atoms)
    fock = fock_matrix(integrals, quadrature, atoms)
    if molecule.guess == "minao":
        return Guess(fock=fock, density_matrices=(atoms,))
    aufbau = aufbau_density_matrix(molecule, orthogonaliser, fock)
    # how the electrons answer to a Fock matrix
    step = fock_matrix(integrals, quadrature, aufbau) - fock
    return Guess(fock=fock + DAMPING * step, step=step, density_matrices=(atoms, aufbau))


def _companion_guess(
    molecule: Molecule,
    integrals: Integrals,
    quadrature: Quadrature,
    orthogonaliser: Float[Tensor, "batch nao nao"],
    atoms: Float[Tensor, "batch nao nao"],
) -> Guess:
    """A damped step with one matrix of exact exchange, and that of a good density.

    What exact exchange is off by, no potential of a density can mend; and what another functional
    is off by, one can.  So densities are made with the local companion of the functional
    (`Functional.companion`), V_c, until there is one worth the exchange:

        F0 = h + J[P_atoms] + V_c[P_atoms],  P0 = aufbau(F0),  P = P_atoms + 0.3 (P0 - P_atoms)
        P1 = aufbau(F0 + 0.75 J[P - P_atoms])
        F_guess = h + J[P] + V_xc[P] - a/2 K[P1]

    ``benchmarks/guess_for_hybrids.py`` measures how near a potential comes from there.  K is fitted
    with the auxiliary functions of the model's potential where it has any: half as many as those of
    the level, at a quarter of the work, and what they are off by is small beside the rest.  It is
    not for sulfur and chlorine, whose inner shells have products that functions up to d cannot
    fit: brackets become several times as wide.
    """
    core, functional = integrals.core_hamiltonian, quadrature.functional
    companion = replace(quadrature, functional=functional.companion)
    coulomb_of_atoms = coulomb_matrix(integrals, atoms)
    fock = core + coulomb_of_atoms + xc_potential(companion, atoms)
    aufbau = aufbau_density_matrix(molecule, orthogonaliser, fock)
    damped = atoms + DAMPING * (aufbau - atoms)
    coulomb = coulomb_matrix(integrals, damped)
    screened = fock + _SCREENED * (coulomb - coulomb_of_atoms)
    near = aufbau_density_matrix(molecule, orthogonaliser, screened)
    guess = core + coulomb + xc_potential(quadrature, damped)
    small = max(molecule.numbers) <= _HEAVIEST_OF_SMALL_FIT
    exchange = exchange_matrix(integrals.of_potential() if small else integrals, near)
    guess = guess - 0.5 * functional.exact_exchange * exchange
    return Guess(fock=guess, step=(guess - fock) / DAMPING, density_matrices=(atoms, aufbau))


def guess_changes(
    molecule: Molecule,
    integrals: Integrals,
    orthogonaliser: Float[Tensor, "batch nao nao"],
    guess: Guess,
) -> Float[Tensor, "batch 2 nchanges naux"]:
    """How far the guess's aufbau state is from what the guess was made of, in auxiliary functions.

    Of P[F_guess] - P for each of `Guess.density_matrices`: first the potentials (Hartree), then
    the fitted densities.
    """
    state = aufbau_density_matrix(molecule, orthogonaliser, guess.fock)
    changes = torch.stack([state - earlier for earlier in guess.density_matrices], 1)
    both = fitted_densities(integrals, changes)
    return torch.stack(both, 1).transpose(2, 3)
