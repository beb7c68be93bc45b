"""Several ranks: the same weights on each, the same run as one alone, and an end if one ends.

The ranks are processes that talk by gloo on the CPU.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule

from ase_srdft.cli.train import main
from ase_srdft.common.errors import BadInput
from ase_srdft.parallel.ranks import Ranks
from ase_srdft.runs.checkpoint import CHECKPOINT
from tests.runs.test_checkpoint import assert_identical
from tests.tools import rank_probe
from tests.tools.small_training import plain_with, rattled, small_trainer

REPOSITORY = Path(__file__).resolve().parents[2]
#: Of a test on a busy machine; what hangs would hang for as long.
PATIENCE = 120


def start(rank, size, port, command, cwd):
    """A Python process with the environment that torchrun would set."""
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def launched():
    """Starts two ranks of a command; what is left of them in the end is killed."""
    processes = []

    def launch(command, cwd, size=2):
        port = free_port()
        processes.extend(start(rank, size, port, command, cwd) for rank in range(size))
        return processes

    yield launch
    for process in processes:
        process.kill()
        process.communicate()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ends_of(processes):
    """Exit code, standard output and standard error of each."""
    said = [process.communicate(timeout=PATIENCE) for process in processes]
    return [(p.returncode, *words) for p, words in zip(processes, said, strict=True)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory: two structures, and the settings of a run that is not soon over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ase.io.write("water.xyz", molecule("H2O"))
    ase.io.write("hydrogen.xyz", molecule("H2"))
    settings = {"threads": 1, "steps": 100_000, "optimiser": {"batch_size": 5}}
    with open("small.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(plain_with(settings), file)
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


WORDS = ["water.xyz", "hydrogen.xyz", "--config", "small.yaml", "-o", "run"]
COMMAND = ["-m", "ase_srdft.cli.train", *WORDS]


def wait_for_lines(number, process):
    """Until the lead has logged so many records."""
    deadline = time.monotonic() + PATIENCE
    log = Path("run/metrics.jsonl")
    while not log.exists() or len(log.read_text(encoding="utf-8").splitlines()) < number:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def steps_done():
    with h5py.File(f"run/{CHECKPOINT}") as file:
        return yaml.safe_load(file["record"][()])["step"]


# Alone


def test_one_rank_is_handed_back_what_it_gives(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = Ranks.from_environment()
    assert (ranks.rank, ranks.size, ranks.is_lead) == (0, 1, True)
    items, value, model = [3, 1, 2], object(), torch.nn.Linear(1, 1)
    assert ranks.shares(items, lambda item: pytest.fail("not needed")) == [items]
    assert ranks.shares_of_equal_cost(items, lambda item: pytest.fail("not needed")) == [items]
    assert ranks.broadcast(value) is value
    assert ranks.gather(value) == [value]
    assert ranks.parallel(model) is model
    assert ranks.gather_pairs(None) is None
    assert ranks.run_on_lead(lambda: value) is value
    assert ranks.run_on_all(lambda: value) is value
    assert ranks.device_name("cuda:1") == "cuda:1"
    ranks.check_same(value := {"a": 1}, "settings")
    ranks.close()


def test_torchrun_with_one_process_is_no_different(monkeypatch):
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    for name, value in (variables | {"MASTER_ADDR": "x", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    with Ranks.from_environment() as ranks:
        assert ranks.size == 1
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RANK": None}, "WORLD_SIZE is set, but not RANK: start with torchrun"),
        ({"RANK": None, "MASTER_PORT": None}, "not RANK, MASTER_PORT"),
        ({"RANK": "2"}, "RANK='2', WORLD_SIZE='2', LOCAL_RANK='0' names no rank"),
        ({"WORLD_SIZE": "two"}, "names no rank: start with torchrun"),
        ({"RANK": "-1"}, "names no rank"),
    ],
)
def test_an_environment_that_is_not_torchruns(given, message, monkeypatch):
    whole = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    for name, value in (whole | {"MASTER_ADDR": "x", "MASTER_PORT": "1"} | given).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=message):
        Ranks.from_environment()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_timeout_that_is_none(seconds):
    with pytest.raises(BadInput, match=r"the ranks' timeout is .* s: use"):
        Ranks.from_environment(seconds)


@pytest.mark.parametrize(("nitems", "size"), [(5, 2), (8, 3), (3, 3), (16, 4), (2, 3)])
def test_shares_are_all_the_items_in_nearly_equal_numbers(nitems, size):
    positions = np.random.default_rng(0).standard_normal((nitems, 3, 3))
    shares = Ranks(0, size).shares(range(nitems), lambda item: positions[item])
    assert shares == Ranks(size - 1, size).shares(range(nitems), lambda item: positions[item])
    assert sorted(item for share in shares for item in share) == list(range(nitems))
    lengths = [len(share) for share in shares]
    assert len(lengths) == size
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= (nitems >= size)


def test_a_geometry_mostly_goes_where_it_has_been():
    rng = np.random.default_rng(1)
    positions = rng.standard_normal((40, 3, 3))
    ranks, places = Ranks(0, 2), {}
    for drawn in (rng.permutation(40)[:8] for _ in range(200)):
        for rank, share in enumerate(ranks.shares(drawn.tolist(), positions.__getitem__)):
            for item in share:
                places.setdefault(item, []).append(rank)
    at_home = [max(np.mean(seen), 1 - np.mean(seen)) for seen in places.values()]
    assert np.mean(at_home) > 0.8


@pytest.mark.parametrize(("nitems", "size"), [(64, 16), (5, 4), (3, 3)])
def test_shares_of_nearly_equal_cost(nitems, size):
    costs = np.random.default_rng(2).uniform(1.0, 10.0, nitems)
    shares = Ranks(0, size).shares_of_equal_cost(range(nitems), costs.item)
    assert sorted(item for share in shares for item in share) == list(range(nitems))
    loads = [sum(costs[item] for item in share) for share in shares]
    assert min(map(len, shares)) >= 1
    assert max(loads) <= max(costs.max(), 1.2 * costs.sum() / size)


def test_a_batch_smaller_than_the_ranks():
    with pytest.raises(BadInput, match="batch_size is 4: use at least as many as there are ranks"):
        small_trainer(ranks=Ranks(0, 5))


def test_each_rank_has_a_gpu_of_its_own():
    ranks = Ranks(5, 8, local_rank=1)
    assert [ranks.device_name(name) for name in ("cuda", "cpu")] == ["cuda:1", "cpu"]
    with pytest.raises(BadInput, match="device 'cuda:3' for 8 ranks: use 'cuda'"):
        ranks.device_name("cuda:3")


# Two


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """What each of two ranks found, and a rank alone."""
    folder = tmp_path_factory.mktemp("ranks")
    port = free_port()
    command = ["-m", "tests.tools.rank_probe", str(folder)]
    processes = [start(rank, 2, port, command, REPOSITORY) for rank in range(2)]
    try:
        ends = ends_of(processes)
    finally:
        for process in processes:
            process.kill()
    assert [end[0] for end in ends] == [0, 0], ends
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    return rank_probe.trained(Ranks.single(), None)


def test_weights_are_the_same_on_both_and_those_of_one_alone(probed, alone):
    first, second = (found["trained"] for found in probed)
    assert torch.equal(first["before"], alone["before"])
    assert float((first["after"] - first["before"]).abs().max()) > 1e-2
    for name in ("after", "averaged"):
        assert torch.equal(first[name], second[name])
        distance = torch.linalg.vector_norm(first[name] - alone[name])
        moved = torch.linalg.vector_norm(alone[name] - alone["before"])
        assert float(distance) < 1e-4 * float(moved)
        torch.testing.assert_close(first[name], alone[name], rtol=1e-5, atol=1e-5)


def test_records_are_of_the_whole_batch(probed, alone):
    first, second = (found["trained"]["training"] for found in probed)
    assert first == second
    assert len(first) == len(alone["training"]) == 12
    for ours, whole in zip(first, alone["training"], strict=True):
        assert ours.energy == pytest.approx(whole.energy, abs=1e-5)
        assert ours.bracket_width == pytest.approx(whole.bracket_width, rel=1e-3)
        assert ours.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-3)
        assert len(ours.widths) == 5
        np.testing.assert_allclose(sorted(ours.widths), sorted(whole.widths), rtol=1e-3, atol=1e-12)
    assert first[0].gradient_norm == pytest.approx(alone["training"][0].gradient_norm, rel=1e-5)


def test_labels_are_learned_from_alike(probed):
    alone = rank_probe.supervised(Ranks.single(), None)
    first, second = (found["supervised"] for found in probed)
    assert torch.equal(first["after"], second["after"])
    torch.testing.assert_close(first["after"], alone["after"], rtol=1e-4, atol=1e-4)
    assert first["errors"] == second["errors"]
    assert first["errors"] == pytest.approx(alone["errors"], rel=1e-3)
    assert 0.0 < alone["errors"][-1] < alone["errors"][0]


def test_validation_is_shared(probed, alone):
    first, second = (found["trained"]["validations"] for found in probed)
    assert first == second
    assert [v.best for v in first] == [v.best for v in alone["validations"]]
    for ours, whole in zip(first, alone["validations"], strict=True):
        assert ours.energy == pytest.approx(whole.energy, abs=1e-6)
        assert ours.bracket_width == pytest.approx(whole.bracket_width, rel=1e-3)


def test_each_prepares_a_part(probed, alone):
    first, second = (found["trained"]["prepared"] for found in probed)
    assert max(first, second) < alone["prepared"] <= first + second


def test_buffers_counters_and_generators_are_the_same_on_both(probed):
    first, second = (found["sampled"] for found in probed)
    arrays, plain = first
    assert plain["counters"]["nsamples"] == 3 * 2 * 2  # messages, steps, walkers
    assert len(plain["counters"]["replaced"]) == 2
    assert plain["samplers"][0][1] == 3
    assert len(plain["molecules"]) == 20
    assert np.isfinite(arrays["widths"]).sum() > 10
    assert_identical(first, second)


def test_restart_of_both_is_the_uninterrupted_run(probed):
    assert_identical(probed[0]["gone_on"], probed[0]["sampled"])
    assert_identical(probed[1]["gone_on"], probed[1]["sampled"])


@pytest.mark.parametrize(
    ("scenario", "kind", "message"),
    [
        ("diverged", FloatingPointError, "the Fock matrix of step 0 is not finite: lower the"),
        ("no_samples", Exception, "of the lead"),
        ("refused", BadInput, "rank 1: no such file"),
        ("differing", BadInput, "rank . and rank . have not the same settings: start all ranks"),
    ],
)
def test_what_fails_on_one_fails_on_both(scenario, kind, message, probed):
    for found in probed:
        with pytest.raises(kind, match=message):
            raise found[scenario]


def test_small_values_are_shared(probed):
    first, second = (found["words"] for found in probed)
    assert first.pop("run_on_lead") == 0
    assert second.pop("run_on_lead") == 10
    assert [words.pop("device") for words in (first, second)] == ["cuda:0", "cuda:1"]
    assert first == second
    assert first == {
        "broadcast": "of 0",
        "gather": [0, 1],
        "any": [True, False],
        "sum": [2.0, 1.0],
        "joined": [[0.0, 0.0, 1.0], [0.0, 0.0, 10.0]],
        "joined with none": None,
    }


# The command


@pytest.mark.slow
def test_a_batch_smaller_than_the_ranks_is_one_line(folder, launched):
    ends = ends_of(launched([*COMMAND, "--batch-size", "1"], folder))
    assert [code for code, _, _ in ends] == [2, 2]
    assert "".join(out for _, out, _ in ends) == ""
    assert "".join(err for _, _, err in ends) == (
        "ase-srdft-train: error: optimiser.batch_size is 1: use at least as many as there are "
        "ranks (2), or fewer ranks\n"
    )
    assert not Path("run").exists()


@pytest.mark.slow
def test_stopped_on_one_and_gone_on_with_by_one_and_by_two(folder, launched, capsys, monkeypatch):
    lead, other = launched(COMMAND, folder)
    wait_for_lines(3, lead)
    other.send_signal(signal.SIGTERM)  # either will do
    (code, out, err), (other_code, other_out, other_err) = ends_of([lead, other])
    assert (code, other_code) == (75, 75)
    assert out.splitlines()[-1] == "the same command goes on from here"
    assert err == other_out == other_err == ""
    assert not list(Path("run").glob("*previous*"))
    first = steps_done()
    assert first >= 20

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert main([*WORDS, "--steps", str(first + 2)]) == 0
    assert "steps done" in capsys.readouterr().out
    assert steps_done() == first + 2

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [sys.executable, *torchrun, *COMMAND, "--steps", str(first + 5)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr
    assert "going on in run" in run.stdout
    assert run.stdout.count("steps done") == 1
    assert steps_done() == first + 5


@pytest.mark.slow
def test_the_lead_can_be_asked_to_stop(folder, launched):
    lead, other = launched(COMMAND, folder)
    wait_for_lines(2, lead)
    lead.send_signal(signal.SIGINT)
    (code, _, err), (other_code, _, _) = ends_of([lead, other])
    assert (code, other_code) == (75, 75)
    assert err == "stopping after this step; Ctrl-C once more to stop at once\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_is_silent_ends_the_other(number, folder, launched):
    lead, other = launched([*COMMAND, "--rank-timeout", "5"], folder)
    wait_for_lines(2, lead)
    other.send_signal(number)
    ((code, _, err),) = ends_of([lead])
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "ase-srdft-train: error: rank 0 of 2 lost another, which has ended or was silent" in err
    assert steps_done() >= 0


@pytest.mark.slow
def test_other_data_on_another_rank(folder, launched):
    port = free_port()
    ase.io.write("other.traj", rattled(4, stdev=0.03))
    ase.io.write("frames.traj", rattled(4))
    command = ["-m", "ase_srdft.cli.train", "--config", "small.yaml", "-o", "run", "--data"]
    names = ("frames.traj", "other.traj")
    processes = [start(rank, 2, port, [*command, name], folder) for rank, name in enumerate(names)]
    (code, _, err), (other_code, _, other_err) = ends_of(processes)
    assert (code, other_code) == (2, 2)
    assert "rank 0 and rank 1 have not the same settings or data: start all ranks" in err
    assert other_err == ""
