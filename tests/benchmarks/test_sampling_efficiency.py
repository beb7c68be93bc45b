"""What ``benchmarks/sampling_efficiency.py`` measures is what it says."""

from functools import partial

import numpy as np
import pytest
import sampling_efficiency
from ase.build import molecule

from ase_srdft.common.connectivity import bond_matrix
from ase_srdft.sampling.integrators import LeimkuhlerMatthews


def autoregressive(rho, nsteps, nwalkers=6):
    rng = np.random.default_rng(0)
    series = rng.standard_normal((nsteps, nwalkers))
    for step in range(1, nsteps):
        series[step] = rho * series[step - 1] + np.sqrt(1 - rho**2) * series[step]
    return series


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_inefficiency_of_an_autoregressive_process(rho):
    memory = sampling_efficiency.inefficiency(autoregressive(rho, 8000))
    assert memory.seen
    assert memory.calls == pytest.approx((1 + rho) / (1 - rho), rel=0.2)


def test_a_run_too_short_says_so():
    memory = sampling_efficiency.inefficiency(autoregressive(0.98, 400))
    assert not memory.seen
    assert str(memory).startswith(">")
    assert memory.per_thousand.startswith("<")


def test_a_slow_amplitude_is_not_hidden_by_a_fast_swing():
    amplitude = 1.0 + 0.5 * autoregressive(0.95, 8000)
    swing = amplitude * np.cos(0.7 * np.arange(8000))[:, None]
    assert sampling_efficiency.inefficiency(swing).calls < 5
    assert sampling_efficiency.slower(swing).calls > 10


def test_torsions_are_those_of_ase():
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=1)
    positions = atoms.positions[None, None]
    phases = sampling_efficiency.torsions(positions, bond_matrix(atoms.numbers, atoms.positions))
    angles = sorted(np.degrees(np.angle(phase.item())) % 360 for phase in phases)
    hydrogens = [i for i in range(6) if i != 3 and atoms.numbers[i] == 1]
    assert len(angles) == len(hydrogens) == 3
    expected = sorted(atoms.get_dihedral(hydrogen, 0, 1, 3) for hydrogen in hydrogens)
    np.testing.assert_allclose(angles, expected, atol=1e-8)


@pytest.mark.slow
def test_the_table_has_a_row_for_every_scheme(capsys):
    sampling_efficiency.main(["--molecule", "H2O", "--force-calls", "24", "--walkers", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-4:]] == [
        "overdamped",
        "metropolis",
        "identity",
        "langevin",
    ]


def test_a_scheme_is_made_anew_where_the_walkers_are():
    made = []

    def integrator_at(positions):
        made.append(positions)
        return LeimkuhlerMatthews(step_size=0.1, thermal_energy=1.0)

    start = np.zeros((2, 3, 3))
    walk = partial(sampling_efficiency.walk, integrator_at, 2)
    scheme = sampling_efficiency.Scheme(name="well", walk=walk)
    ncalls = []

    def well(positions):
        ncalls.append(len(positions))
        return 0.5 * (positions**2).sum((1, 2)), -positions

    run = sampling_efficiency.simulate(scheme, start, well, 5, seed=0)
    assert ncalls == [2] * 6  # one at the start
    assert run.positions.shape == (5, 2, 3, 3)
    assert run.acceptance == 1.0
    places = [start, start, run.positions[1], run.positions[3]]
    np.testing.assert_array_equal(made, places)
    assert abs(run.positions[3] - run.positions[1]).min() > 0
