"""A mobility from a model Hessian, so that stiff and soft modes decorrelate alike.

The model is Lindh's: springs on every distance, angle and torsion, weaker the further apart the
atoms are.  It needs no electronic structure and no list of bonds, is positive semidefinite at any
geometry, and takes milliseconds.  Bohr and Hartree throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

__all__ = ["mobility", "mobility_square_root", "model_hessian", "rigid_motions"]

# The table of Lindh et al., by the period of the two atoms (1, 2, and 3 or beyond).
_REFERENCE_DISTANCE_BOHR = np.array([[1.35, 2.10, 2.53], [2.10, 2.87, 3.40], [2.53, 3.40, 3.40]])
_DECAY_PER_BOHR2 = np.array(
    [[1.0000, 0.3949, 0.3949], [0.3949, 0.2800, 0.2800], [0.3949, 0.2800, 0.2800]]
)
_LAST_OF_PERIOD_1, _LAST_OF_PERIOD_2 = 2, 10
_STRETCH_HARTREE_PER_BOHR2 = 0.45
_BEND_HARTREE = 0.15
_TORSION_HARTREE = 0.005
#: Springs weaker than this, in Hartree (per Bohr² for distances), are left out.
_NEGLIGIBLE = 1e-5

#: Between these |cos| (160° and 170°) an angle turns into a linear one.
_COSINE_BENT, _COSINE_LINEAR = 0.940, 0.985
#: A rotation that moves the atoms by less than this fraction of the largest counts as bending.
_LINEAR_MOLECULE = 0.15


@dataclass(frozen=True, kw_only=True)
class _Springs:
    """Internal coordinates of one kind, each with its spring.

    Attributes:
        atoms: the atoms that each coordinate depends on.
        force_constant: k, in Hartree/Bohr² or Hartree/rad².
        gradient: the derivative of each coordinate by the positions of its atoms.
    """

    atoms: Integer[np.ndarray, "nsprings nmembers"]
    force_constant: Float[np.ndarray, " nsprings"]
    gradient: Float[np.ndarray, "nsprings nmembers 3"]


def model_hessian(
    numbers: Integer[np.ndarray, " natoms"], positions: Float[np.ndarray, "natoms 3"]
) -> Float[np.ndarray, "ncoordinates ncoordinates"]:
    """The model Hessian of Lindh, Bernhardsson, Karlström and Malmqvist.

    Chem. Phys. Lett. 241, 423 (1995): with ``ρ_ij = exp(α_ij (r_ref,ij² - r_ij²))``::

        H = Σ_q k_q (∂q/∂R)(∂q/∂R)ᵀ
        k_ij = 0.45 ρ_ij,   k_ijk = 0.15 ρ_ij ρ_jk,   k_ijkl = 0.005 ρ_ij ρ_jk ρ_kl

    over the distances, angles and torsions q of all atoms.  An angle within 10° of linear is
    replaced by the bends in the two directions across its axis, and a torsion about it is left
    out; from 20° to 10° the one passes smoothly into the other.

    Args:
        numbers: atomic numbers; what lies beyond the third period takes that period's constants.
        positions: in Bohr.

    Returns:
        In Hartree/Bohr², symmetric and positive semidefinite.
    """
    natoms = len(numbers)
    closeness = _closeness(numbers, positions)
    hessian = np.zeros((3 * natoms, 3 * natoms))
    for springs in (
        _stretches(closeness, positions),
        _bends(closeness, positions),
        _torsions(closeness, positions),
    ):
        hessian += _assemble(springs, natoms)
    return hessian


def mobility_square_root(
    numbers: Integer[np.ndarray, " natoms"],
    positions: Float[np.ndarray, "natoms 3"],
    *,
    floor: float = 0.01,
) -> Float[np.ndarray, "ncoordinates ncoordinates"]:
    """The symmetric square root of ``M = P (H + floor)⁻¹ P``, H the model Hessian at a geometry.

    P projects out the overall translations and rotations at this geometry.  With this mobility
    the step size h of an overdamped integrator has no dimension: the displacement ``h M f`` is in
    Bohr for forces f in Hartree/Bohr, a mode that the model gets right relaxes by the factor
    1 - h per step, and the integrators are stable for h < 2 times the ratio of model to true
    curvature.  That ratio is 0.5 to 8 for ethanol (RHF/6-31G, at its minimum and in frames at
    500 K), where without M the curvatures span a factor of 200: h = 0.5 is a good choice.

    M belongs to its geometry.  A methyl group that has turned has its stiff directions where M
    allows long steps, so compute it anew every 10 to 30 steps.  (At every step would be wrong:
    the schemes for a constant M leave out the divergence of one that follows the positions.)

    The walkers of an integrator with this M keep the orientation that they have (the Eckart
    conditions of this geometry).  What is then sampled is exp(-E/kT) in this slice of the space
    of positions.  It differs from the distribution over all orientations by the slice's volume
    factor, which changes with large distortions only; where that matters, take M = 1.

    Args:
        numbers: atomic numbers.
        positions: in Bohr.
        floor: curvature in Hartree/Bohr² that is added to every mode, so that soft ones do not
            take steps beyond the reach of the harmonic picture.

    Returns:
        M^(1/2) in Bohr/Hartree^(1/2), of rank 3·natoms - 6, or - 5 for a linear molecule.  (One
        bent so little that the rotation about its axis is a bend, counts as linear.)  It is zero
        for a single atom.

    Raises:
        ValueError: ``floor`` is not positive.
    """
    if not 0 < floor < float("inf"):
        raise ValueError(f"floor is {floor!r} Hartree/Bohr²; it must be positive and finite")
    rigid = rigid_motions(positions)
    internal = np.linalg.svd(rigid)[0][:, rigid.shape[1] :]
    curvatures, modes = np.linalg.eigh(internal.T @ model_hessian(numbers, positions) @ internal)
    modes = internal @ modes
    # The model has no negative curvature; rounding has.
    root: np.ndarray = modes / np.sqrt(np.maximum(curvatures, 0.0) + floor) @ modes.T
    return root


def mobility(
    numbers: Integer[np.ndarray, " natoms"],
    positions: Float[np.ndarray, "natoms 3"],
    *,
    floor: float = 0.01,
) -> Float[np.ndarray, "ncoordinates ncoordinates"]:
    """M itself, in Bohr²/Hartree: the square of `mobility_square_root`, which documents it."""
    root = mobility_square_root(numbers, positions, floor=floor)
    square: np.ndarray = root @ root
    return square


def rigid_motions(
    positions: Float[np.ndarray, "natoms 3"],
) -> Float[np.ndarray, "ncoordinates nrigid"]:
    """Orthonormal displacements of the overall translations and rotations.

    Three and three; two rotations for a linear (or nearly linear) molecule, none for one atom.
    """
    natoms = len(positions)
    translations = np.tile(np.eye(3), (natoms, 1)) / np.sqrt(natoms)
    arms = positions - positions.mean(axis=0)
    # Column c is the motion e_c x arm of all atoms.
    rotations = np.cross(np.eye(3)[:, None, :], arms).reshape(3, -1).T
    directions, sizes, _ = np.linalg.svd(rotations, full_matrices=False)
    return np.hstack([translations, directions[:, sizes > _LINEAR_MOLECULE * sizes[0]]])


def _closeness(
    numbers: Integer[np.ndarray, " natoms"], positions: Float[np.ndarray, "natoms 3"]
) -> Float[np.ndarray, "natoms natoms"]:
    """Lindh's ρ_ij, zero for i = j."""
    period = (numbers > _LAST_OF_PERIOD_1).astype(int) + (numbers > _LAST_OF_PERIOD_2)
    pair = np.ix_(period, period)
    squared = ((positions[:, None] - positions) ** 2).sum(axis=-1)
    closeness: np.ndarray = np.exp(
        _DECAY_PER_BOHR2[pair] * (_REFERENCE_DISTANCE_BOHR[pair] ** 2 - squared)
    )
    np.fill_diagonal(closeness, 0.0)
    return closeness


