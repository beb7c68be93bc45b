"""What is shown of a run of dynamics, and how long it is said to take."""

import math

import pytest

from ase_srdft.calculator.certificate import Certificate
from ase_srdft.cli.dynamics_progress import DynamicsStatus
from ase_srdft.dynamics.dynamics_step import DynamicsStep


def step(number, path="corrected", temperature=310.0):
    certificate = Certificate(
        error=1e-6,
        force_error=1e-3,
        path=path,
        start="model",
        start_error=4.5e-4,
        builds=2,
        coarse_builds=3,
        model="organics",
        model_version=0,
        level="PBE/def2-svp",
    )
    return DynamicsStep(
        step=number,
        time_ps=number * 5e-4,
        temperature_K=temperature,
        energy_eV=-2000.0,
        certificate=certificate,
    )


def status_at(seconds_per_step, nsteps, first=0, **words):
    now = [0.0]
    status = DynamicsStatus(4000, 0.5, first, clock=lambda: now[0])
    for number in range(first, first + nsteps + 1):
        status.update(step(number, **words))
        now[0] += seconds_per_step
    return status


def test_a_line_tells_all_of_it():
    status = status_at(0.1, 100)
    status.update(step(101, path="scf"))
    assert status.line() == (
        "  3 %  0.051 of 2 ps  T 310 K  model alone 0.45 meV  corrected 99 %, scf 1 %  "
        "0.432 ns/day  10.0 steps/s  6:30 left"
    )
    words = [part.text for part in status.parts()]
    assert "  ".join(words) in status.line()
    assert len(words) == 5


def test_the_rate_is_that_of_the_last_minute():
    status = status_at(1.0, 100)
    assert status.rate == pytest.approx(1.0)
    assert status.seconds_left == pytest.approx(3900.0)


def test_what_is_not_known_is_left_out():
    status = DynamicsStatus(10, 0.5)
    assert status.line() == "  0 %  0.000 of 0.005 ps"
    assert status.seconds_left is None
    still = status_at(0.1, 3, temperature=math.nan)
    assert "T " not in still.line()
    assert still.seconds_left is None


def test_a_run_that_goes_on_counts_its_own_steps():
    status = status_at(0.5, 10, first=2000)
    assert status.share == pytest.approx(0.5025)
    assert status.rate == pytest.approx(2.0)
    assert status.seconds_left == pytest.approx(995.0)
