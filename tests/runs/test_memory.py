"""A run's memory is that of its setting and a stated gigabyte, in every one of its processes."""

import contextlib
import sys
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from ase_srdft.training.config import MEMORY_OVERHEAD_GB
from tests.tools.processes import PATIENCE, Run, wait_for

pytestmark = pytest.mark.slow

#: Room for about a third of the frames (1.8 MB each) beside what a batch takes.
MEMORY_GB = 0.2
ARGUMENTS = (
    "ethanol.xyz --basis 6-31g --steps 5000 --pretraining-frames 200 --safe-width-mEh 1e6 "
    f"--memory-gb {MEMORY_GB}"
)


def peaks_until_it_has_sampled(run):
    """The most that each process of a run had in memory (bytes) until samples were trained on."""
    found = {}

    def enough():
        for pid in run.everyone():
            with contextlib.suppress(OSError):  # it has just ended
                lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
                words = dict(line.split(":", 1) for line in lines)
                found[pid] = 1024 * int(words.get("VmHWM", "0 kB").split()[0])
        steps = [record["step"] for record in run.metrics("sampling")]
        return run.process.poll() is not None or (steps and run.last_step() >= steps[0] + 10)

    wait_for(enough, 2 * PATIENCE, "training on samples")
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what a process has had")
@pytest.mark.parametrize(
    ("engine", "nprocesses"), [("--engine sync", 2), ("--engine local --samplers 1", 3)]
)
def test_processes_stay_within_the_setting_and_the_stated_overhead(
    tmp_path, monkeypatch, engine, nprocesses
):
    monkeypatch.chdir(tmp_path)
    ase.io.write("ethanol.xyz", molecule("CH3CH2OH"))
    run = Run([*ARGUMENTS.split(), *engine.split()], tmp_path / "run")
    largest = peaks_until_it_has_sampled(run)
    assert run.stop() == 75, run.log()  # interrupted, and not ended before
    assert len(largest) == nprocesses
    assert max(largest.values()) > 0.5e9  # the trainer was among them
    assert max(largest.values()) < (MEMORY_GB + MEMORY_OVERHEAD_GB) * 1e9, largest