def _stretches(
    closeness: Float[np.ndarray, "natoms natoms"], positions: Float[np.ndarray, "natoms 3"]
) -> _Springs:
    """The distances r_ij."""
    force_constants = _STRETCH_HARTREE_PER_BOHR2 * np.triu(closeness)
    first, second = np.nonzero(force_constants > _NEGLIGIBLE)
    axis, _ = _direction(positions[first] - positions[second])
    return _Springs(
        atoms=np.stack([first, second], axis=1),
        force_constant=force_constants[first, second],
        gradient=np.stack([axis, -axis], axis=1),
    )


def _bends(
    closeness: Float[np.ndarray, "natoms natoms"], positions: Float[np.ndarray, "natoms 3"]
) -> _Springs:
    """The angles i-j-k in their plane, and the bends out of it where they are linear.

    With u, v the directions from j to i and k, n the normal of the plane, and e = n x u the
    direction in which i opens the angle, ``∂θ/∂R_i = e / r_ij`` and ``∂θ/∂R_k = v x n / r_jk``.
    """
    products = closeness[:, :, None] * closeness[None, :, :]
    above = np.triu(np.ones_like(closeness), 1)[:, None, :]
    force_constants = _BEND_HARTREE * products * above
    first, centre, last = np.nonzero(force_constants > _NEGLIGIBLE)
    to_first, r_first = _direction(positions[first] - positions[centre])
    to_last, r_last = _direction(positions[last] - positions[centre])
    cosine = (to_first * to_last).sum(axis=1)
    normal = np.cross(to_first, _opening_direction(to_first, to_last))
    opening = np.cross(normal, to_first)

    in_plane = _angle_gradient(opening / r_first, np.cross(to_last, normal) / r_last)
    # At 180° both ends move the same way, at 0° they part.
    side = -np.sign(cosine)[:, None]
    out_of_plane = _angle_gradient(normal / r_first, side * normal / r_last)
    force_constant = force_constants[first, centre, last]
    atoms = np.stack([first, centre, last], axis=1)
    linear = _linearity(cosine)
    return _Springs(
        atoms=np.concatenate([atoms, atoms[linear > 0]]),
        force_constant=np.concatenate([force_constant, (linear * force_constant)[linear > 0]]),
        gradient=np.concatenate([in_plane, out_of_plane[linear > 0]]),
    )


