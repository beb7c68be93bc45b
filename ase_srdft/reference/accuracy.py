"""How far a model is from the SCF at its own level of theory, frame by frame and on average."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float

from ase_srdft.common.errors import BadInput, ReferenceNotConverged
from ase_srdft.common.nuclei import Nuclei, nuclei_of
from ase_srdft.common.torch_state import undisturbed
from ase_srdft.common.units import EV_PER_ANGSTROM_PER_ATOMIC_FORCE, MICROHARTREE
from ase_srdft.dft.kernels.library import threads as kernel_threads
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.reference_scf import Reference, reference_scf, scf_threads
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.electronic_structure import ElectronicStructure, electronic_structures
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.models.single_point_result import SinglePointResult
from ase_srdft.reference.label_file import Failure

__all__ = [
    "Accuracy",
    "FrameErrors",
    "average",
    "charge_of_frames",
    "checked_frames",
    "compare",
    "frame_errors",
    "frame_results",
]

#: What the convergence of the reference leaves open of its energy (Hartree).
COVERAGE_TOLERANCE = 1.0e-9
_LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
_MEV_PER_ANGSTROM = 1.0e3 * EV_PER_ANGSTROM_PER_ATOMIC_FORCE


@dataclass(frozen=True, kw_only=True)
class FrameErrors:
    """Errors at one geometry, in Hartree and Bohr.

    Orbital energies are the eigenvalues of F[P] on both sides, those of the reference at its own
    density matrix.

    Attributes:
        reference_energy: of the converged SCF.
        energy: model minus reference, so not negative but for rounding.
        bracket_width: E - E_lower of the model.
        covered: whether E_lower <= E_SCF <= E, to 1e-9 Hartree.
        hamiltonian: mean |F[P] - F_SCF| over all elements, atomic-orbital basis.
        orbital_energy: mean |difference| of the occupied orbitals' energies.
        homo: |difference|.
        lumo: |difference|; None where the basis has no unoccupied orbital.
        gap: |difference| of LUMO minus HOMO; likewise.
        forces_mean: mean |difference| of all components, full derivative of the model's energy
            against the SCF's with the response of the grid; None if not asked for.
        forces_max: largest |difference| of a component; likewise.
    """

    reference_energy: float
    energy: float
    bracket_width: float
    covered: bool
    hamiltonian: float
    orbital_energy: float
    homo: float
    lumo: float | None
    gap: float | None
    forces_mean: float | None
    forces_max: float | None


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A model's errors over frames: the columns of the published tables, and the bracket's.

    Each mean is over the frames, with equal weight, of the quantities of `FrameErrors`.

    Attributes:
        n_frames: how many.
        energy_mae_uEh: mean |E - E_SCF| (10^-6 Hartree).
        energy_max_uEh: largest |E - E_SCF| (10^-6 Hartree).
        hamiltonian_mae_uEh: of the elements of F[P] (10^-6 Hartree).
        orbital_energy_mae_uEh: of the occupied orbitals' energies (10^-6 Hartree).
        homo_mae_uEh: of the highest occupied orbital's energy (10^-6 Hartree).
        lumo_mae_uEh: of the lowest unoccupied one's (10^-6 Hartree); None if there is none.
        gap_mae_uEh: of their difference (10^-6 Hartree); None if there is none.
        forces_mae_meV_per_A: of the forces' components (meV/Å); None if not asked for.
        forces_max_meV_per_A: the largest (meV/Å); None if not asked for.
        bracket_coverage: share of frames whose bracket holds the SCF energy, 0 to 1.
        bracket_width_mean_uEh: mean width of the bracket (10^-6 Hartree).
    """

    n_frames: int
    energy_mae_uEh: float
    energy_max_uEh: float
    hamiltonian_mae_uEh: float
    orbital_energy_mae_uEh: float
    homo_mae_uEh: float
    lumo_mae_uEh: float | None
    gap_mae_uEh: float | None
    forces_mae_meV_per_A: float | None
    forces_max_meV_per_A: float | None
    bracket_coverage: float
    bracket_width_mean_uEh: float

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values under the names of the attributes, for JSON."""
        return asdict(self)


def checked_frames(
    model: ElectronicStateModel, frames: Sequence[Atoms | Nuclei]
) -> list[tuple[Molecule, Nuclei]]:
    """Molecule and nuclei of each frame, once it is sure that the model can be asked about all.

    Args:
        model: on any device.
        frames: the geometries.

    Raises:
        BadInput: naming the frame: no molecule in vacuum, atoms on top of each other, a charge
            that is not the model's, a spin, an element or a basis that is not covered.
    """
    molecules: dict[tuple[tuple[int, ...], int], Molecule] = {}
    checked = []
    for index, atoms in enumerate(frames):
        nuclei = nuclei_of(atoms, charge_of_frames(model), what=f"frame {index}")
        kind = (nuclei.numbers, nuclei.charge)
        if kind not in molecules:
            level = replace(model.level, charge=nuclei.charge)
            try:
                molecule = molecule_of(model, nuclei.numbers, level)
                _ = molecule.provider  # an unknown basis shows here
            except BadInput as err:
                raise BadInput(f"frame {index}: {err}") from None
            molecules[kind] = molecule
        checked.append((molecules[kind], nuclei))
    return checked


def charge_of_frames(model: ElectronicStateModel) -> int | None:
    """The charge that all frames must have; None where each may have its own."""
    return None if model.level_free else model.level.charge


@undisturbed
def frame_results(
    model: ElectronicStateModel,
    frames: Iterable[Atoms | Nuclei],
    forces: bool = True,
    threads: int | None = None,
) -> Iterator[FrameErrors | Failure]:
    """The errors of a model at each frame, or why there are none, as they are computed.

    All frames are checked before the first SCF.  The reference starts from the model's density
    matrix, which saves time and changes nothing it converges to.

    Args:
        model: on any device.
        frames: the geometries.
        forces: whether to compare them; the reference then takes about twice as long.
        threads: of the kernels and of the reference; None for one of the kernels, and for what
            PySCF has.

    Raises:
        BadInput: a frame that the model cannot be asked about (`checked_frames`).
    """
    for index, (molecule, nuclei) in enumerate(checked_frames(model, list(frames))):
        try:
            with _threads(threads):
                errors = _errors_at(model, molecule, nuclei.positions, forces)
            yield errors
        except (BadInput, ReferenceNotConverged, _NoNumber, _LinAlgError) as err:
            yield Failure(frame=index, reason=" ".join(str(err).split()))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    if count is None:
        yield
    else:
        with kernel_threads(count), scf_threads(count):
            yield


def frame_errors(
    model: ElectronicStateModel, frames: Iterable[Atoms | Nuclei], forces: bool = True
) -> Iterator[FrameErrors]:
    """As `frame_results`, for those who need every frame.

    Raises:
        BadInput: a frame that the model cannot be asked about.
        ReferenceNotConverged: no errors at a frame: no reference, or no number from the model.
    """
    for result in frame_results(model, frames, forces):
        if isinstance(result, Failure):
            raise ReferenceNotConverged(f"frame {result.frame}: {result.reason}")
        yield result


class _NoNumber(ArithmeticError):
    """The model's answer is not finite."""


