"""The model Hessian and its mobility: springs by finite differences, symmetry, decorrelation."""

import numpy as np
import pytest
from ase.build import molecule
from ase.units import Bohr

from ase_srdft.sampling import lindh_mobility
from ase_srdft.sampling.integrators import LeimkuhlerMatthews, Mobility
from ase_srdft.sampling.lindh_mobility import (
    mobility,
    mobility_square_root,
    model_hessian,
    rigid_motions,
)


def geometry(name, stretch=0.0, seed=0):
    """Numbers and positions in Bohr, displaced at random by ``stretch``."""
    atoms = molecule(name)
    noise = np.random.default_rng(seed).standard_normal(atoms.positions.shape)
    return atoms.numbers, atoms.positions / Bohr + stretch * noise


def rotation(seed=0):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return matrix * np.linalg.det(matrix)


def internal_coordinate(points):
    """Distance, angle or torsion of two, three or four points, by their textbook definitions."""
    first, last = points[0] - points[1], points[-1] - points[-2]
    if len(points) == 2:
        return np.linalg.norm(first)
    if len(points) == 3:
        return np.arctan2(np.linalg.norm(np.cross(first, last)), first @ last)
    axis = (points[2] - points[1]) / np.linalg.norm(points[2] - points[1])
    across_first, across_last = first - (first @ axis) * axis, last - (last @ axis) * axis
    return np.arctan2(np.cross(axis, across_first) @ across_last, across_first @ across_last)


def finite_difference(atoms, positions, step=1e-4):
    gradient = np.zeros((len(atoms), 3))
    for member in range(len(atoms)):
        for axis in range(3):
            values = []
            for sign in (1, -1):
                points = positions[atoms].copy()
                points[member, axis] += sign * step
                values.append(internal_coordinate(points))
            change = (values[0] - values[1] + np.pi) % (2 * np.pi) - np.pi
            gradient[member, axis] = change / (2 * step)
    return gradient


@pytest.mark.parametrize("kind", ["_stretches", "_bends", "_torsions"])
def test_gradients_of_the_coordinates_by_finite_differences(kind):
    numbers, positions = geometry("CH3CH2OH", stretch=0.1)
    closeness = lindh_mobility._closeness(numbers, positions)
    springs = getattr(lindh_mobility, kind)(closeness, positions)
    assert len(springs.atoms) > 20
    checked = 0
    for atoms, gradient in zip(springs.atoms, springs.gradient, strict=True):
        cosines = [
            np.cos(internal_coordinate(positions[atoms[start : start + 3]]))
            for start in range(len(atoms) - 2)
        ]
        if any(abs(cosine) > 0.94 for cosine in cosines):
            continue  # a linear angle is another coordinate
        checked += 1
        np.testing.assert_allclose(gradient, finite_difference(atoms, positions), atol=1e-6)
    assert checked > 20


def test_force_constants_of_water_by_hand():
    numbers, positions = geometry("H2O")
    bond = np.linalg.norm(positions[1] - positions[0])
    distance = np.linalg.norm(positions[1] - positions[2])
    oh = np.exp(0.3949 * (2.10**2 - bond**2))
    hh = np.exp(1.0 * (1.35**2 - distance**2))
    closeness = lindh_mobility._closeness(numbers, positions)
    stretches = lindh_mobility._stretches(closeness, positions)
    bends = lindh_mobility._bends(closeness, positions)
    assert stretches.atoms.tolist() == [[0, 1], [0, 2], [1, 2]]
    np.testing.assert_allclose(stretches.force_constant, 0.45 * np.array([oh, oh, hh]))
    by_centre = dict(zip(bends.atoms[:, 1].tolist(), bends.force_constant, strict=True))
    np.testing.assert_allclose(by_centre[0], 0.15 * oh * oh)
    np.testing.assert_allclose(by_centre[1], 0.15 * oh * hh)


