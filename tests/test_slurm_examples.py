"""The batch scripts of examples/slurm, with stubs in place of the commands that they call."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ase_srdft.cli.train import _parser

SCRIPTS = Path(__file__).resolve().parents[1] / "examples" / "slurm"
PATIENCE_SECONDS = 30.0

#: What each command writes into the log: its name, its arguments and what it was told besides.
HEADER = '#!/bin/bash\necho "${0##*/} $*" >>"$LOG"\n'
STUBS = {
    # Runs what follows its options, and hands signals on, as the real one does.
    "srun": """
while [[ $1 == --* ]]; do shift; done
"$@" &
trap 'kill -USR1 $!' USR1
trap 'kill $!' TERM
while kill -0 $! 2>/dev/null; do wait $! || true; done
wait $!
""",
    # Ends with EXIT at once, or with 75 when it is told to stop.
    "ase-srdft-train": """
echo "RAY_ADDRESS=${RAY_ADDRESS-}" >>"$LOG"
if [ -n "${EXIT-}" ]; then exit "$EXIT"; fi
trap 'echo told to stop >>"$LOG"; sleep 0.3; exit 75' USR1
sleep 0.5  # who started this has yet to set traps of its own
echo training >>"$LOG"
for _ in {1..600}; do sleep 0.05; done
""",
    "scontrol": "",
    "hostname": 'if [ $# -gt 0 ]; then echo "10.0.0.1 10.0.0.2"; else echo node1; fi',
    "ray": """
case $1 in
    status) grep 'ray joined' "$LOG" | sed 's/.*/ 1 node_abc/' ;;
    start)
        if [[ $2 == --address=* && -n ${ALONE-} ]]; then exit 1; fi
        [ "$RAY_AUTH_MODE" = token ] && [ "$(wc -c <"$RAY_AUTH_TOKEN_PATH")" -eq 64 ] || exit 3
        echo ray joined >>"$LOG"
        trap 'echo ray ended >>"$LOG"; exit' TERM
        for _ in {1..600}; do sleep 0.05; done ;;
esac
""",
    "sleep": 'exec /bin/sleep "$(case $1 in 5) echo 0.01 ;; *) echo "$1" ;; esac)"',
}


class Job:
    """A batch job that runs a script, as Slurm would start it."""

    def __init__(self, script, folder, **variables):
        commands = folder / "bin"
        commands.mkdir()
        for name, text in STUBS.items():
            silent = name == "sleep"
            (commands / name).write_text("#!/bin/bash\n" + text if silent else HEADER + text)
            (commands / name).chmod(0o755)
        self.log = folder / "log"
        self.log.touch()
        settings = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "LOG": str(self.log),
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_GPUS_ON_NODE": "4",
            "SLURM_CPUS_PER_TASK": "8",
        }
        self.process = subprocess.Popen(
            ["bash", str(SCRIPTS / script), "water.xyz", "run", "--xc", "PBE"],
            cwd=folder,
            env=os.environ | settings | variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self):
        return self.log.read_text().splitlines()

    def wait_for(self, line):
        end = time.monotonic() + PATIENCE_SECONDS
        while line not in self.lines():
            assert time.monotonic() < end, self.lines()
            time.sleep(0.02)

    def end(self):
        """Its exit code and what it wrote on stderr."""
        _, words = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, words


def arguments(lines, command):
    """Those of the one time that a command was called."""
    (line,) = [line for line in lines if line.startswith(f"{command} ")]
    return line.split()[1:]


@pytest.fixture(params=["one_node_two_gpus.sh", "many_nodes_ray.sh"])
def script(request):
    return request.param


def test_every_script_is_tested_and_is_bash():
    names = sorted(path.name for path in SCRIPTS.iterdir())
    assert names == ["many_nodes_ray.sh", "one_node_two_gpus.sh"]
    for name in names:
        subprocess.run(["bash", "-n", str(SCRIPTS / name)], check=True, timeout=30)


def test_a_run_that_is_warned_makes_its_checkpoint_and_is_queued_again(script, tmp_path):
    job = Job(script, tmp_path)
    job.wait_for("training")
    assert not [line for line in job.lines() if line.startswith("scontrol")]
    job.process.send_signal(signal.SIGUSR1)
    assert job.end() == (75, "")
    lines = job.lines()
    assert arguments(lines, "scontrol") == ["requeue", "12345"]
    assert lines.count("told to stop") == 1
    assert lines.index("told to stop") < lines.index("scontrol requeue 12345")


def test_a_second_warning_does_no_harm(script, tmp_path):
    job = Job(script, tmp_path)
    job.wait_for("training")
    job.process.send_signal(signal.SIGUSR1)
    job.wait_for("told to stop")
    job.process.send_signal(signal.SIGUSR1)
    assert job.end()[0] == 75
    assert arguments(job.lines(), "scontrol") == ["requeue", "12345"]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_run_that_ends_by_itself_is_not_queued_again(script, code, tmp_path):
    job = Job(script, tmp_path, EXIT=str(code))
    assert job.end() == (code, "")
    assert [line for line in job.lines() if line.startswith("ase-srdft-train")]  # it did run
    assert not [line for line in job.lines() if line.startswith("scontrol")]


def test_the_runs_are_what_the_command_understands(script, tmp_path):
    job = Job(script, tmp_path, EXIT="0")
    job.end()
    options = vars(_parser().parse_args(arguments(job.lines(), "ase-srdft-train")))
    assert options["structures"] == ["water.xyz"]
    assert options["output"] == Path("run")
    assert options["level.xc"] == "PBE"
    chosen = [options[f"engine.{name}"] for name in ("name", "samplers")]
    devices = options["device"], options["engine.sampler_devices"]
    if script == "one_node_two_gpus.sh":
        assert (chosen, devices) == (["local", None], ("cuda:0", ["cuda:1"]))
    else:  # two nodes of four GPUs, one of which is the trainer's
        assert (chosen, devices) == (["ray", 7], ("cuda:3", ["cuda"]))
        assert options["sampling.walkers"] >= 7


def test_ray_runs_on_all_nodes_as_long_as_the_job(tmp_path):
    job = Job("many_nodes_ray.sh", tmp_path, EXIT="0")
    assert job.end()[0] == 0
    job.wait_for("ray ended")
    lines = job.lines()
    heads = [line for line in lines if line.startswith("ray start --head")]
    others = [line for line in lines if line.startswith("ray start --address")]
    assert len(heads) == len(others) == 1  # the stub of srun starts one task
    assert "--port=22345" in heads[0]
    assert "--num-gpus=3" in heads[0]
    assert "--address=10.0.0.1:22345" in others[0]
    assert "--num-gpus=4" in others[0]
    assert "RAY_ADDRESS=10.0.0.1:22345" in lines
    assert "--exclude=node1" in arguments(lines, "srun")
    assert list(tmp_path.glob(".ray-token*")) == []


def test_one_node_needs_no_others(tmp_path):
    job = Job("many_nodes_ray.sh", tmp_path, EXIT="0", SLURM_JOB_NUM_NODES="1")
    assert job.end() == (0, "")
    assert not [line for line in job.lines() if line.startswith("srun")]


def test_nodes_that_do_not_join_end_the_job(tmp_path):
    job = Job("many_nodes_ray.sh", tmp_path, ALONE="1")
    code, words = job.end()
    assert code == 1
    assert "only 1 of 2 nodes" in words
    assert not [line for line in job.lines() if line.startswith("ase-srdft-train")]