def _errors_at(
    model: ElectronicStateModel,
    molecule: Molecule,
    bohr: Float[np.ndarray, "natoms 3"],
    forces: bool,
) -> FrameErrors:
    device = next(model.parameters()).device
    evaluation = single_point(model, molecule, torch.as_tensor(bohr, device=device)[None], forces)
    degeneracy = evaluation.degeneracy(0)
    if forces and degeneracy is not None:
        raise _NoNumber(f"no forces, {degeneracy}; leave the frame or the forces out")
    _check_finite(evaluation)
    state = electronic_structures(evaluation)[0]
    reference = reference_scf(molecule, bohr, forces, state.density_matrix)
    own = None if evaluation.forces is None else evaluation.forces[0].cpu().numpy()
    return compare(state, reference, own)


def _check_finite(evaluation: SinglePointResult) -> None:
    found = {
        "energy": evaluation.energy,
        "forces": evaluation.forces,
        "Fock matrix": evaluation.fock,
        "energy bracket": evaluation.bracket.lower,
    }
    for name, values in found.items():
        if values is not None and not bool(torch.isfinite(values).all()):
            raise _NoNumber(f"the model's {name} is not finite: train the model again")


def compare(
    state: ElectronicStructure,
    reference: Reference,
    forces: Float[np.ndarray, "natoms 3"] | None,
) -> FrameErrors:
    """The errors of a state, and of its forces if there are any (Hartree/Bohr)."""
    nocc = state.nocc
    levels = state.mo_energy - reference.mo_energy
    low, high = state.energy_lower - COVERAGE_TOLERANCE, state.energy + COVERAGE_TOLERANCE
    has_lumo = state.lumo is not None
    deviation = None
    if forces is not None and reference.forces is not None:
        deviation = np.abs(forces - reference.forces)
    return FrameErrors(
        reference_energy=reference.energy,
        energy=state.energy - reference.energy,
        bracket_width=state.energy - state.energy_lower,
        covered=low <= reference.energy <= high,
        hamiltonian=float(np.abs(state.fock - reference.fock).mean()),
        orbital_energy=float(np.abs(levels[:nocc]).mean()),
        homo=float(abs(levels[nocc - 1])),
        lumo=float(abs(levels[nocc])) if has_lumo else None,
        gap=float(abs(levels[nocc] - levels[nocc - 1])) if has_lumo else None,
        forces_mean=None if deviation is None else float(deviation.mean()),
        forces_max=None if deviation is None else float(deviation.max()),
    )


def average(errors: Iterable[FrameErrors]) -> Accuracy:
    """The table of errors over frames.

    A quantity that any frame lacks is None.

    Raises:
        BadInput: no frames.
    """
    frames = list(errors)
    if not frames:
        raise BadInput("no frames to average over: give at least one")

    def column(name: str) -> Float[np.ndarray, " nframes"]:
        values = [getattr(frame, name) for frame in frames]
        column: np.ndarray = np.abs(np.array(values, dtype=float))  # None becomes NaN
        return column

    def mean(name: str, unit: float = MICROHARTREE) -> float:
        return float(column(name).mean()) * unit

    def known(value: float) -> float | None:
        return None if np.isnan(value) else value

    return Accuracy(
        n_frames=len(frames),
        energy_mae_uEh=mean("energy"),
        energy_max_uEh=float(column("energy").max()) * MICROHARTREE,
        hamiltonian_mae_uEh=mean("hamiltonian"),
        orbital_energy_mae_uEh=mean("orbital_energy"),
        homo_mae_uEh=mean("homo"),
        lumo_mae_uEh=known(mean("lumo")),
        gap_mae_uEh=known(mean("gap")),
        forces_mae_meV_per_A=known(mean("forces_mean", _MEV_PER_ANGSTROM)),
        forces_max_meV_per_A=known(float(column("forces_max").max()) * _MEV_PER_ANGSTROM),
        bracket_coverage=mean("covered", 1.0),
        bracket_width_mean_uEh=mean("bracket_width"),
    )
