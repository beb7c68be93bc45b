"""``benchmarks/engines.py``: rates between two events, and samplers that are replayed."""

import time
from dataclasses import replace
from types import SimpleNamespace

import engines
import pytest

from ase_srdft.training.events import Event
from tests.tools.small_training import sampling_trainer


def trainer_of(events):
    """What gives events (step, seconds, samples) as a trainer does."""
    made = [Event(step=s, elapsed=t, progress=0.0, nsamples=n) for s, t, n in events]
    return SimpleNamespace(run=lambda: iter(made), updater=SimpleNamespace(step=made[-1].step))


def test_rates_are_per_minute_and_from_the_first_sample_on():
    events = [(5, 1.0, 0), (10, 20.0, 4), (30, 40.0, 8), (50, 51.0, 24), (90, 90.0, 99)]
    steps, samples = engines.rates(trainer_of(events), 30.0)
    assert steps == pytest.approx(40 / 31 * 60)
    assert samples == pytest.approx(20 / 31 * 60)


def test_a_run_that_ends_too_soon_has_no_rates():
    with pytest.raises(SystemExit, match="ended after 7 steps, before 30 s of sampling"):
        engines.rates(trainer_of([(7, 20.0, 4)]), 30.0)


def test_replayed_samplers_send_message_after_message():
    trainer = sampling_trainer(engine={"name": "local", "samplers": 2})
    sent = engines.recorded(trainer)
    assert sent.interval > 0
    pool = engines.ReplayingPool(trainer.sampling.pool, replace(sent, interval=0.01))
    pool.start(trainer.sampling.checkpoints)
    numbers, end = {0: [], 1: []}, time.monotonic() + 60
    try:
        while min(len(own) for own in numbers.values()) < 3 and time.monotonic() < end:
            for message in pool.collect():
                numbers[message.checkpoint.sampler].append(message.checkpoint.nmessages)
    finally:
        pool.stop()
    for own in numbers.values():
        assert len(own) >= 3
        assert own == list(range(1, len(own) + 1))
    assert pool.reports() == []
