"""Samplers in processes of their own: what they send, and what becomes of those that die."""

import copy
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from ase_srdft.common.errors import BadInput, SamplingFailed, WorkerFailed
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.models.single_point import single_point
from ase_srdft.sampling.workers.inline_pool import InlinePool
from ase_srdft.sampling.workers.process_pool import ProcessPool
from ase_srdft.sampling.workers.sampler_message import from_message, to_message
from ase_srdft.sampling.workers.sampler_pool import SamplerPool
from tests.tools.small_training import sampling_trainer, small_dataset, small_trainer

#: Seconds that a loaded machine may take to start Python with torch.
PATIENCE = 120.0
SLOW = pytest.mark.slow


def local_trainer(dataset=None, **engine):
    """A trainer whose samplers are processes, ready to sample from its first step on."""
    settings = {"name": "local", "samplers": 2} | engine
    return sampling_trainer(
        dataset, engine=settings, sampling={"walkers": 4}, steps=10**6, train_steps_per_round=4
    )


@pytest.fixture
def started():
    """Starts trainers' pools by hand, and stops them whatever happens."""
    trainers = []

    def start(trainer):
        trainers.append(trainer)
        trainer.sampling.pool.start(trainer.sampling.checkpoints)
        trainer.sampling.pool.publish(0, trainer.updater.averaged.state_dict())
        return trainer.sampling.pool

    yield start
    for trainer in trainers:
        trainer.sampling.pool.stop()


def collect(pool, count, seconds=PATIENCE):
    """Wait for messages."""
    messages, end = [], time.monotonic() + seconds
    while len(messages) < count:
        assert time.monotonic() < end, f"{len(messages)} of {count} messages in {seconds} s"
        messages += pool.collect()
        time.sleep(0.01)
    return messages


def by_sampler(messages, sampler):
    return [message for message in messages if message.checkpoint.sampler == sampler]


def test_pools_keep_the_protocol():
    assert isinstance(local_trainer().sampling.pool, SamplerPool)
    assert isinstance(local_trainer().sampling.pool, ProcessPool)
    assert isinstance(sampling_trainer().sampling.pool, InlinePool)


def test_a_process_samples_what_this_process_would(started):
    trainer = local_trainer(samplers=1)
    (message,) = collect(started(trainer), 1)[:1]
    expected = trainer.parts.sampler_from(trainer.sampling.checkpoints[0]).advance(0)
    assert message.checkpoint.nmessages == expected.checkpoint.nmessages == 1
    assert message.checkpoint.rng == expected.checkpoint.rng
    assert len(message.batch.samples) == len(expected.batch.samples) == 8
    for one, other in zip(message.batch.samples, expected.batch.samples, strict=True):
        assert (one.walker, one.step, one.weights_version) == (other.walker, other.step, 0)
        np.testing.assert_array_equal(one.positions, other.positions)
        assert one.energy == other.energy
        assert one.bracket_width == other.bracket_width
        assert torch.equal(one.geometry.guess_fock, other.geometry.guess_fock)
    assert message.checkpoint.arrays.keys() == expected.checkpoint.arrays.keys()
    for name, array in message.checkpoint.arrays.items():
        np.testing.assert_array_equal(array, expected.checkpoint.arrays[name])


@pytest.mark.slow
def test_walkers_are_shared_out_and_versions_arrive(started):
    trainer = local_trainer()
    pool = started(trainer)
    messages = collect(pool, 6)
    while not all(by_sampler(messages, sampler) for sampler in (0, 1)):
        messages += collect(pool, 1)  # on a busy machine one starts much later than the other
    walkers = [{s.walker for c in by_sampler(messages, i) for s in c.batch.samples} for i in (0, 1)]
    assert walkers == [{0, 2}, {1, 3}]
    trainer.updater.step = 3
    pool.publish(3, trainer.updater.averaged.state_dict())
    versions = [s.weights_version for c in collect(pool, 12) for s in c.batch.samples]
    assert versions == sorted(versions) or set(versions) == {0, 3}
    assert versions[-1] == 3


@pytest.mark.slow
def test_new_weights_are_what_the_walkers_move_on(started):
    trainer = local_trainer(samplers=1)
    pool = started(trainer)
    collect(pool, 1)
    old_model = copy.deepcopy(trainer.updater.averaged)
    trainer.begin()
    for _ in range(7):
        trainer.train(0.0)
    pool.publish(7, trainer.updater.averaged.state_dict())
    messages = collect(pool, 6)
    numbers = [message.checkpoint.nmessages for message in messages]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    sample = next(s for c in messages for s in c.batch.samples if s.weights_version == 7)
    at = torch.tensor(sample.positions)[None]
    new, old = (
        float(single_point(model, trainer.molecules[0], at, False, COARSE_GRID).energy)
        for model in (trainer.updater.averaged, old_model)
    )
    assert abs(sample.energy - old) > 1e-4
    assert abs(sample.energy - new) < 1e-7