def test_torsions_of_hydrogen_peroxide_by_hand():
    numbers, positions = geometry("H2O2")
    closeness = lindh_mobility._closeness(numbers, positions)
    torsions = lindh_mobility._torsions(closeness, positions)
    oxygen, hydrogen = np.flatnonzero(numbers == 8), np.flatnonzero(numbers == 1)
    oo = np.exp(0.28 * (2.87**2 - np.linalg.norm(positions[oxygen[0]] - positions[oxygen[1]]) ** 2))
    oh = [
        np.exp(0.3949 * (2.10**2 - np.linalg.norm(positions[o] - positions[h]) ** 2))
        for o in oxygen
        for h in hydrogen
    ]
    found = {
        tuple(atoms): k
        for atoms, k in zip(torsions.atoms.tolist(), torsions.force_constant, strict=True)
        if set(atoms[1:3]) == set(oxygen)
    }
    bonded = max(found, key=found.get)
    assert found[bonded] == pytest.approx(0.005 * oo * max(oh) ** 2, rel=1e-3)


@pytest.mark.parametrize("name", ["CH3CH2OH", "H2O", "CO2", "C2H2", "CH3CN", "H2", "C6H6"])
def test_hessian_is_symmetric_positive_and_blind_to_rigid_motions(name):
    numbers, positions = geometry(name)
    hessian = model_hessian(numbers, positions)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-13)
    eigenvalues = np.linalg.eigvalsh(hessian)
    nrigid = 5 if name in ("CO2", "C2H2", "H2") else 6
    assert rigid_motions(positions).shape[1] == nrigid
    assert abs(eigenvalues[:nrigid]).max() < 1e-6
    assert eigenvalues[nrigid] > 1e-3  # every internal motion has a spring
    np.testing.assert_allclose(hessian @ rigid_motions(positions), 0, atol=1e-6)


@pytest.mark.parametrize("name", ["CH3CH2OH", "CO2", "CH3CN"])
@pytest.mark.parametrize("stretch", [0.0, 0.1])
def test_hessian_and_mobility_turn_with_the_molecule(name, stretch):
    numbers, positions = geometry(name, stretch)
    turn = rotation()
    order = np.random.default_rng(1).permutation(len(numbers))
    turned = (positions @ turn.T + 3.0)[order]
    whole = np.kron(np.eye(len(numbers))[order], turn)
    for function in (model_hessian, mobility):
        reference = function(numbers, positions)
        moved = function(numbers[order], turned)
        assert np.abs(reference).max() > 0.5
        np.testing.assert_allclose(moved, whole @ reference @ whole.T, atol=1e-8)


def test_an_angle_becomes_linear_smoothly():
    """H-C-N from bent to straight: the Hessian has no jump, the coordinates change kind."""
    numbers = np.array([1, 6, 7])

    def bent(degrees):
        angle = np.radians(degrees)
        ends = [[2.0 * np.cos(angle), 2.0 * np.sin(angle), 0], [0, 0, 0], [2.2, 0, 0]]
        return model_hessian(numbers, np.array(ends))

    hessians = np.array([bent(degrees) for degrees in np.linspace(150, 180, 601)])
    assert np.abs(hessians[0] - hessians[-1]).max() > 0.05
    assert np.abs(np.diff(hessians, axis=0)).max() < 0.01
    bends = np.linalg.eigvalsh(hessians[-1])[5:7]
    assert bends[0] == pytest.approx(bends[1], rel=1e-9)
    assert bends[0] > 0.05


