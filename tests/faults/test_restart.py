"""A synchronous run that was killed and started again is the undisturbed one, to the last bit.

benchmarks/paper/NOTEBOOK.md has the same for ethanol, where this takes minutes.
"""

import ase.io
import numpy as np
import pytest

from tests.tools.processes import PATIENCE, Run, checkpoint, wait_for

pytestmark = pytest.mark.slow

STEPS = 1200
#: After checkpoints, which are made when new weights go out and take 2 % of the time at most.
KILL_AT = (500, 1000)
ARGUMENTS = ["water.xyz", "--engine", "sync", "--steps", str(STEPS), "--threads", "1"]
#: Sampling from step 50 on.
SETTINGS = "level: {basis: sto-3g}\nsafe_width_mEh: 50.0\nvalidate_every: 200\n"


def killed_at(step, arguments, directory):
    """Start a run, or go on with it, up to a step, and kill all of its processes there."""
    run = Run(arguments, directory)
    wait_for(lambda: run.last_step() >= step, PATIENCE, f"step {step}")
    run.kill(run.everyone())
    run.process.wait(PATIENCE)
    return checkpoint(directory)[1]["step"]


def finished(arguments, directory):
    """Run to the end; arrays and record of the checkpoint, seconds left out, and the samples."""
    run = Run(arguments, directory)
    assert run.process.wait(3 * PATIENCE) == 0, run.log()
    arrays, record = checkpoint(directory)
    record["counters"].pop("elapsed")
    return arrays, record, ase.io.read(directory / "samples.traj", ":")


def test_a_killed_synchronous_run_is_the_undisturbed_one(folder):
    (folder / "settings.yaml").write_text(SETTINGS)
    arguments = [*ARGUMENTS, "--config", "settings.yaml"]
    arrays, record, frames = finished(arguments, folder / "whole")
    steps = [killed_at(step, arguments, folder / "killed") for step in KILL_AT]
    assert 0 < steps[0] < steps[1] < STEPS
    others, other_record, others_frames = finished(arguments, folder / "killed")
    assert arrays.keys() == others.keys()
    different = [name for name in arrays if not np.array_equal(arrays[name], others[name])]
    assert different == []
    assert record == other_record
    assert len(frames) == len(others_frames) > 0
    for one, other in zip(frames, others_frames, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        assert one.get_potential_energy() == other.get_potential_energy()
        assert one.info == other.info