@pytest.mark.slow
def test_a_sampler_waits_when_nobody_takes_its_messages(started):
    trainer = local_trainer(samplers=1, queue_size=3)
    pool = started(trainer)
    collect(pool, 1)
    folder = pool._mailbox
    end = time.monotonic() + PATIENCE
    while len(folder.waiting("sampler-0")) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(1.0)
    assert len(folder.waiting("sampler-0")) == 3
    assert pool.reports() == []


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(n, marks=SLOW) for n in (signal.SIGSEGV, signal.SIGTERM))],
)
def test_a_killed_sampler_goes_on_where_its_last_message_ended(number, started):
    trainer = local_trainer()
    pool = started(trainer)
    first = collect(pool, 4)
    pool.publish(11, trainer.updater.averaged.state_dict())
    os.kill(pool.processes[0].pid, number)
    os.waitid(os.P_PID, pool.processes[0].pid, os.WEXITED | os.WNOWAIT)
    messages, end = first, time.monotonic() + PATIENCE
    while not pool.nrestarts:
        assert time.monotonic() < end
        messages += pool.collect()
    before = len(by_sampler(messages, 0))
    while len(by_sampler(messages, 0)) == before:
        messages += collect(pool, 1)
    assert [(r.worker, r.reason, r.nrestarts) for r in pool.reports()] == [
        ("sampler-0", f"killed by {number.name}", 1)
    ]
    for sampler in (0, 1):
        numbers = [message.checkpoint.nmessages for message in by_sampler(messages, sampler)]
        assert numbers == list(range(1, len(numbers) + 1))
    samples = [(s.walker, s.step) for c in messages for s in c.batch.samples]
    assert len(set(samples)) == len(samples)
    assert by_sampler(messages, 0)[-1].checkpoint.version == 11


@pytest.mark.slow
def test_a_silent_sampler_is_started_again(started):
    trainer = local_trainer(samplers=1, silence_seconds=2.0)
    pool = started(trainer)
    collect(pool, 1)
    os.kill(pool.processes[0].pid, signal.SIGSTOP)
    last = collect(pool, 3)[-1]  # at most what it had sent before
    while not pool.nrestarts:
        last = (pool.collect() or [last])[-1]
        time.sleep(0.05)
    (report,) = pool.reports()
    assert report.reason.startswith("silent for ")
    assert collect(pool, 1)[0].checkpoint.nmessages == last.checkpoint.nmessages + 1


@pytest.mark.slow
def test_what_cannot_be_read_is_refused_and_made_again(started):
    trainer = local_trainer(samplers=1)
    pool = started(trainer)
    message = collect(pool, 1)[-1]
    os.kill(pool.processes[0].pid, signal.SIGSTOP)
    last = ([message, *pool.collect()])[-1].checkpoint.nmessages
    (pool._mailbox.path / f"sampler-0.{last + 1:09d}.message").write_bytes(b"not a message")
    assert pool.collect() == []
    (report,) = pool.reports()
    assert report.reason.startswith("sent what cannot be read (SafetensorError")
    assert collect(pool, 1)[0].checkpoint.nmessages == last + 1


@pytest.mark.slow
def test_too_many_deaths_are_the_end(started):
    trainer = local_trainer(samplers=1, max_restarts=1)
    pool = started(trainer)
    collect(pool, 1)
    broken = {"no.such.weight": torch.zeros(1)}
    pool.publish(5, broken)  # what a sampler fails on, every time
    with pytest.raises(WorkerFailed) as caught:
        collect(pool, 100)
    words = str(caught.value)
    assert words.startswith("sampler-0 ended with exit code 1, after 1 restarts of samplers")
    assert "Traceback (most recent call last):" in words
    assert "no.such.weight" in words
    (report,) = pool.reports()
    assert report.reason.startswith("ended with exit code 1 (")


def test_no_process_and_no_file_is_left(started):
    trainer = local_trainer()
    pool = started(trainer)
    pids = [process.pid for process in pool.processes]
    folder = pool._mailbox.path
    assert folder.is_dir()
    pool.stop()
    assert not folder.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    pool.stop()  # idempotent


