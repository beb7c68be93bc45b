"""A run of the engine ``local`` that is killed at random instants, again and again, loses nothing.

One test for each of sampler, trainer and main process, which gets SIGKILL, start-up included.  A
run that ends is started again by the same command, as a user would; one that mends itself is left
alone.  How often is set by ASE_SRDFT_KILLS; docs/results/kills.md has the table of twenty.
"""

import os
import random
import time
from pathlib import Path

import ase.io
import pytest
import yaml

from tests.tools.processes import PATIENCE, Run, checkpoint, wait_for
from tests.tools.small_training import plain_with

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ASE_SRDFT_KILLS", "3"))
#: Longest time between two kills, in seconds.
LONGEST = 6.0


class Trial:
    """One run and its kills."""

    def __init__(self, victim, arguments, directory):
        self.victim = victim
        self.arguments = arguments
        self.directory = directory
        self.generator = random.Random(f"kill the {victim}")
        self.run = Run(arguments, directory)
        self.seen = set()

    def kill_once(self):
        """Wait for a random time, kill, see that what goes on has lost no weights in use."""
        time.sleep(self.generator.uniform(0.0, LONGEST))
        wait_for(lambda: self.run.pids(self.victim), PATIENCE, self.victim)
        self.seen |= set(self.run.everyone())
        version, nstarts = self.newest_version(), len(self.run.metrics("start"))
        self.run.kill(self.run.pids(self.victim)[:1])
        if self.victim == "main":
            self.run.process.wait(PATIENCE)
            self.run = Run(self.arguments, self.directory)
        if self.victim != "sampler":
            wait_for(lambda: self.has_started(nstarts), PATIENCE, "start")
            assert self.run.metrics("start")[-1]["step"] >= version

    def has_started(self, nstarts):
        """Whether the run has read its checkpoint since there were so many starts."""
        assert self.run.process.poll() is None, self.run.log()
        return len(self.run.metrics("start")) > nstarts

    def newest_version(self):
        """The newest weights that have made a sample, as far as is written down."""
        records = self.run.metrics("sampling")
        return max([r["step"] - r["staleness"] for r in records], default=0)


@pytest.fixture
def trial(request, folder):
    settings = {"steps": 10**6, "safe_width_mEh": 1e3, "threads": 1, "train_steps_per_round": 4}
    Path("settings.yaml").write_text(yaml.safe_dump(plain_with(settings)))
    arguments = ["water.xyz", "--config", "settings.yaml", "--engine", "local"]
    arguments += ["--samplers", "2", "--max-restarts", str(KILLS)]
    one = Trial(request.param, arguments, folder / "run")
    yield one
    one.run.kill(one.run.everyone())
    one.run.process.wait(PATIENCE)


@pytest.mark.parametrize("trial", ["sampler", "trainer", "main"], indirect=True)
def test_random_kills_lose_nothing(trial):
    for _ in range(KILLS):
        trial.kill_once()
    before = len(trial.run.metrics("sampling"))
    wait_for(lambda: len(trial.run.metrics("sampling")) > before + 3, PATIENCE, "sampling")
    trial.seen |= set(trial.run.everyone())
    assert trial.run.stop() == 75, trial.run.log()
    record = checkpoint(trial.directory)[1]
    frames = ase.io.read(trial.directory / "samples.traj", ":")
    made = [(f.info["walker"], f.info["walker_step"]) for f in frames]
    assert len(set(made)) == len(made) > 0  # no sample twice
    assert len(frames) == record["counters"]["nsamples"]
    assert max(f.info["weights_version"] for f in frames) <= record["step"]
    assert not [pid for pid in trial.seen if Path(f"/proc/{pid}").exists()]
