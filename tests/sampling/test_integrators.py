"""Integrators: exact moments, order of convergence, detailed balance, restart."""

import io
from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from ase_srdft.sampling.integrators import (
    BAOAB,
    BAOABState,
    LeimkuhlerMatthews,
    LeimkuhlerMatthewsState,
    MetropolisLangevin,
    Mobility,
)

SPRING = 2.5
THERMAL_ENERGY = 0.7
MASSES = np.array([3.0])


def harmonic(positions):
    return SPRING / 2 * (positions**2).sum(axis=(1, 2)), -SPRING * positions


def anharmonic(positions):
    """Independent wells 0.15 x² + 2 ln cosh x: anharmonic, yet stable for any start."""
    energy = (0.15 * positions**2 + 2 * np.log(np.cosh(positions))).sum(axis=(1, 2))
    return energy, -(0.3 * positions + 2 * np.tanh(positions))


def anharmonic_average(observable, thermal_energy):
    points = np.linspace(-40, 40, 40001)
    energy = 0.15 * points**2 + 2 * np.logaddexp(points, -points)
    weights = np.exp(-(energy - energy.min()) / thermal_energy)
    return (observable(points) * weights).sum() / weights.sum()


def random_mobility(rng, size=6, rank=6):
    factor = rng.standard_normal((size, rank))
    return factor @ factor.T / size


def schemes(step_size=0.3, natoms=1, mobility=None):
    mobility = mobility or Mobility.identity()
    overdamped = {
        "step_size": step_size,
        "thermal_energy": THERMAL_ENERGY,
        "mobility": mobility,
    }
    return [
        LeimkuhlerMatthews(**overdamped),
        MetropolisLangevin(**overdamped),
        BAOAB(
            timestep=2 * step_size,
            thermal_energy=THERMAL_ENERGY,
            friction=1.0,
            masses=np.full(natoms, MASSES[0]),
        ),
    ]


class Scripted(np.random.Generator):
    """A generator whose normal numbers are the given ones."""

    def __init__(self, value):
        super().__init__(np.random.PCG64(0))
        self.value = value

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return np.array(np.broadcast_to(self.value, size), dtype=float)


def run(integrator, positions, potential, rng, nsteps, observable, nskip=0):
    """Average over the steps after the first ``nskip``, per walker."""
    state = integrator.init(positions, potential, rng)
    total = 0.0
    for step in range(nsteps):
        state = integrator.step(state, potential, rng)
        if step >= nskip:
            total = total + observable(state.positions).mean(axis=(1, 2))
    return total / (nsteps - nskip)


@pytest.mark.parametrize("step_size", [0.01, 0.3, 0.7])
def test_leimkuhler_matthews_variance_is_exact_in_a_harmonic_well(step_size):
    """The step is linear, x' = a x + b ξ + c ξ'; its stationary variance in closed form."""
    integrator = LeimkuhlerMatthews(step_size=step_size, thermal_energy=THERMAL_ENERGY)

    def next_position(x, noise, next_noise):
        point = np.full((1, 1, 3), float(x))
        energy, forces = harmonic(point)
        state = LeimkuhlerMatthewsState(
            positions=point, energy=energy, forces=forces, noise=np.full((1, 1, 3), float(noise))
        )
        return integrator.step(state, harmonic, Scripted(next_noise)).positions[0, 0, 0]

    a, b, c = next_position(1, 0, 0), next_position(0, 1, 0), next_position(0, 0, 1)
    assert a == pytest.approx(1 - step_size * SPRING)
    variance = (b**2 + c**2 + 2 * a * b * c) / (1 - a**2)
    assert variance == pytest.approx(THERMAL_ENERGY / SPRING, rel=1e-12)


