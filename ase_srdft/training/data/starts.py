"""Where training and dynamics begin: rattled copies of the given structures, and walkers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from ase_srdft.common.connectivity import same_connectivity
from ase_srdft.common.units import ANGSTROM_PER_BOHR
from ase_srdft.dft.molecule import Molecule
from ase_srdft.sampling.thermal_copies import thermal_copies
from ase_srdft.sampling.turns import spread_order
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset

__all__ = [
    "distances",
    "molecules_at_a_time",
    "notes_on",
    "number_of_walkers",
    "placed",
    "rattled_copies",
    "structures_to_rattle",
    "with_own_bonds",
]

#: So many structures have a walker each; more of them take turns.
_MOST_WITH_A_WALKER = 16
#: Structures of a molecule that walkers return to, at most.
_MOST_RETURNS = 256
#: Frames are near a structure up to this distance per atom (Bohr).
_NEAR = 0.8
#: Frames of a molecule that are compared with its structures.
_MOST_COMPARED = 256


def structures_to_rattle(
    dataset: Dataset, frames: Sequence[Sequence[np.ndarray]], held: Collection[int]
) -> dict[int, list[np.ndarray]]:
    """The structures (Bohr) of each molecule that given frames do not cover.

    All of a molecule's that has no frame to train on, or none held out; else those that no frame
    is near.

    Args:
        dataset: molecules and structures.
        frames: of each molecule, those that are trained on (Bohr).
        held: molecules that have a frame held out.
    """
    bare: dict[int, list[np.ndarray]] = {}
    for index, own in enumerate(frames):
        structures = dataset.structures_of(index)
        if own and index in held:
            some = own[:: max(1, len(own) // _MOST_COMPARED)]
            structures = [at for at in structures if distances(some, at).min() > _NEAR]
        if structures:
            bare[index] = structures
    return bare


def rattled_copies(
    molecules: Sequence[Molecule],
    structures: Mapping[int, Sequence[np.ndarray]],
    config: TrainingConfig,
    rng: np.random.Generator,
) -> dict[int, tuple[list[np.ndarray], list[np.ndarray]]]:
    """Thermal copies (Bohr) of molecules' structures: those held out, and those trained on.

    Each structure has its part in both, if there is room; where there is none for all of a
    molecule's, those held out are of other structures than the first for some molecules.  Of more
    molecules than are to be held out, some are drawn.

    Args:
        molecules: all of them.
        structures: of those that need copies (Bohr).
        config: how many, and how hot.
        rng: of the displacements.
    """
    temperature = config.sampling.temperature_K
    few, most = config.validation_frames // len(molecules), config.validation_frames
    room_for_all = sum(map(len, structures.values())) <= most
    room = _copies_that_fit(len(molecules), config)
    held_out = set(range(len(molecules)))
    if len(molecules) > most and config.target_worst_error_uEh is None:
        held_out = set(rng.permutation(len(molecules))[:most].tolist())
    copies = {}
    for index, own in structures.items():
        held = max(1, few, len(own) if room_for_all else 0) if index in held_out else 0
        trained = min(max(config.pretraining_frames, min(len(own), config.buffer_size)), room)
        first = 0 if held >= len(own) else index
        places = range(first, first + held), range(trained)
        copies[index] = _rattled(molecules[index], own, places, temperature, rng)
    return copies


def _copies_that_fit(nmolecules: int, config: TrainingConfig) -> int:
    """Copies of each molecule that the buffer has room for."""
    return max(1, config.buffer_size // nmolecules)


def _rattled(
    molecule: Molecule,
    structures: Sequence[np.ndarray],
    places: tuple[range, range],
    temperature_K: float,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Thermal copies of structures (Bohr): those held out, and those trained on.

    Args:
        molecule: whose structures they are.
        structures: (Bohr).
        places: of which of them, in their order, there are copies held out and trained on; behind
            the last one comes the first.
        temperature_K: of the copies.
        rng: of the displacements.
    """
    ordered = [structures[index] for index in _mixed(len(structures))]
    which = np.concatenate([np.array(own, dtype=int) % len(ordered) for own in places])
    copies = np.zeros((len(which), *ordered[0].shape))
    for index in np.unique(which):
        own = which == index
        copies[own] = thermal_copies(molecule, ordered[index], int(own.sum()), temperature_K, rng)
    held = len(places[0])
    return list(copies[:held]), list(copies[held:])


def placed(
    structures: Sequence[Sequence[np.ndarray]],
    found: Sequence[Sequence[np.ndarray]],
    nwalkers: int,
    rng: np.random.Generator,
) -> tuple[list[tuple[int, int, np.ndarray]], list[np.ndarray]]:
    """Walkers, spread over molecules and their structures.

    There are more of them than asked for where there are more molecules, or up to 16 structures
    in all; where there are more of these, they take turns (`Sampler`), as molecules do
    (`molecules_at_a_time`).

    Args:
        structures: of each molecule (Bohr).
        found: geometries of each molecule (Bohr) that its walkers may start from; where none is
            near a structure, they start from the structure itself.
        nwalkers: asked for.
        rng: of the choice.

    Returns:
        Of each walker its number, its molecule and where it starts (Bohr); and the structures of
        each molecule that its walkers are to return to, in turn (nstructures, natoms, 3).
    """
    ordered = [[own[index] for index in _mixed(len(own))] for own in structures]
    longest = max(map(len, ordered))
    places = [
        (m, rank) for rank in range(longest) for m, own in enumerate(ordered) if rank < len(own)
    ]
    total = number_of_walkers([len(own) for own in structures], nwalkers)
    nearest: dict[int, np.ndarray] = {}
    walkers = []
    for walker in range(total):
        molecule, rank = places[walker % len(places)]
        geometries, own = found[molecule], ordered[molecule]
        if molecule not in nearest:
            nearest[molecule] = _nearest(geometries, own[:total])
        candidates = np.flatnonzero(nearest[molecule] == rank)
        start = own[rank]
        if len(candidates):
            start = geometries[candidates[int(rng.integers(len(candidates)))]]
        walkers.append((walker, molecule, start))
    return walkers, [np.array(own[:_MOST_RETURNS]) for own in ordered]