@pytest.mark.parametrize(
    "state",
    ["starting", *(pytest.param(s, marks=SLOW) for s in ("sampling", "waiting", "stopped"))],
)
def test_stop_returns_within_ten_seconds(state, started):
    trainer = local_trainer()
    pool = started(trainer)
    if state != "starting":
        collect(pool, 2)
    if state == "waiting":
        time.sleep(1.0)
    if state == "stopped":
        for process in pool.processes:
            os.kill(process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    pool.stop()
    assert time.monotonic() - begun < 10.0


@pytest.mark.slow
def test_a_pool_can_be_started_again(started):
    trainer = local_trainer(samplers=1)
    pool = started(trainer)
    message = collect(pool, 1)[-1]
    pool.stop()
    pool.start([message.checkpoint])
    pool.publish(9, trainer.updater.averaged.state_dict())
    again = collect(pool, 1)[0]
    assert again.checkpoint.nmessages == message.checkpoint.nmessages + 1
    assert again.checkpoint.version == 9


# What the trainer takes


def a_message(trainer, version=0):
    return trainer.parts.sampler_from(trainer.sampling.checkpoints[0]).advance(version)


def test_messages_survive_the_way():
    trainer = sampling_trainer(small_dataset("H2O", "H2"))
    message = a_message(trainer)
    tensors, plain = to_message(message)
    again = from_message(tensors, plain, trainer.molecules, torch.device("cpu"))
    assert again.batch.resets == message.batch.resets
    assert [s.molecule for s in again.batch.samples] == [s.molecule for s in message.batch.samples]
    assert {s.molecule for s in again.batch.samples} == {0, 1}
    for one, other in zip(again.batch.samples, message.batch.samples, strict=True):
        assert (one.walker, one.step, one.energy) == (other.walker, other.step, other.energy)
        np.testing.assert_array_equal(one.forces, other.forces)
        assert torch.equal(one.geometry.grid.weights, other.geometry.grid.weights)
    assert again.checkpoint.rng == message.checkpoint.rng


def test_stale_samples_are_refused_but_the_walkers_go_on():
    trainer = sampling_trainer(engine={"name": "sync", "max_staleness": 5}, seed=7)
    before = len(trainer.buffer.samples)
    trainer.updater.step = 6
    message = a_message(trainer)
    taken = trainer.sampling.take(message)
    assert (taken.samples, taken.staleness) == ([], 6)
    assert trainer.counters.nsamples == 0
    assert trainer.counters.resets["too stale"] == len(message.batch.samples) == 4
    assert trainer.sampling.checkpoints[0] is message.checkpoint
    trainer.updater.step = 5
    taken = trainer.sampling.take(a_message(trainer))
    assert (len(taken.samples), taken.staleness) == (4, 5)
    assert len(trainer.buffer.samples) == before + 4


@pytest.mark.parametrize("what", ["positions", "energy", "forces", "bracket_width"])
def test_a_sample_with_a_nan_is_refused(what):
    trainer = sampling_trainer()
    message = a_message(trainer)
    first = message.batch.samples[0]
    bad = replace(first, **{what: getattr(first, what) * np.nan})
    samples = [bad, *message.batch.samples[1:]]
    taken = trainer.sampling.take(replace(message, batch=replace(message.batch, samples=samples)))
    assert len(taken.samples) == 3
    assert taken.resets["a number that is not finite"] == 1
    assert trainer.counters.nsamples == 3
    held = np.array([trainer.cache.positions_of(key) for key in trainer.buffer.samples])
    assert np.isfinite(held).all()


@pytest.mark.slow
def test_only_stale_samples_are_an_error_in_the_end():
    trainer = local_trainer(samplers=1, max_staleness=0)
    with pytest.raises(SamplingFailed, match=r"too stale.*allow staler samples"):
        for _ in trainer.run():
            pass


@pytest.mark.slow
def test_a_run_with_processes_trains_and_samples():
    trainer = local_trainer()
    events = []
    for event in trainer.run():
        events.append(event)
        trainer.stop_requested = len([e for e in events if e.sampling]) >= 12
    samples = [s for e in events if e.sampling for s in e.sampling.samples]
    assert len({(s.walker, s.step) for s in samples}) == len(samples) == trainer.counters.nsamples
    assert {s.walker for s in samples} == {0, 1, 2, 3}
    assert all(e.sampling.staleness >= 0 for e in events if e.sampling)
    assert {e.sampling.sampler for e in events if e.sampling} == {0, 1}
    assert trainer.sampling.pool.processes == []  # ended with the run


def test_more_samplers_than_walkers_are_refused():
    with pytest.raises(BadInput, match=r"sampling.walkers is 2: use at least as many as there are"):
        small_trainer(engine={"name": "local", "samplers": 3})


def test_a_sampler_device_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match="device 'toaster' cannot be used"):
        small_trainer(engine={"name": "local", "sampler_devices": ["toaster"]})