@pytest.mark.parametrize("timestep", [0.05, 0.6, 1.5])
def test_baoab_variance_is_exact_in_a_harmonic_well(timestep):
    integrator = BAOAB(
        timestep=timestep, thermal_energy=THERMAL_ENERGY, friction=0.4, masses=MASSES
    )

    def step(x, v, noise):
        point = np.full((1, 1, 3), float(x))
        energy, forces = harmonic(point)
        state = BAOABState(
            positions=point,
            energy=energy,
            forces=forces,
            velocities=np.full((1, 1, 3), float(v)),
        )
        state = integrator.step(state, harmonic, Scripted(noise))
        return np.array([state.positions[0, 0, 0], state.velocities[0, 0, 0]])

    propagator = np.stack([step(1, 0, 0), step(0, 1, 0)], axis=1)
    noise = step(0, 0, 1)
    # The stationary covariance C = A C Aᵀ + n nᵀ as a linear system.
    system = np.eye(4) - np.kron(propagator, propagator)
    covariance = np.linalg.solve(system, np.outer(noise, noise).ravel()).reshape(2, 2)
    assert covariance[0, 0] == pytest.approx(THERMAL_ENERGY / SPRING, rel=1e-12)


@pytest.mark.parametrize("integrator", schemes(), ids=lambda scheme: type(scheme).__name__)
def test_equipartition_in_a_harmonic_well(integrator):
    """The walkers are independent, so the spread of their averages is the statistical error."""
    rng = np.random.default_rng(1)
    averages = run(integrator, np.zeros((400, 1, 3)), harmonic, rng, 500, lambda x: x**2, nskip=50)
    error = averages.std(ddof=1) / np.sqrt(len(averages))
    assert 0 < error < 0.02 * THERMAL_ENERGY / SPRING
    assert averages.mean() == pytest.approx(THERMAL_ENERGY / SPRING, abs=3 * error)


def test_baoab_velocities_are_thermal():
    rng = np.random.default_rng(2)
    integrator = schemes(step_size=0.05)[2]
    state = integrator.init(np.zeros((4000, 1, 3)), harmonic, rng)
    for _ in range(100):
        state = integrator.step(state, harmonic, rng)
    kinetic = MASSES[0] * (state.velocities**2).mean(axis=(1, 2))
    error = kinetic.std() / np.sqrt(len(kinetic))
    assert kinetic.mean() == pytest.approx(THERMAL_ENERGY, abs=3 * error)


class EulerMaruyama(LeimkuhlerMatthews):
    """The scheme of first order, for contrast."""

    def step(self, state, energy_and_forces, rng):
        noise = rng.standard_normal(state.positions.shape)
        amplitude = np.sqrt(2 * self.thermal_energy * self.step_size)
        moved = state.positions + self.step_size * state.forces + amplitude * noise
        return replace(state, positions=moved).refresh(energy_and_forces)


def one_step(integrator, positions, noise, next_noise):
    """Where a one-dimensional step leads from each of ``positions``."""
    points = np.zeros((positions.size, 1, 3))
    points[:, 0, 0] = positions.ravel()
    energy, forces = anharmonic(points)
    state = LeimkuhlerMatthewsState(
        positions=points,
        energy=energy,
        forces=forces,
        noise=np.broadcast_to(noise.ravel()[:, None, None], points.shape),
    )
    rng = Scripted(next_noise.ravel()[:, None, None])
    return integrator.step(state, anharmonic, rng).positions[:, 0, 0].reshape(positions.shape)


def stationary_average(integrator, observable):
    """The average of a long run, without its statistical error.

    Both schemes are Markov chains in y that are seen at x(y, ξ).  Averages over ξ by quadrature
    give the expected observable n steps ahead of each y, for large n the stationary average.
    """
    grid = np.linspace(-9, 9, 301)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    noise = np.broadcast_to(nodes, (len(grid), len(nodes)))
    if isinstance(integrator, EulerMaruyama):
        seen = np.broadcast_to(grid[:, None], noise.shape)
        ahead = one_step(integrator, seen, 0 * noise, noise)
    else:
        seen = grid[:, None] + np.sqrt(2 * integrator.step_size) / 2 * noise
        ahead = one_step(integrator, seen, noise, 0 * noise)
    expected = observable(seen) @ weights
    for _ in range(int(30 / integrator.step_size)):
        expected = CubicSpline(grid, expected)(ahead.clip(grid[0], grid[-1])) @ weights
    assert np.ptp(expected) < 1e-7
    return expected.mean()


