"""Workers that die, fall silent or send nonsense, without a single process: order and restarts."""

from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
import torch

from ase_srdft.common.errors import WorkerFailed
from ase_srdft.sampling.config import EngineConfig
from ase_srdft.sampling.sample import SampleBatch
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, SamplerMessage
from ase_srdft.sampling.workers.supervised_pool import SupervisedPool, UnreadableMessage


def checkpoint(sampler, nmessages=0):
    return SamplerCheckpoint(
        sampler=sampler, nmessages=nmessages, version=nmessages - 1, arrays={}, rng={}
    )


def message_of(sampler, nmessages):
    nothing = SampleBatch(samples=[], acceptance=1.0, temperature_K=0.0, resets=Counter())
    return SamplerMessage(batch=nothing, checkpoint=checkpoint(sampler, nmessages))


@dataclass(eq=False)
class Worker:
    """A worker of the test: what it will send, and what is wrong with it."""

    start: SamplerCheckpoint
    outbox: deque = field(default_factory=deque)
    trouble: str | None = None
    ended: bool = False
    words: str = ""


class Pool(SupervisedPool):
    """Workers that are objects of the test."""

    def __init__(self, **settings):
        blueprint = SamplerBlueprint(
            family="fock",
            level={},
            elements=(1, 8),
            model_config={},
            molecules=(),
            sampling={},
            coarse_grid=True,
            carried_bytes=10**8,
        )
        super().__init__(EngineConfig(**settings), blueprint, (), torch.device("cpu"))
        self.launched = []

    def publish(self, version, weights):
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError

    def _launch(self, sampler):
        self.launched.append(Worker(start=sampler.checkpoint))
        return self.launched[-1]

    def _sent(self, sampler):
        while sampler.worker.outbox:
            sent = sampler.worker.outbox.popleft()
            if isinstance(sent, str):
                raise UnreadableMessage(sent)
            yield sent

    def _tend(self, worker):
        return worker.trouble

    def _end(self, worker):
        worker.ended = True

    def _last_words(self, worker):
        return worker.words


@pytest.fixture
def pool():
    pool = Pool(samplers=2, max_restarts=2)
    pool.start([checkpoint(0), checkpoint(1)])
    return pool


def collected(pool):
    return [
        (message.checkpoint.sampler, message.checkpoint.nmessages) for message in pool.collect()
    ]


def test_messages_come_in_the_order_of_each_sampler(pool):
    first, second = pool.launched
    second.outbox += [message_of(1, 1), message_of(1, 2)]
    first.outbox.append(message_of(0, 1))
    assert collected(pool) == [(0, 1), (1, 1), (1, 2)]
    assert collected(pool) == []
    assert pool.reports() == []


def test_a_dead_worker_goes_on_from_the_last_message_that_was_collected(pool):
    first, second = pool.launched
    first.outbox += [message_of(0, 1), message_of(0, 2)]
    first.trouble, first.words = "killed by SIGKILL", "line one\nthe reason"
    assert collected(pool) == [(0, 1), (0, 2)]
    assert first.ended
    assert not second.ended
    assert pool.launched[2].start.nmessages == 2
    (report,) = pool.reports()
    assert (report.worker, report.nrestarts) == ("sampler-0", 1)
    assert "SIGKILL" in report.reason
    assert "the reason" in report.reason
    assert pool.reports() == []


@pytest.mark.parametrize(
    "sent", [message_of(0, 3), message_of(0, 1), "no JSON"], ids=["gap", "twice", "torn"]
)
def test_what_does_not_follow_is_not_taken(pool, sent):
    first = pool.launched[0]
    first.outbox += [message_of(0, 1), sent, message_of(0, 2)]
    assert collected(pool) == [(0, 1)]
    assert first.ended
    assert pool.launched[2].start.nmessages == 1
    assert collected(pool) == []


def test_restarts_are_counted_together_and_come_to_an_end(pool):
    for which in (0, 1):
        pool.launched[which].trouble = "silent for 9 s"
    assert collected(pool) == []
    assert [report.nrestarts for report in pool.reports()] == [1, 2]
    pool.launched[2].trouble, pool.launched[2].words = "silent for 9 s", "out of memory"
    with pytest.raises(WorkerFailed, match="out of memory"):
        pool.collect()
    assert pool.launched[2].ended


def test_devices_are_given_out_in_turn():
    pool = Pool(samplers=3, sampler_devices=("cuda:0", "cuda:1"))
    pool.start([checkpoint(i) for i in range(3)])
    assert [sampler.device for sampler in pool._samplers] == ["cuda:0", "cuda:1", "cuda:0"]
    assert Pool().sampler_devices == ("cpu",)