def distances(
    positions: Sequence[np.ndarray], other: Float[np.ndarray, "natoms 3"]
) -> Float[np.ndarray, " ngeometries"]:
    """Root mean square distance of the atoms after the best rotation (Bohr); no reflection."""
    moved = np.array(positions) - np.mean(positions, axis=1, keepdims=True)
    fixed = other - other.mean(axis=0)
    u, stretches, vt = np.linalg.svd(moved.transpose(0, 2, 1) @ fixed)
    stretches[:, 2] *= np.sign(np.linalg.det(u @ vt))
    squares = (moved**2).sum((1, 2)) + (fixed**2).sum() - 2.0 * stretches.sum(1)
    result: np.ndarray = np.sqrt(np.maximum(squares, 0.0) / len(fixed))
    return result


def with_own_bonds(
    molecules: Sequence[Molecule],
    references: Sequence[np.ndarray],
    found: Sequence[Sequence[np.ndarray]],
) -> list[list[np.ndarray]]:
    """The geometries of each molecule (Bohr) that have the bonds of its reference."""
    kept: list[list[np.ndarray]] = []
    for molecule, reference, own in zip(molecules, references, found, strict=True):
        numbers, at = np.array(molecule.numbers), reference * ANGSTROM_PER_BOHR
        positions = np.array(own).reshape(-1, *reference.shape)
        same = same_connectivity(numbers, at, positions * ANGSTROM_PER_BOHR)
        kept.append([one for one, is_same in zip(own, same, strict=True) if is_same])
    return kept


def notes_on(dataset: Dataset, names: Sequence[str], config: TrainingConfig) -> list[str]:
    """What a user should know of dynamics from these structures and frames, in words."""
    if not config.self_refine:
        return []
    notes = []
    counts, wanted = dataset.nstructures, config.sampling.walkers
    nlevels = dataset.nlevels
    at_levels = f" at {nlevels} levels of theory" if nlevels > 1 else ""
    given = f"{sum(counts) // nlevels} structures{at_levels} are given"
    nwalkers = number_of_walkers(counts, wanted)
    together = molecules_at_a_time(len(counts), wanted)
    if together is not None:
        notes.append(
            f"{len(counts) // nlevels} molecules{at_levels} are given: dynamics goes from one to "
            f"the next, {together} of them at a time (--walkers)"
        )
    elif nwalkers > wanted:
        notes.append(f"{given}: {nwalkers} walkers instead of {wanted}")
    if together is None and sum(counts) > nwalkers:
        notes.append(f"{given}: the {nwalkers} walkers go from one to the next")
    room = _copies_that_fit(len(counts), config)
    if not dataset.frames and room < config.pretraining_frames:
        notes.append(
            f"buffer_size {config.buffer_size} has room for {room} of {config.pretraining_frames} "
            f"copies (pretraining_frames) of each of {len(counts) // nlevels} molecules{at_levels}"
        )
    strays = Counter(dataset.frames[index][0] for index in dataset.strays)
    for molecule, count in sorted(strays.items()):
        notes.append(
            f"{count} of {len(dataset.frames)} frames have other bonds than {names[molecule]}: "
            "they are trained on, and dynamics does not start from them"
        )
    return notes


def number_of_walkers(nstructures: Sequence[int], wanted: int) -> int:
    """How many walkers there are: one for each molecule, and for each of up to 16 structures.

    Args:
        nstructures: of each molecule.
        wanted: asked for; these at least.
    """
    total = sum(nstructures)
    return max(wanted, len(nstructures), total if total <= _MOST_WITH_A_WALKER else 0)


def molecules_at_a_time(nmolecules: int, walkers: int) -> int | None:
    """How many molecules move at a time, each with a walker; None for all of them.

    Of more than 16 it is as many as there are to be walkers.

    Args:
        nmolecules: each at a level of theory.
        walkers: asked for.
    """
    return walkers if nmolecules > max(_MOST_WITH_A_WALKER, walkers) else None


def _nearest(
    geometries: Sequence[np.ndarray], structures: Sequence[np.ndarray]
) -> Int[np.ndarray, " ngeometries"]:
    """Which structure each geometry is nearest to."""
    if not len(geometries):
        return np.zeros(0, dtype=int)
    nearest: np.ndarray = np.argmin([distances(geometries, at) for at in structures], axis=0)
    return nearest


def _mixed(count: int) -> Int[np.ndarray, " count"]:
    """The order of structures: as given, or of many such that any first ones are spread evenly."""
    if count <= _MOST_WITH_A_WALKER:
        return np.arange(count)
    return spread_order(count)