@pytest.mark.parametrize(("scheme", "order"), [(LeimkuhlerMatthews, 2), (EulerMaruyama, 1)])
def test_order_of_the_stationary_bias(scheme, order):
    """Halving the step divides the error of an average by 2 to the order."""

    def observable(x):
        return np.cos(2 * x)

    exact = anharmonic_average(observable, 1.0)
    errors = [
        abs(stationary_average(scheme(step_size=h, thermal_energy=1.0), observable) - exact)
        for h in (0.05, 0.025)
    ]
    assert errors[1] > 1e-5
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_metropolis_has_no_bias_at_a_step_where_the_others_have():
    thermal_energy, step_size = 0.5, 0.8
    exact = anharmonic_average(lambda x: x**2, thermal_energy)
    deviations = []
    for scheme in (MetropolisLangevin, EulerMaruyama):
        averages = run(
            scheme(step_size=step_size, thermal_energy=thermal_energy),
            np.zeros((2000, 1, 3)),
            anharmonic,
            np.random.default_rng(4),
            300,
            lambda x: x**2,
            nskip=50,
        )
        error = averages.std(ddof=1) / np.sqrt(len(averages))
        deviations.append((averages.mean() - exact) / error)
    assert abs(deviations[0]) < 3
    assert abs(deviations[1]) > 20


def test_metropolis_acceptance_is_that_of_the_proposal_densities():
    rng = np.random.default_rng(5)
    matrix = random_mobility(rng)
    integrator = MetropolisLangevin(
        step_size=0.4, thermal_energy=0.6, mobility=Mobility.from_matrix(matrix)
    )
    state = integrator.init(rng.standard_normal((5, 2, 3)), anharmonic, rng)
    noise = rng.standard_normal((5, 2, 3))
    move = 0.4 * state.forces + np.linalg.solve(
        matrix,
        np.sqrt(2 * 0.6 * 0.4) * integrator.mobility.apply_square_root(noise).reshape(5, 6).T,
    ).T.reshape(5, 2, 3)
    proposal = state.positions + (move.reshape(5, 6) @ matrix).reshape(5, 2, 3)
    energy, forces = anharmonic(proposal)

    def log_density(to, start, force):
        rest = (to - start).reshape(5, 6) - 0.4 * force.reshape(5, 6) @ matrix
        return -(rest * np.linalg.solve(matrix, rest.T).T).sum(axis=1) / (4 * 0.6 * 0.4)

    expected = (
        (state.energy - energy) / 0.6
        + log_density(state.positions, proposal, forces)
        - log_density(proposal, state.positions, state.forces)
    )
    assert np.abs(expected).min() > 1e-3
    found = integrator._log_acceptance(state, energy, forces, noise)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_metropolis_refuses_a_proposal_without_energy():
    def defined_on_the_right(positions):
        energy, forces = harmonic(positions)
        outside = positions.min(axis=(1, 2)) < 0
        return np.where(outside, np.nan, energy), np.where(outside[:, None, None], np.nan, forces)

    rng = np.random.default_rng(6)
    integrator = schemes()[1]
    state = integrator.init(np.full((50, 1, 3), 0.5), defined_on_the_right, rng)
    accepted = []
    for _ in range(20):
        state = integrator.step(state, defined_on_the_right, rng)
        accepted.append(state.accepted.mean())
    assert 0 < np.mean(accepted) < 0.9
    assert (state.positions > 0).all()
    assert np.isfinite(state.energy).all()
    assert np.isfinite(state.forces).all()


def test_any_mobility_samples_the_same_distribution():
    """The covariance of a coupled harmonic model is kT times the inverse of its Hessian."""
    rng = np.random.default_rng(7)
    hessian = random_mobility(rng) + np.eye(6)

    def coupled(positions):
        flat = positions.reshape(len(positions), 6)
        return 0.5 * (flat * (flat @ hessian)).sum(axis=1), -(flat @ hessian).reshape(-1, 2, 3)

    mobility = Mobility.from_matrix(random_mobility(rng) + 0.2 * np.eye(6))
    for integrator in schemes(step_size=0.15, mobility=mobility)[:2]:
        state = integrator.init(np.zeros((20000, 2, 3)), coupled, rng)
        for _ in range(60):
            state = integrator.step(state, coupled, rng)
        flat = state.positions.reshape(-1, 6)
        products = flat[:, :, None] * flat[:, None, :]
        error = products.std(axis=0) / np.sqrt(len(flat))
        deviation = (products.mean(axis=0) - THERMAL_ENERGY * np.linalg.inv(hessian)) / error
        assert np.abs(deviation).max() < 4  # the largest of 21 numbers


