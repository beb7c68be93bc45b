"""Sampling with actors of Ray: order, fresh weights, deaths, silence, shutdown, the same result."""

import importlib.util
import os
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ase_srdft.common.errors import BadInput, WorkerFailed
from ase_srdft.sampling.thermal_copies import thermal_copies
from ase_srdft.sampling.workers.ray_cluster import connect, device_kind, resources
from ase_srdft.sampling.workers.ray_pool import _imported_ray
from ase_srdft.sampling.workers.sampler_pool import SamplerPool
from ase_srdft.training.weight_updater import mean_bracket
from tests.tools.small_training import sampling_trainer, small_trainer

#: Actors import torch on a busy machine before they give their first message.
PATIENCE_SECONDS = 120.0

slow = pytest.mark.slow


def imported_ray():
    """The module, imported as the pool does; skips the test where there is none."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'ase_srdft[ray]'")
    return _imported_ray()


@pytest.fixture
def ray(monkeypatch):
    """The module; no cluster of the user's is joined, and no token is put into his home."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return imported_ray()


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine for the tests that do not ask who starts and ends it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray = imported_ray()
        connect(ray)
        yield ray
        ray.shutdown()


class Sampling:
    """A pool with two samplers of one walker each, and what has come from it."""

    def __init__(self, **settings):
        self.trainer = sampling_trainer(engine={"name": "ray", "samplers": 2} | settings)
        self.pool = self.trainer.sampling.pool
        self.weights = self.trainer.updater.averaged.state_dict()
        self.messages = defaultdict(list)
        self.reports = []

    def start(self, version):
        self.pool.start(self.trainer.sampling.checkpoints)
        self.pool.publish(version, self.weights)

    def until(self, condition):
        """Collect until a condition holds."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, (self.numbers(0), self.numbers(1), self.reports)
            for message in self.pool.collect():
                self.messages[message.checkpoint.sampler].append(message)
            self.reports += self.pool.reports()
            time.sleep(0.005)

    def until_both_have(self, nmessages):
        wanted = [len(self.messages[sampler]) + nmessages for sampler in (0, 1)]
        self.until(lambda: all(len(self.messages[s]) >= n for s, n in enumerate(wanted)))

    def numbers(self, sampler):
        return [message.checkpoint.nmessages for message in self.messages[sampler]]

    def versions(self, sampler):
        return [message.checkpoint.version for message in self.messages[sampler]]

    def steps(self):
        """Walker and step of all samples."""
        messages = [message for own in self.messages.values() for message in own]
        return [(s.walker, s.step) for message in messages for s in message.batch.samples]

    def nothing_is_lost_or_doubled(self):
        steps = self.steps()
        return len(set(steps)) == len(steps) > 0 and all(
            self.numbers(sampler) == list(range(1, len(own) + 1))
            for sampler, own in self.messages.items()
        )

    def pid(self, sampler):
        """The process of an actor."""
        call = self.pool.actors[sampler].__ray_call__.options(concurrency_group="side")
        return self.pool._ray.get(call.remote(lambda self: os.getpid()), timeout=PATIENCE_SECONDS)


@pytest.fixture
def sampling(cluster):
    """Makes pools; ends them."""
    made = []

    def new(**settings):
        made.append(Sampling(**settings))
        return made[-1]

    yield new
    for each in made:
        each.pool.stop()
    assert cluster.is_initialized()  # it was there before the pools


# Without Ray


def test_ray_that_is_not_installed_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput) as caught:
        small_trainer(engine={"name": "ray"})
    assert str(caught.value) == "the engine 'ray' needs Ray: pip install 'ase_srdft[ray]'"


@pytest.mark.parametrize(
    ("kinds", "cluster", "expected"),
    [
        (["cpu"] * 2, {"CPU": 2.0}, ("cpu", 1.0)),
        (["cpu"] * 5, {"CPU": 2.0}, ("cpu", 1 / 3)),  # three on one of them
        (["cpu"] * 2, {}, ("cpu", 0.5)),
        (["cuda"] * 2, {"GPU": 4.0}, ("cuda", 1.0)),
        (["cuda"] * 4 + ["cpu"], {"GPU": 2.0}, ("cuda", 0.5)),
    ],
)
def test_there_is_room_for_all_samplers(kinds, cluster, expected):
    kind, share = expected
    options = resources(kinds, cluster)[kind]
    assert options["num_gpus" if kind == "cuda" else "num_cpus"] == pytest.approx(share)
    assert options["num_cpus"] == (0 if kind == "cuda" else pytest.approx(share))


def test_gpus_that_are_not_there():
    with pytest.raises(BadInput, match=r"no GPU for samplers: .*sampler_devices"):
        resources(["cpu", "cuda"], {"CPU": 4.0})


def test_devices_are_cpu_or_cuda():
    assert [device_kind(name) for name in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda"]
    with pytest.raises(BadInput, match="'mps' is not supported: use 'cpu' or 'cuda'"):
        device_kind("mps")


# A pool that starts Ray and ends it


@slow
@pytest.mark.parametrize("state", ["before the first message", "while sampling", "one stopped"])
def test_stop_returns_in_whatever_state(ray, state, capfd):
    before = signal.getsignal(signal.SIGTERM)
    run = Sampling()
    assert isinstance(run.pool, SamplerPool)
    run.start(version=1)
    if state != "before the first message":
        run.until_both_have(1)
    if state == "one stopped":
        os.kill(run.pid(0), signal.SIGSTOP)
    started = time.monotonic()
    run.pool.stop()
    assert time.monotonic() - started < 10.0
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before  # or a run could not be asked to stop
    assert run.pool.collect() == []
    assert capfd.readouterr() == ("", "")


@slow
def test_a_cluster_that_is_not_there(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    run = Sampling()
    with pytest.raises(BadInput, match=r"cannot join the Ray cluster .* unset RAY_ADDRESS"):
        run.start(version=1)
    assert not ray.is_initialized()


# Pools on a cluster that is there


@slow
def test_both_samplers_give_all_their_messages_with_rising_versions(sampling):
    run = sampling()
    run.start(version=3)
    run.until_both_have(3)
    run.pool.publish(8, run.weights)
    run.until(lambda: all(8 in run.versions(sampler) for sampler in (0, 1)))
    run.until_both_have(3)
    assert run.nothing_is_lost_or_doubled()
    assert {walker for walker, _ in run.steps()} == {0, 1}
    for sampler in (0, 1):
        assert run.versions(sampler) == sorted(run.versions(sampler))
        assert set(run.versions(sampler)) == {3, 8}
        assert all(
            sample.weights_version == message.checkpoint.version
            for message in run.messages[sampler]
            for sample in message.batch.samples
        )
    assert run.reports == []


@slow
def test_messages_that_wait_are_few(sampling):
    run = sampling(queue_size=3)
    run.start(version=1)
    run.until_both_have(1)
    time.sleep(2.0)  # twenty messages' time
    assert 2 <= len(run.pool.collect()) <= 6


@slow
def test_messages_are_those_of_the_same_sampler_here(sampling):
    run = sampling()
    states = run.trainer.sampling.checkpoints
    run.start(version=1)
    run.until_both_have(2)
    for sampler in (0, 1):
        here = run.trainer.parts.sampler_from(states[sampler])
        for message in run.messages[sampler][:2]:
            own = here.advance(1)
            for ours, theirs in zip(own.batch.samples, message.batch.samples, strict=True):
                assert (ours.walker, ours.step) == (theirs.walker, theirs.step)
                np.testing.assert_allclose(theirs.positions, ours.positions, atol=1e-5)
                assert theirs.energy == pytest.approx(ours.energy, abs=1e-5)


@slow
def test_a_killed_actor_goes_on_where_it_was_with_the_newest_weights(sampling):
    run = sampling()
    run.start(version=1)
    run.until_both_have(2)
    run.pool.publish(7, run.weights)
    killed = run.pool.actors[0]
    run.pool._ray.kill(killed, no_restart=True)
    run.until(lambda: run.reports)
    (report,) = run.reports
    assert (report.worker, report.nrestarts) == ("sampler-0", 1)
    assert report.reason.startswith("died (")
    assert run.pool.actors[0] is not killed
    ncollected = len(run.messages[0])
    run.until_both_have(3)
    assert run.versions(0)[ncollected] == 7
    assert run.nothing_is_lost_or_doubled()
    assert len(run.reports) == 1


@slow
def test_a_silent_actor_is_taken_for_dead(sampling):
    run = sampling(silence_seconds=2.0)
    run.start(version=1)
    run.until_both_have(2)
    os.kill(run.pid(1), signal.SIGSTOP)
    stopped = time.monotonic()
    run.until(lambda: run.reports)
    assert 2.0 < time.monotonic() - stopped < 10.0
    assert run.reports[0].worker == "sampler-1"
    assert run.reports[0].reason.startswith("silent for 2 s")
    run.until_both_have(2)
    assert run.nothing_is_lost_or_doubled()


@slow
def test_time_without_a_look_is_no_silence(sampling):
    run = sampling(silence_seconds=1.5)
    run.start(version=1)
    run.until_both_have(1)
    for _ in range(2):
        time.sleep(4.0)
        run.until_both_have(2)
    assert run.reports == []


@slow
def test_too_many_deaths_end_the_run(sampling, capfd):
    run = sampling(max_restarts=1)
    run.start(version=1)
    run.until_both_have(1)
    os.kill(run.pid(0), signal.SIGKILL)
    run.until(lambda: run.reports)
    assert len(run.reports[0].reason) < 220
    os.kill(run.pid(1), signal.SIGKILL)
    with pytest.raises(WorkerFailed, match=r"sampler-1 died, after 1 restarts of samplers"):
        run.until(lambda: len(run.reports) > 1)
    time.sleep(1.0)  # Ray has a thread for what it has to say
    assert capfd.readouterr() == ("", "")


@slow
def test_the_traceback_of_an_actor_arrives(sampling, capfd):
    run = sampling(max_restarts=0)
    run.weights = {"unknown": next(iter(run.weights.values()))}
    run.start(version=1)
    with pytest.raises(WorkerFailed, match=r"(?s)failed, .*in advance\n.*load_state_dict.*unknown"):
        run.until_both_have(1)
    run.pool.stop()
    assert capfd.readouterr() == ("", "")  # it is said once, by who catches this


def energies_and_width(name, samplers):
    """Energies (Hartree) that a run has sampled late, and its model's bracket on common frames."""
    trainer = small_trainer(
        engine={"name": name, "samplers": samplers},
        steps=400,
        sampling={"walkers": 4, "steps_per_round": 4},
        safe_width_mEh=50.0,
    )
    energies = []
    for event in trainer.run():
        if event.sampling is not None:
            energies.append([sample.energy for sample in event.sampling.samples])
        elif name == "ray" and event.step >= 50:
            time.sleep(0.0 if energies else 0.1)  # for actors to start, or all is over before
    rng = np.random.default_rng(7)
    frames = thermal_copies(trainer.molecules[0], trainer.dataset.references[0], 16, 500.0, rng)
    batches = trainer.cache.batches([trainer.cache.add(0, frame) for frame in frames])
    width = mean_bracket(trainer.updater.averaged, batches, trainer.threads)[1]
    return np.concatenate(energies[len(energies) // 3 :]), width


@slow
def test_the_result_is_that_of_sampling_in_turn(cluster):
    (sync, sync_width), (ray, ray_width) = (
        energies_and_width(*engine) for engine in (("sync", 1), ("ray", 2))
    )
    # Three vibrations at 500 K: the potential energy spreads by sqrt(3/2) kT = 1.9 mHa.  Samples
    # of a walker remember some 1 / 0.3 steps, so about one in seven is independent; the models
    # differ by their brackets, which are narrower.
    errors = [energies.std() / np.sqrt(len(energies) / 7) for energies in (sync, ray)]
    for energies in (sync, ray):
        assert len(energies) > 100
        assert 1.0e-3 < energies.std() < 4.0e-3
    assert np.hypot(*errors) < 0.6e-3  # so that the next line says something
    assert abs(sync.mean() - ray.mean()) < 4 * np.hypot(*errors)
    # Each run holds out samples of its own, whose mean brackets scatter by two from seed to seed of
    # either engine (16 frames each); on the same frames the two differ by up to 1.4 (three seeds).
    assert 0.5 < ray_width / sync_width < 2.0


def test_workers_do_not_look_for_modules_in_the_current_folder(tmp_path, monkeypatch):
    """Ray puts the folder in which it is joined before all others in their path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")
    seen = []
    connect(SimpleNamespace(init=lambda **_: seen.append(Path.cwd())))
    assert Path.cwd() == tmp_path
    (folder,) = seen
    assert folder != tmp_path
    assert not [p for p in folder.iterdir() if p.is_dir() or p.suffix == ".py"]