def _torsions(
    closeness: Float[np.ndarray, "natoms natoms"], positions: Float[np.ndarray, "natoms 3"]
) -> _Springs:
    """The dihedral angles i-j-k-l, fading out where i-j-k or j-k-l is linear.

    The gradient is that of Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996), with F, G, H
    the vectors from j to i, from k to j and from k to l, A = F x G and B = H x G.
    """
    atoms, force_constant = _torsion_list(closeness)
    i, j, k, l = (positions[column] for column in atoms.T)  # noqa: E741
    to_first, axis, to_last = i - j, j - k, l - k
    bent = 1 - _linearity(_cosine(to_first, axis))
    bent *= 1 - _linearity(_cosine(to_last, axis))
    keep = bent > 0
    atoms, force_constant = atoms[keep], (bent * force_constant)[keep]
    to_first, axis, to_last = to_first[keep], axis[keep], to_last[keep]

    _, length = _direction(axis)
    normal_first, normal_last = np.cross(to_first, axis), np.cross(to_last, axis)
    lever_first = normal_first / (normal_first**2).sum(axis=1, keepdims=True)
    lever_last = normal_last / (normal_last**2).sum(axis=1, keepdims=True)
    by_first, by_last = -length * lever_first, length * lever_last
    shift = (to_first * axis).sum(axis=1, keepdims=True) / length * lever_first
    shift -= (to_last * axis).sum(axis=1, keepdims=True) / length * lever_last
    gradient = np.stack([by_first, shift - by_first, -shift - by_last, by_last], axis=1)
    return _Springs(atoms=atoms, force_constant=force_constant, gradient=gradient)