@pytest.mark.parametrize("scheme", [LeimkuhlerMatthews, MetropolisLangevin])
def test_directions_without_mobility_do_not_move(scheme):
    rng = np.random.default_rng(8)
    matrix = random_mobility(rng, rank=4)
    still = np.linalg.svd(matrix)[0][:, 4:]
    integrator = scheme(
        step_size=0.3, thermal_energy=THERMAL_ENERGY, mobility=Mobility.from_matrix(matrix)
    )
    start = rng.standard_normal((4, 2, 3))
    state = integrator.init(start, harmonic, rng)
    for _ in range(10):
        state = integrator.step(state, harmonic, rng)
    moved = (state.positions - start).reshape(4, 6)
    assert np.linalg.norm(moved, axis=1).min() > 0.1
    np.testing.assert_allclose(moved @ still, 0, atol=1e-6)


def test_baoab_with_infinite_friction_is_leimkuhler_matthews():
    """With h M = Δt²/2m, step for step, from the same random numbers."""
    natoms, timestep = 2, 0.8
    masses = np.array([1.0, 4.0])
    heavy = BAOAB(timestep=timestep, thermal_energy=THERMAL_ENERGY, friction=1e4, masses=masses)
    light = LeimkuhlerMatthews(
        step_size=timestep**2 / 2,
        thermal_energy=THERMAL_ENERGY,
        mobility=Mobility.from_matrix(np.repeat(1 / masses, 3)),
    )
    start = np.random.default_rng(9).standard_normal((3, natoms, 3))
    rngs = [np.random.default_rng(10), np.random.default_rng(10)]
    inertial = heavy.init(start, anharmonic, rngs[0])
    kick = timestep / 2 * inertial.forces / masses[:, None]
    inertial = replace(inertial, velocities=inertial.velocities + kick)
    overdamped = light.init(start, anharmonic, rngs[1])
    for _ in range(20):
        inertial = heavy.step(inertial, anharmonic, rngs[0])
        overdamped = light.step(overdamped, anharmonic, rngs[1])
    assert np.abs(overdamped.positions - start).max() > 0.1
    np.testing.assert_allclose(inertial.positions, overdamped.positions, rtol=1e-10)


@pytest.mark.parametrize("integrator", schemes(), ids=lambda scheme: type(scheme).__name__)
def test_restart_is_bit_identical_and_a_step_costs_one_force_call(integrator):
    calls = []

    def counted(positions):
        calls.append(len(positions))
        return anharmonic(positions)

    rng = np.random.default_rng(11)
    state = integrator.init(np.ones((3, 1, 3)), counted, rng)
    for _ in range(5):
        state = integrator.step(state, counted, rng)
    assert calls == [3] * 6
    stored = io.BytesIO()
    np.savez(stored, **state.to_arrays())
    generator_state = rng.bit_generator.state
    stored.seek(0)
    again = type(state).from_arrays(dict(np.load(stored)))
    rng_again = np.random.default_rng()
    rng_again.bit_generator.state = generator_state
    for _ in range(5):
        state = integrator.step(state, counted, rng)
        again = integrator.step(again, counted, rng_again)
    for name, array in state.to_arrays().items():
        np.testing.assert_array_equal(array, again.to_arrays()[name], err_msg=name)


def test_arrays_of_another_scheme_are_refused():
    rng = np.random.default_rng(12)
    overdamped, metropolis, _ = schemes()
    arrays = metropolis.init(np.ones((3, 1, 3)), harmonic, rng).to_arrays()
    state = overdamped.init(np.ones((3, 1, 3)), harmonic, rng)
    with pytest.raises(ValueError, match=r"noise.*accepted"):
        type(state).from_arrays(arrays)


