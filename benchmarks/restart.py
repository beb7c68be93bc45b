"""Is a run that was killed and started again the run that nobody disturbed, to the last bit?

    python benchmarks/restart.py ethanol.xyz --steps 150 --kill-at 70 110

Trains with the engine ``sync`` once undisturbed, and once killed with SIGKILL (all of its
processes) at the given steps and started again each time.  Compares the weights, their average,
the optimiser, the buffer, the walkers, the random states and the trajectory of the samples.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from processes import Run, checkpoint, wait_for

#: Not part of what must be the same: seconds.
TIMES = ("elapsed",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--kill-at", type=int, nargs="+", default=[70, 110])
    parser.add_argument("--options", nargs="*", default=[], help="more, without their dashes")
    options = parser.parse_args()
    arguments = [options.structure, "--engine", "sync", "--steps", str(options.steps)]
    arguments += ["--threads", "1", *(f"--{word}" for word in options.options)]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.yaml"
        settings.write_text("safe_width_mEh: 50.0\nvalidate_every: 40\n")  # sampling from step 50
        arguments += ["--config", str(settings)]
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        code = Run(arguments, whole).process.wait()
        for step in options.kill_at:
            kill_at(step, arguments, killed)
        code |= Run(arguments, killed).process.wait()
        if code:
            sys.exit(f"the run failed: {killed.with_suffix('.log').read_text()[-2000:]}")
        return compare(whole, killed)


def kill_at(step: int, arguments: Sequence[str], directory: Path) -> None:
    """Start a run, or go on with it, up to a step, and kill it there."""
    run = Run(arguments, directory)
    wait_for(lambda: run.last_step() >= step, 3600, f"step {step}")
    run.kill(run.everyone())
    run.process.wait()
    print(f"killed at step {run.last_step()}, checkpoint of step", end=" ")
    print(checkpoint(directory)[1]["step"], flush=True)


def compare(whole: Path, killed: Path) -> int:
    """Print what is the same and what is not; returns the exit code."""
    (arrays, record), (others, other) = checkpoint(whole), checkpoint(killed)
    for counters in (record["counters"], other["counters"]):
        for name in TIMES:
            counters.pop(name)
    groups: dict[str, list[bool]] = {}
    for name in sorted({*arrays, *others}):
        same = name in arrays and name in others and np.array_equal(arrays[name], others[name])
        groups.setdefault(name.split("/")[0], []).append(same)
    groups["counters and random states"] = [record == other]
    frames, again = (ase.io.read(p / "samples.traj", ":") for p in (whole, killed))
    groups["samples.traj"] = [len(frames) == len(again) > 0] + [
        np.array_equal(a.positions, b.positions)
        and a.get_potential_energy() == b.get_potential_energy()
        and a.info == b.info
        for a, b in zip(frames, again, strict=False)
    ]
    for name, parts in groups.items():
        print(f"{name:28s} {sum(parts):6d} of {len(parts)} identical to the bit")
    print(f"{len(frames)} samples, {record['step']} steps")
    return 0 if all(all(parts) for parts in groups.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
