"""Single points that keep a promise: a model's state, corrected until it is near enough.

Forces are the derivative of the energy at the occupied projector in Loewdin's basis, held fixed: at
self-consistency that is all there is.  What is left out elsewhere is linear in the residual
[F, Gamma], whose norm gives the estimate of the forces' error.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ase_srdft.common.errors import ReferenceNotConverged
from ase_srdft.common.torch_state import undisturbed
from ase_srdft.dft.correction import Correction
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.grid.atomic_grid import RESPONSE_GRID
from ase_srdft.dft.kernels.library import wide_loops
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import on_grid, prepare
from ase_srdft.dft.prepared_geometry import Geometry, detached
from ase_srdft.dft.reference_scf import reference_scf, safe_gap
from ase_srdft.models.corrected_state import (
    FORCE_ERROR_PER_RESIDUAL,
    CorrectedState,
    Promise,
)
from ase_srdft.models.correction_record import CorrectionRecord
from ase_srdft.models.electronic_state import ElectronicState, ElectronicStateModel
from ase_srdft.models.lowest_state import EvaluatedState, lowest_state
from ase_srdft.models.open_single_point import OpenSinglePoint
from ase_srdft.models.single_point_result import SinglePointResult, concatenate_single_points
from ase_srdft.models.solution_search import is_sure_minimum, searched

__all__ = ["Promise", "certified_single_point", "open_certified_single_point"]

#: Residual that a state may have where it first goes onto the fine grid, for each Hartree of what
#: it is to become there at once; and the residual (Hartree) of the fine grid at the rough grid's
#: own solution: no use in a better one there.
_AT_ONCE, _OF_ROUGH_GRID = 1.5e3, 5.0e-3
#: Share of a residual that may be left by the next Fock matrix, and of what is allowed.
_NEXT_GOAL, _GOAL = 0.1, 0.5
#: Share of the residual that is allowed to which PySCF is asked to go where its own end is not
#: near enough.
_TIGHTER = 0.1
#: But no closer than the first (Hartree), and at least to the second.
_TIGHTEST, _TIGHT = 1.0e-8, 1.0e-6
#: Fock matrices of the fine grid after which it is left to PySCF.
_MOST_BUILDS = 8
#: Share of a residual that is left where a correction gets on.
_GETS_ON = 0.5
#: A step uphill by this (Hartree) is no rounding.
_UPHILL = 1.0e-8
#: A start whose bracket is wider (Hartree) says nothing of which solution it leads to.
_NEAR = 1.0e-2
#: Widths below (Hartree) are rounding.
_TINY = 1.0e-14


def certified_single_point(
    model: ElectronicStateModel,
    molecule: Molecule,
    positions: Float[Tensor, "batch natoms 3"],
    promise: Promise,
    forces: bool = True,
) -> SinglePointResult:
    """Evaluate geometries one by one; for arguments and errors see `open_certified_single_point`.

    Args:
        model: gives the states to begin with.
        molecule: from :func:`ase_srdft.models.single_point.molecule_of`.
        positions: nuclei (Bohr), float64, on the model's device.
        promise: what the answers are to keep.
        forces: whether to differentiate.
    """
    results = []
    for one in positions.split(1):
        opened = open_certified_single_point(model, molecule, one, promise, forces)
        results.append(opened.with_forces() if forces else opened.result)
    return concatenate_single_points(results)


@undisturbed
def open_certified_single_point(
    model: ElectronicStateModel,
    molecule: Molecule,
    positions: Float[Tensor, "1 natoms 3"],
    promise: Promise,
    graph: bool,
) -> OpenSinglePoint:
    """Evaluate one geometry; forces can be had later.

    The bracket is wider than promised where the lowest solution has an occupied orbital above
    an empty one, as some of stretched bonds have.

    Args:
        model: gives the state to begin with.
        molecule: from :func:`ase_srdft.models.single_point.molecule_of`.
        positions: nuclei (Bohr), float64, on the model's device.
        promise: what the answer is to keep.
        graph: whether to keep what forces need.

    Raises:
        BadInput: positions that are not finite, or atoms on top of each other.
        ReferenceNotConverged: neither correction, nor a search, nor PySCF comes to a state that
            keeps it.
    """
    positions = positions.detach().requires_grad_(graph)
    with torch.set_grad_enabled(graph):
        geometry = prepare(molecule, positions, differentiable_guess=False)
    plain = detached(geometry)
    differentiable = geometry if graph else plain
    with torch.no_grad():
        rough = on_grid(plain, RESPONSE_GRID)
        start = lowest_state(model, rough)
    correction = Correction(rough, start.state.density_matrix, start.fock)
    path, builds, coarse_builds, safe = "corrected", 1, 0, False
    start_width = float(start.bracket.width)
    try:
        goal, start_width = _onto_fine_grid(correction, plain, promise, start_width)
        found, more = _corrected(correction, differentiable, promise, goal)
        builds += more
        if found is not None and found.keeps(promise):
            safe, coarse_builds = _is_safe(found, start, plain)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        found = None
    if found is None or not safe:
        search = searched(differentiable, plain, promise, correction.projector, found)
        path, found = "searched", search.state
        builds, coarse_builds = builds + search.builds, coarse_builds + search.coarse_builds
        if found is None:
            found, more = _by_scf(correction, differentiable, plain, promise)
            path, builds = "scf", builds + more
    record = CorrectionRecord(
        start=start.paths[0],
        start_width=start_width,
        builds=builds,
        coarse_builds=start.builds + correction.nbuilds + coarse_builds,
        force_error=found.force_error,
    )
    result = _result(plain, found, path, record)
    return OpenSinglePoint(result=result, total=found.energy, positions=positions)


@torch.no_grad()
def _onto_fine_grid(
    correction: Correction, plain: Geometry, promise: Promise, start_width: float
) -> tuple[float, float]:
    """Bring a state near enough to be taken onto the fine grid, and it there.

    Returns:
        The residual to go on to, and the width of the start's bracket: there, if that is the state
        (both Hartree).
    """
    allowed, start = promise.force_error / FORCE_ERROR_PER_RESIDUAL, correction.projector
    correction.relax(max(_AT_ONCE * _GOAL * allowed, _OF_ROUGH_GRID))
    fock = correction.onto(plain)
    density_matrix = plain.density_matrix(correction.projector[None])
    width = float(energy_bracket(plain, fock.new_zeros(1), density_matrix, fock).width)
    # a bracket is of second order in the residual
    of_bracket = correction.residual * (promise.error / max(width, _TINY)) ** 0.5
    is_start = correction.projector is start
    return _GOAL * min(allowed, of_bracket), width if is_start else start_width


def _corrected(
    correction: Correction, geometry: Geometry, promise: Promise, goal: float
) -> tuple[CorrectedState | None, int]:
    """The first state that is near enough, or None; and the Fock matrices it took.

    It keeps the promise, or is self-consistent but none of lowest orbitals.

    Args:
        correction: with a Fock matrix of the fine grid.
        geometry: on it.
        promise: to be kept.
        goal: residual (Hartree) at which it is.

    Raises:
        torch.linalg.LinAlgError: the state has become nothing that is a number.
    """
    best: CorrectedState | None = None
    for build in range(1, _MOST_BUILDS):
        with torch.no_grad():
            correction.relax(goal)
        found = CorrectedState.at(geometry, correction.projector)
        if found.keeps(promise) or found.lies_above_empty_orbitals(geometry, promise):
            return found, build
        found = replace(found, energy=found.energy.detach())
        if best is not None and _is_lost(found, best, geometry.molecule):
            return None, build
        if best is not None and not float(found.energy) < float(best.energy) + _UPHILL:
            correction.go_back(best.projector, best.fock)
            continue
        best = found
        correction.refer(found.fock)
        goal = min(goal, _NEXT_GOAL * found.residual)
    return None, _MOST_BUILDS - 1


def _is_lost(found: CorrectedState, before: CorrectedState, molecule: Molecule) -> bool:
    """Whether it does not get on, and at the end another solution would be looked for anyway."""
    small = float(found.bracket.aufbau_gap) < safe_gap(molecule.level.functional.exact_exchange)
    return small and not found.residual < _GETS_ON * before.residual


def _is_safe(found: CorrectedState, start: EvaluatedState, plain: Geometry) -> tuple[bool, int]:
    """Whether there is no need to look for a lower solution; and the answers that it took."""
    near = float(start.bracket.width) < _NEAR
    exchange = plain.molecule.level.functional.exact_exchange
    gap = safe_gap(exchange, near or start.paths == ("guess",))
    if float(found.bracket.aufbau_gap) > gap:
        return True, 0
    return is_sure_minimum(plain, found) if near and exchange > 0 else (False, 0)


def _by_scf(
    correction: Correction, geometry: Geometry, plain: Geometry, promise: Promise
) -> tuple[CorrectedState, int]:
    """The lowest solution that PySCF finds; corrected further where it is not near enough.

    And the Fock matrices that it took, but for PySCF's own.

    Raises:
        ReferenceNotConverged: there is none, or ours on the same grid is not as good.
    """
    builds, asked = 0, _TIGHTER * promise.force_error / FORCE_ERROR_PER_RESIDUAL
    start = geometry.density_matrix(correction.projector[None]).detach()
    for tolerance in (None, min(max(asked, _TIGHTEST), _TIGHT)):
        found = _lowest_of_pyscf(geometry, plain, start, tolerance)
        nearer, more = _near_enough(correction, geometry, plain, promise, found)
        builds += 1 + more
        if nearer is not None:
            return nearer, builds
        start = plain.density_matrix(found.projector[None])
    molecule = geometry.molecule
    width, error = float(found.bracket.width), found.force_error
    raise ReferenceNotConverged(
        f"the SCF of {molecule.formula} at {molecule.level} ends at a bracket of {width:.1e} "
        f"Hartree and an error of forces of {error:.1e} Hartree/Bohr, where "
        f"{promise.error:.1e} and {promise.force_error:.1e} are asked for: ask for less"
    )


def _lowest_of_pyscf(
    geometry: Geometry,
    plain: Geometry,
    start: Float[Tensor, "1 nao nao"],
    gradient_tolerance: float | None,
) -> CorrectedState:
    """The lowest solution that PySCF finds; from a density matrix, if that is one."""
    matrix = start[0].cpu().numpy()
    with wide_loops(geometry.molecule.nao):
        reference = reference_scf(
            geometry.molecule,
            plain.positions[0].cpu().numpy(),
            density_matrix=matrix if np.isfinite(matrix).all() else None,
            gradient_tolerance=gradient_tolerance,
        )
    density_matrix = torch.as_tensor(reference.density_matrix).to(plain.orthogonaliser)
    return CorrectedState.at(geometry, plain.projector(density_matrix[None])[0])


def _near_enough(
    correction: Correction,
    geometry: Geometry,
    plain: Geometry,
    promise: Promise,
    found: CorrectedState,
) -> tuple[CorrectedState | None, int]:
    """A solution of PySCF's or, where it is not near enough, what it is corrected to, or None.

    And the Fock matrices that it took.
    """
    if found.keeps(promise) or found.lies_above_empty_orbitals(plain, promise):
        return found, 0
    correction.go_back(found.projector, found.fock)
    goal = _GOAL * promise.force_error / FORCE_ERROR_PER_RESIDUAL
    try:
        nearer, builds = _corrected(correction, geometry, promise, goal)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return None, 0
    if nearer is None or not float(nearer.energy.detach()) < float(found.energy.detach()) + _UPHILL:
        return None, builds
    return nearer, builds


def _result(
    plain: Geometry, found: CorrectedState, path: str, record: CorrectionRecord
) -> SinglePointResult:
    return SinglePointResult(
        energy=found.energy.detach(),
        forces=None,
        bracket=found.bracket,
        state=ElectronicState(
            density_matrix=plain.density_matrix(found.projector[None]),
            mo_coeff=found.orbitals,
            mo_energy=found.levels,
        ),
        fock=found.fock,
        geometry=plain,
        paths=(path,),
        corrections=(record,),
        frontier_gap=found.bracket.aufbau_gap,
    )