@pytest.mark.parametrize("integrator", schemes(), ids=lambda scheme: type(scheme).__name__)
def test_replaced_walkers_leave_the_others_alone(integrator):
    rng = np.random.default_rng(13)
    state = integrator.init(rng.standard_normal((4, 1, 3)), harmonic, rng)
    state = integrator.step(state, harmonic, rng)
    before = {name: array.copy() for name, array in state.to_arrays().items()}
    mask = np.array([False, True, False, True])
    fresh = integrator.init(np.full((2, 1, 3), 9.0), harmonic, rng)
    after = state.replace_walkers(mask, fresh)
    for name, array in after.to_arrays().items():
        np.testing.assert_array_equal(array[~mask], before[name][~mask])
        np.testing.assert_array_equal(array[mask], fresh.to_arrays()[name])
        np.testing.assert_array_equal(state.to_arrays()[name], before[name])
    with pytest.raises(ValueError, match="2 fresh walkers for 1"):
        state.replace_walkers(np.array([False, True, False, False]), fresh)


def test_refresh_takes_the_new_potential_and_moves_nothing():
    rng = np.random.default_rng(14)
    integrator = schemes()[0]
    state = integrator.init(rng.standard_normal((4, 1, 3)), harmonic, rng)
    refreshed = state.refresh(anharmonic)
    assert (refreshed.energy != state.energy).all()
    np.testing.assert_array_equal(refreshed.forces, anharmonic(state.positions)[1])
    np.testing.assert_array_equal(refreshed.positions, state.positions)
    np.testing.assert_array_equal(refreshed.noise, state.noise)


def test_a_broken_walker_stays_alone():
    def broken(positions):
        energy, forces = harmonic(positions)
        forces = forces.copy()
        forces[1] = np.nan
        return energy, forces

    for integrator in schemes():
        rngs = [np.random.default_rng(15), np.random.default_rng(15)]
        states = [
            integrator.init(np.ones((3, 1, 3)), potential, rng)
            for potential, rng in zip((harmonic, broken), rngs, strict=True)
        ]
        for _ in range(3):
            states[0] = integrator.step(states[0], harmonic, rngs[0])
            states[1] = integrator.step(states[1], broken, rngs[1])
        np.testing.assert_array_equal(states[0].positions[[0, 2]], states[1].positions[[0, 2]])


def test_one_mobility_per_walker():
    rng = np.random.default_rng(16)
    roots = [Mobility.from_matrix(random_mobility(rng)).square_root for _ in range(3)]
    vectors = rng.standard_normal((3, 2, 3))
    together = Mobility(square_root=np.stack(roots)).apply_square_root(vectors)
    for index, root in enumerate(roots):
        alone = Mobility(square_root=root).apply_square_root(vectors[index : index + 1])
        np.testing.assert_array_equal(together[index], alone[0])


def test_the_square_root_of_a_mobility():
    rng = np.random.default_rng(17)
    for matrix in (random_mobility(rng), random_mobility(rng, rank=3), rng.random(6)):
        found = Mobility.from_matrix(matrix)
        np.testing.assert_allclose(found.matrix, matrix, atol=1e-12)
    vectors = rng.standard_normal((2, 2, 3))
    np.testing.assert_array_equal(Mobility.identity().apply_square_root(vectors), vectors)
    diagonal = Mobility(square_root=np.arange(6.0)).apply_square_root(vectors)
    np.testing.assert_allclose(diagonal.reshape(2, 6), vectors.reshape(2, 6) * np.arange(6.0))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "transpose by up to 0.5"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "eigenvalue -1"),
        (np.array([1.0, -3.0]), "eigenvalue -3"),
    ],
)
def test_impossible_mobilities_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        Mobility.from_matrix(matrix)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_parameters_are_refused(value):
    with pytest.raises(ValueError, match=r"step_size is .*: use a positive number"):
        LeimkuhlerMatthews(step_size=value, thermal_energy=1.0)
    with pytest.raises(ValueError, match=r"thermal_energy is .*: use a positive number"):
        MetropolisLangevin(step_size=1.0, thermal_energy=value)
    with pytest.raises(ValueError, match=r"mass is .*: use a positive number"):
        BAOAB(timestep=1.0, thermal_energy=1.0, friction=1.0, masses=np.array([1.0, value])[1:])
