"""Whole runs that are killed, stopped, starved and fed nonsense: what is left must go on.

docs/how-to/resume.md has the table of what is tried here and what comes of it.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.sampling.workers.sampler_message import to_message
from tests.tools.processes import PATIENCE, Run, checkpoint, wait_for
from tests.tools.small_training import plain_with, sampling_trainer

pytestmark = pytest.mark.slow


def settings(**changes):
    """A run that samples from step 50 on and does not end by itself."""
    wanted = {"steps": 10**6, "safe_width_mEh": 1e3, "threads": 1, "train_steps_per_round": 4}
    Path("small.yaml").write_text(yaml.safe_dump(plain_with(wanted | changes)))


@pytest.fixture
def run(folder):
    """Starts runs; none of their processes is left after the test."""
    runs = []

    def start(*more, **changes):
        settings(**changes)
        runs.append(Run(["water.xyz", "--config", "small.yaml", *more], "run"))
        return runs[-1]

    yield start
    for one in runs:
        one.kill(one.everyone())
        one.process.wait(PATIENCE)


LOCAL = {"name": "local", "samplers": 2}
STATES = {
    "starting": lambda run: time.sleep(0.5) or True,
    "importing": lambda run: bool(run.pids("trainer")) and (time.sleep(2.0) or True),
    "training": lambda run: run.last_step() >= 20,
    "sampling": lambda run: len(run.metrics("sampling")) > 5,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("engine", ["sync", "local"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stops_within_ten_seconds_in_every_state(number, engine, state, run):
    one = run(engine=LOCAL | {"name": engine}, sampling={"walkers": 2})
    wait_for(lambda: STATES[state](one), PATIENCE, state)
    everyone = one.everyone()
    begun = time.monotonic()
    one.kill(one.pids("main"), number)
    code = one.process.wait(PATIENCE)
    seconds = time.monotonic() - begun
    assert code == 75, one.log()
    assert seconds < 10.0
    assert not [pid for pid in everyone if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in one.log()


def test_ctrl_c_reaches_all_processes_and_stops_all(folder, run):
    settings(engine=LOCAL)
    command = [sys.executable, "-m", "ase_srdft.cli.train", "water.xyz", "--config", "small.yaml"]
    process = subprocess.Popen(
        [*command, "-o", "run"], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    metrics = Path("run/metrics.jsonl")
    wait_for(lambda: metrics.exists() and '"sampling"' in metrics.read_text(), PATIENCE, "sampling")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.communicate(timeout=PATIENCE)[1].count("stopping after this step") == 1
    assert process.returncode == 75


def test_a_sampler_that_hangs_is_replaced(run):
    one = run(engine=LOCAL | {"silence_seconds": 3.0})
    wait_for(lambda: len(one.metrics("sampling")) > 3, PATIENCE, "sampling")
    (first, _) = one.pids("sampler")
    one.kill([first], signal.SIGSTOP)
    wait_for(lambda: one.metrics("worker"), PATIENCE, "report")
    (report,) = one.metrics("worker")
    assert report["reason"].startswith("silent for ")
    assert not Path(f"/proc/{first}").exists()
    before = len([r for r in one.metrics("sampling") if r["sampler"] == int(report["worker"][-1])])
    wait_for(
        lambda: (
            len(
                [
                    r
                    for r in one.metrics("sampling")
                    if f"sampler-{r['sampler']}" == report["worker"]
                ]
            )
            > before
        ),
        PATIENCE,
        "samples of the new one",
    )
    assert one.stop() == 75
    assert f"{report['worker']} silent for " in one.log()


def test_nan_from_a_sampler_is_refused_and_counted(run):
    one = run(engine=LOCAL | {"samplers": 1})
    wait_for(lambda: len(one.metrics("sampling")) > 3, PATIENCE, "sampling")
    (sampler,) = one.pids("sampler")
    one.kill([sampler], signal.SIGSTOP)
    mailbox = Mailbox(Path(Path(f"/proc/{sampler}/cmdline").read_text().split("\0")[-4]))
    time.sleep(1.0)  # what it had sent is taken
    number = one.metrics("sampling")[-1]["nsamples"]
    broken, plain = broken_message(mailbox, one)
    mailbox.put("sampler-0", plain["checkpoint"]["nchunks"], broken, plain)
    wait_for(
        lambda: any("a number that is not finite" in r["resets"] for r in one.metrics("sampling")),
        PATIENCE,
        "refusal",
    )
    refusing = next(
        r for r in one.metrics("sampling") if "a number that is not finite" in r["resets"]
    )
    assert refusing["resets"]["a number that is not finite"] == 4
    assert refusing["nsamples"] == number
    one.kill([sampler], signal.SIGCONT)  # it sends a number that was taken: it is started again
    wait_for(lambda: one.metrics("worker"), PATIENCE, "report")
    after = len(one.metrics("sampling"))
    wait_for(lambda: len(one.metrics("sampling")) > after + 2, PATIENCE, "sampling")
    assert one.stop() == 75
    frames = ase.io.read("run/samples.traj", ":")
    assert all(np.isfinite(f.positions).all() for f in frames)
    assert all(np.isfinite(f.get_potential_energy()) for f in frames)


def broken_message(mailbox, one):
    """A message of the same run with NaN in every number, next in the sampler's order."""
    trainer = sampling_trainer()
    tensors, plain = to_message(
        trainer.parts.sampler_from(trainer.sampling.checkpoints[0]).advance(0)
    )
    taken = len(one.metrics("sampling"))
    plain["checkpoint"]["nchunks"] = taken + 1
    plain["checkpoint"]["version"] = one.last_step()
    nan = float("nan")
    for sample in plain["samples"][0]:
        sample["energy"] = nan
    tensors = {n: t * nan if n.startswith("positions") else t for n, t in tensors.items()}
    return tensors, plain


def test_a_full_disk_leaves_the_last_checkpoint(run, folder):
    one = run(engine=LOCAL)
    wait_for(lambda: one.last_step() >= 60, PATIENCE, "step 60")
    assert one.stop() == 75
    saved = checkpoint("run")
    size = Path("run/checkpoint.h5").stat().st_size

    def less_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    command = [sys.executable, "-m", "ase_srdft.cli.train", "water.xyz", "--config", "small.yaml"]
    failed = subprocess.run(
        [*command, "-o", "run"],
        preexec_fn=less_room,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("ase-srdft-train: error: cannot write ")
    assert line.endswith("make room and run the same command again, the last checkpoint is whole")
    arrays, record = checkpoint("run")
    assert record["step"] == saved[1]["step"] >= 60
    assert all(np.array_equal(array, saved[0][name]) for name, array in arrays.items())
    assert not list(Path("run").glob(".*.tmp"))
    again = run(engine=LOCAL)
    wait_for(lambda: again.last_step() > record["step"] + 20, PATIENCE, "progress")
    assert again.stop() == 75


def test_a_run_that_is_requeued_goes_on(run):
    one = run(engine=LOCAL)
    wait_for(lambda: one.metrics("sampling"), PATIENCE, "sampling")
    one.kill(one.pids("main"), signal.SIGUSR1)
    assert one.process.wait(PATIENCE) == 75
    step = checkpoint("run")[1]["step"]
    again = run(engine=LOCAL)
    wait_for(lambda: again.last_step() > step, PATIENCE, "progress")
    assert again.metrics("start")[-1]["step"] == step
    assert again.stop() == 75
