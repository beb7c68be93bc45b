"""Kill a run at random instants, again and again, and look what was lost.

    python benchmarks/random_kills.py water.xyz --kills 20

For each of sampler, trainer and main process: a run of ase-srdft-train with the engine ``local``
whose process is killed with SIGKILL at so many random instants, start-up included.  A run that
ends is started again by the same command, as a user would; one that mends itself is left alone.
In the end it is stopped and its files are checked: every frame of samples.traj whole and no
(walker, step) twice, as many frames as the checkpoint has counted, every walker's steps in order,
and no version of the weights used by a sample that is not behind the checkpoint's.  A table is
printed, in Markdown.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ase.io
from processes import Run, checkpoint, wait_for

#: A run that starts and samples soon; other settings may be given.
SETTINGS = """
level: {xc: LDA, basis: sto-3g, grid_level: 0}
model_config: {features: 8, layers: 1, nradial: 8}
safe_width_mEh: 1000.0
pretraining_frames: 8
validation_frames: 4
"""
VICTIMS = ("sampler", "trainer", "main")
#: What must be true in the end, in words.
CHECKS = (
    "resumed every time",
    "no sample twice",
    "every sample counted",
    "no weights lost",
    "no process left",
)


class Trial:
    """One run and its murders."""

    def __init__(
        self, victim: str, arguments: Sequence[str], directory: Path, generator: random.Random
    ) -> None:
        self.victim = victim
        self.arguments = arguments
        self.directory = directory
        self.generator = generator
        self.run = Run(arguments, directory)
        self.lost_versions = 0
        self.seen: set[int] = set()

    def kill_once(self, longest: float) -> None:
        """Wait for a random time, kill; go on when the run does."""
        time.sleep(self.generator.uniform(0.0, longest))
        if self.victim == "sampler":  # there are some from a safe bracket on
            wait_for(lambda: self.run.pids("sampler"), 300, "sampler")
        wait_for(lambda: self.run.pids(self.victim), 300, self.victim)
        self.seen |= set(self.run.everyone())
        version, nstarts = self.newest_version(), len(self.run.metrics("start"))
        self.run.kill(self.run.pids(self.victim)[:1])
        if self.victim == "main":
            self.run.process.wait(60)
            self.run = Run(self.arguments, self.directory)
        if self.victim != "sampler":
            wait_for(lambda: self.has_started(nstarts), 300, "start")
            self.lost_versions += self.run.metrics("start")[-1]["step"] < version

    def has_started(self, nstarts: int) -> bool:
        """Whether the run has read its checkpoint since there were so many starts."""
        if self.run.process.poll() is not None:
            text = self.directory.with_suffix(".log").read_text()
            raise RuntimeError(f"the run ended: {text[-1500:]}")
        return len(self.run.metrics("start")) > nstarts

    def newest_version(self) -> int:
        """The newest weights that have made a sample, as far as is written down."""
        records = self.run.metrics("sampling")
        return max([r["step"] - r["staleness"] for r in records], default=0)

    def finish(self) -> dict[str, bool]:
        """Let it go on for a while, stop it, and check its files."""
        before = len(self.run.metrics("sampling"))
        wait_for(lambda: len(self.run.metrics("sampling")) > before + 3, 300, "sampling")
        self.seen |= set(self.run.everyone())
        code = self.run.stop()
        record = checkpoint(self.directory)[1]
        frames = ase.io.read(self.directory / "samples.traj", ":")
        made = [(f.info["walker"], f.info["walker_step"]) for f in frames]
        return {
            "resumed every time": code == 75,
            "no sample twice": len(set(made)) == len(made) > 0,
            "every sample counted": len(frames) == record["counters"]["nsamples"],
            "no weights lost": self.lost_versions == 0
            and max(f.info["weights_version"] for f in frames) <= record["step"],
            "no process left": not any(Path(f"/proc/{pid}").exists() for pid in self.seen),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--victims", nargs="+", default=VICTIMS, choices=VICTIMS)
    parser.add_argument("--longest", type=float, default=6.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", type=Path, help="YAML for --config")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    arguments = [options.structure, "--engine", "local", "--samplers", "2", "--threads", "1"]
    arguments += ["--steps", "1000000", "--max-restarts", str(options.kills)]
    print(f"| killed | times | {' | '.join(CHECKS)} |")
    print(f"| --- | --- |{' --- |' * len(CHECKS)}")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.yaml"
        settings.write_text(options.settings.read_text() if options.settings else SETTINGS)
        arguments += ["--config", str(settings)]
        for victim in options.victims:
            trial = Trial(victim, arguments, Path(folder) / victim, generator)
            try:
                for _ in range(options.kills):
                    trial.kill_once(options.longest)
                results = trial.finish()
            finally:
                trial.run.kill(trial.run.everyone())
            words = ["yes" if results[check] else "**no**" for check in CHECKS]
            print(f"| {victim} | {options.kills} | {' | '.join(words)} |", flush=True)
            good = good and all(results.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