@pytest.mark.parametrize("name", ["CH3CH2OH", "H2O", "CO2", "C2H2", "H2", "H"])
def test_mobility_projects_out_rigid_motions(name):
    numbers, positions = geometry(name)
    rigid = rigid_motions(positions)
    matrix = mobility(numbers, positions, floor=0.02)
    np.testing.assert_allclose(matrix @ rigid, 0, atol=1e-10)
    assert np.linalg.matrix_rank(matrix, tol=1e-8) == 3 * len(numbers) - rigid.shape[1]
    root = mobility_square_root(numbers, positions, floor=0.02)
    np.testing.assert_allclose(root, root.T, atol=1e-12)
    np.testing.assert_allclose(root @ root, matrix, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > -1e-10


def test_mobility_is_the_inverse_with_a_floor():
    numbers, positions = geometry("CH3CH2OH")
    rigid = rigid_motions(positions)
    projector = np.eye(27) - rigid @ rigid.T
    inverse = np.linalg.inv(model_hessian(numbers, positions) + 0.02 * np.eye(27))
    expected = projector @ inverse @ projector
    assert np.abs(expected).max() > 5
    np.testing.assert_allclose(mobility(numbers, positions, floor=0.02), expected, atol=2e-5)
    # No mode is more mobile than the floor allows.
    assert np.linalg.eigvalsh(expected).max() < 1 / 0.02


def test_rigid_motions_are_those_of_the_molecule():
    """Turning or moving the molecule by little stays in their span, bending does not."""
    _, positions = geometry("CH3CH2OH")
    rigid = rigid_motions(positions)
    np.testing.assert_allclose(rigid.T @ rigid, np.eye(6), atol=1e-12)
    turn = np.cross([1e-3, -2e-3, 3e-3], positions).ravel()
    shift = np.tile([0.1, 0.2, 0.3], 9)
    for motion in (turn, shift):
        assert np.linalg.norm(motion) > 1e-3
        np.testing.assert_allclose(rigid @ (rigid.T @ motion), motion, atol=1e-12)
    bend = np.random.default_rng(2).standard_normal(27)
    assert np.linalg.norm(bend - rigid @ (rigid.T @ bend)) > 1


def test_a_slightly_bent_molecule_counts_as_linear():
    _, positions = geometry("CO2")
    positions = positions.copy()
    positions[0, 1] += 0.2
    assert rigid_motions(positions).shape[1] == 5


@pytest.mark.parametrize("floor", [0.0, -0.1, float("nan")])
def test_a_floor_that_is_none_is_refused(floor):
    numbers, positions = geometry("H2O")
    with pytest.raises(ValueError, match=r"floor is .* Hartree/Bohr²; it must be positive"):
        mobility(numbers, positions, floor=floor)


def test_every_mode_decorrelates_alike():
    """An ill-conditioned harmonic model, off the preconditioner's by up to a factor of two.

    With M = 1 the step is bound by the stiffest mode and the softest hardly moves; with the
    mobility it forgets its start within a few steps.  Both sample the same variance.
    """
    numbers, positions = geometry("CH3CH2OH")
    rng = np.random.default_rng(3)
    rigid = rigid_motions(positions)
    projector = np.eye(27) - rigid @ rigid.T
    curvatures, modes = np.linalg.eigh(projector @ model_hessian(numbers, positions) @ projector)
    curvatures *= np.where(np.arange(27) < 6, 0.0, rng.uniform(0.5, 2.0, 27))
    hessian = modes * curvatures @ modes.T
    curvatures, modes = np.linalg.eigh(hessian)
    softest, stiffest = curvatures[6], curvatures[-1]
    assert stiffest / softest > 100
    thermal_energy, nwalkers = 0.0016, 3000

    def potential(points):
        flat = (points - positions).reshape(len(points), 27)
        forces = -flat @ hessian
        return -0.5 * (flat * forces).sum(axis=1), forces.reshape(points.shape)

    def correlation(step_size, mobility_of_walkers, nsteps):
        """Of the softest mode with its start, which is drawn from equilibrium."""
        amplitudes = np.zeros((nwalkers, 27))
        amplitudes[:, 6:] = rng.standard_normal((nwalkers, 21)) * np.sqrt(
            thermal_energy / curvatures[6:]
        )
        start = positions + (amplitudes @ modes.T).reshape(nwalkers, 9, 3)
        integrator = LeimkuhlerMatthews(
            step_size=step_size, thermal_energy=thermal_energy, mobility=mobility_of_walkers
        )
        state = integrator.init(start, potential, rng)
        for _ in range(nsteps):
            state = integrator.step(state, potential, rng)
        before = (start - positions).reshape(nwalkers, 27) @ modes[:, 6]
        after = (state.positions - positions).reshape(nwalkers, 27) @ modes[:, 6]
        variance = thermal_energy / softest
        assert after.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / nwalkers))
        return (before * after).mean() / variance

    root = mobility_square_root(numbers, positions, floor=0.005)
    plain = correlation(1 / stiffest, Mobility.identity(), 10)
    preconditioned = correlation(0.5, Mobility(square_root=root), 10)
    assert plain > 0.85
    assert abs(preconditioned) < 0.25