def _torsion_list(
    closeness: Float[np.ndarray, "natoms natoms"],
) -> tuple[Integer[np.ndarray, "nsprings 4"], Float[np.ndarray, " nsprings"]]:
    """The atoms i, j < k, l of the torsions that matter, and their force constants."""
    reach = closeness.max(initial=0.0)
    chains = closeness[:, :, None] * np.triu(closeness)[None, :, :]
    chains[np.arange(len(closeness)), :, np.arange(len(closeness))] = 0.0
    i, j, k = np.nonzero(_TORSION_HARTREE * chains * reach > _NEGLIGIBLE)
    force_constants = _TORSION_HARTREE * chains[i, j, k, None] * closeness[k]
    force_constants[np.arange(len(i)), i] = 0.0
    force_constants[np.arange(len(i)), j] = 0.0
    chain, last = np.nonzero(force_constants > _NEGLIGIBLE)
    atoms = np.stack([i[chain], j[chain], k[chain], last], axis=1)
    return atoms, force_constants[chain, last]


def _assemble(springs: _Springs, natoms: int) -> Float[np.ndarray, "ncoordinates ncoordinates"]:
    """Σ_q k_q (∂q/∂R)(∂q/∂R)ᵀ."""
    nsprings, nmembers = springs.atoms.shape
    size = 3 * natoms
    rows = (3 * springs.atoms[:, :, None] + np.arange(3)).reshape(nsprings, 3 * nmembers)
    gradient = springs.gradient.reshape(nsprings, 3 * nmembers)
    blocks = (springs.force_constant[:, None] * gradient)[:, :, None] * gradient[:, None, :]
    elements = size * rows[:, :, None] + rows[:, None, :]
    total: np.ndarray = np.bincount(elements.ravel(), blocks.ravel(), minlength=size**2)
    # Without any spring, bincount counts in integers.
    return total.reshape(size, size).astype(float)


def _angle_gradient(
    first: Float[np.ndarray, "nsprings 3"], last: Float[np.ndarray, "nsprings 3"]
) -> Float[np.ndarray, "nsprings 3 3"]:
    """Gradient of a bend by its three atoms, from those by the outer two."""
    return np.stack([first, -first - last, last], axis=1)


def _opening_direction(
    first: Float[np.ndarray, "nsprings 3"], last: Float[np.ndarray, "nsprings 3"]
) -> Float[np.ndarray, "nsprings 3"]:
    """Unit vector across ``first`` and away from ``last``; any one across where the two align."""
    across = (first * last).sum(axis=1, keepdims=True) * first - last
    aligned = np.linalg.norm(across, axis=1) < 1e-8
    least = np.eye(3)[np.abs(first[aligned]).argmin(axis=1)]
    across[aligned] = np.cross(first[aligned], least)
    return _direction(across)[0]


def _direction(
    vectors: Float[np.ndarray, "nvectors 3"],
) -> tuple[Float[np.ndarray, "nvectors 3"], Float[np.ndarray, "nvectors 1"]]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths, lengths


def _cosine(
    first: Float[np.ndarray, "nvectors 3"], second: Float[np.ndarray, "nvectors 3"]
) -> Float[np.ndarray, " nvectors"]:
    cosine: np.ndarray = (_direction(first)[0] * _direction(second)[0]).sum(axis=1)
    return cosine


def _linearity(cosine: Float[np.ndarray, " nsprings"]) -> Float[np.ndarray, " nsprings"]:
    """Zero for a bent angle, one for a linear one (0° or 180°), with a smooth step between."""
    way = np.clip((np.abs(cosine) - _COSINE_BENT) / (_COSINE_LINEAR - _COSINE_BENT), 0.0, 1.0)
    step: np.ndarray = way**2 * (3 - 2 * way)
    return step
