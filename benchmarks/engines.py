"""Sampling beside training against sampling and training in turn.

    python benchmarks/engines.py                    # sync and local, one run, the same settings
    python benchmarks/engines.py --simulate 1 2 4 8 16 32

The first form trains ethanol (PBE/6-31G) for a while so that dynamics is safe, and then lets each
engine train and sample from there for the same time, in turn and twice: training steps and new
samples per minute.  One thread for the trainer, one for each sampler.

The second asks how many samplers one trainer can be fed by.  Samplers are simulated: their messages
are those of a real sampler, recorded once, and arrive at its measured rate through the same files,
without using any processor; what is measured is the trainer.
"""

from __future__ import annotations

import argparse
import copy
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _common import benchmark_parser
from ase.build import molecule

from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.parallel.worker_process import WorkerProcess
from ase_srdft.sampling.config import EngineConfig, SamplingConfig
from ase_srdft.sampling.workers.process_pool import ProcessPool
from ase_srdft.sampling.workers.sampler_message import SamplerCheckpoint, to_message
from ase_srdft.sampling.workers.supervised_pool import WorkerSampler
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.events import Event
from ase_srdft.training.trainer import Trainer


def new_trainer(
    options: argparse.Namespace, engine: EngineConfig, model: ElectronicStateModel | None = None
) -> Trainer:
    """A trainer that samples from its first step on, if it is given a model to sample with."""
    config = TrainingConfig(
        engine=engine, sampling=SamplingConfig(walkers=max(4, engine.samplers)), steps=10**6
    )
    trainer = Trainer(config, Dataset.of([molecule(options.molecule)]), model)
    trainer.begin()
    if model is not None:
        trainer.sampling.place_walkers()
    return trainer


def pretrained(options: argparse.Namespace) -> ElectronicStateModel:
    """A model that is safe for dynamics."""
    trainer = new_trainer(options, EngineConfig(name="sync"))
    while trainer.updater.step < options.pretraining or not trainer.sampling.bracket_is_safe():
        trainer.train(0.0)
    return trainer.averaged_model()


def rates(trainer: Trainer, seconds: float) -> tuple[float, float]:
    """Training steps and samples per minute, from the first sample on."""
    first: Event | None = None
    for event in trainer.run():
        if event.worker is not None:
            sys.exit(f"a worker died: {event.worker}")
        if first is None:
            first = event if event.nsamples else None
        elif event.elapsed - first.elapsed > seconds:
            minutes = (event.elapsed - first.elapsed) / 60
            return (event.step - first.step) / minutes, (event.nsamples - first.nsamples) / minutes
    sys.exit(f"the run ended after {trainer.updater.step} steps, before {seconds:g} s of sampling")


def compare(options: argparse.Namespace) -> None:
    """Both engines, in turn."""
    model = pretrained(options)
    found: dict[str, list[tuple[float, float]]] = {"sync": [], "local": []}
    print("| engine | training steps per minute | samples per minute |\n| --- | --- | --- |")
    for _ in range(options.repeats):
        for name, results in found.items():
            trainer = new_trainer(options, EngineConfig(name=name), copy.deepcopy(model))
            results.append(rates(trainer, options.seconds))
            print(f"| {name} | {results[-1][0]:.0f} | {results[-1][1]:.0f} |", flush=True)
    sums = {name: [sum(r[i] for r in results) for i in (0, 1)] for name, results in found.items()}
    steps, samples = (sums["local"][i] / sums["sync"][i] for i in (0, 1))
    print(f"\nlocal / sync: training steps {steps:.2f}, samples {samples:.2f}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """A message as it is sent, and the seconds that a sampler needs for one."""

    tensors: dict[str, torch.Tensor]
    plain: dict[str, Any]
    interval: float


class ReplayedProcess(WorkerProcess):
    """In the place of a sampler process: a thread that sends the same message again and again."""

    def __init__(
        self, mailbox: Mailbox, name: str, checkpoint: SamplerCheckpoint, sent: Recording
    ) -> None:
        # without WorkerProcess's own part, which starts a process
        self.stopped = threading.Event()

        def replay() -> None:
            number = checkpoint.nmessages
            while not self.stopped.wait(sent.interval):
                if len(mailbox.waiting(name)) >= 2:
                    continue
                number += 1
                own = sent.plain["checkpoint"] | {"nchunks": number, "sampler": checkpoint.sampler}
                mailbox.put(name, number, sent.tensors, sent.plain | {"checkpoint": own})

        self.thread = threading.Thread(target=replay, daemon=True)
        self.thread.start()

    def trouble(self, silence_seconds: float) -> None:
        return None

    def request_end(self) -> None:
        self.stopped.set()

    def end(self) -> None:
        self.thread.join()


class ReplayingPool(ProcessPool):
    """A local engine whose samplers are replayed.

    Args:
        engine: that it is in the place of.
        sent: by every sampler.
    """

    def __init__(self, engine: ProcessPool, sent: Recording) -> None:
        super().__init__(engine.config, engine.blueprint, engine.molecules, engine.device)
        self.sent = sent

    def _launch(self, sampler: WorkerSampler[WorkerProcess]) -> WorkerProcess:
        assert self._mailbox is not None
        return ReplayedProcess(self._mailbox, sampler.name, sampler.checkpoint, self.sent)


def recorded(trainer: Trainer) -> Recording:
    """The second message of the first sampler: the first takes longer, it places walkers."""
    producer = trainer.parts.sampler_from(trainer.sampling.checkpoints[0])
    producer.advance(0)
    begun = time.monotonic()
    tensors, plain = to_message(producer.advance(1))
    return Recording(tensors=tensors, plain=plain, interval=time.monotonic() - begun)


def simulate(options: argparse.Namespace) -> None:
    """The trainer's throughput against the number of samplers."""
    model = pretrained(options)
    trainer = new_trainer(options, EngineConfig(name="sync"), copy.deepcopy(model))
    sent = recorded(trainer)
    megabytes = sum(t.numel() * t.element_size() for t in sent.tensors.values()) / 1e6
    print(
        f"a message of 16 samples takes a sampler {sent.interval:.2f} s and is {megabytes:.0f} MB"
    )
    print("| samplers | samples per minute | training steps per minute |\n| --- | --- | --- |")
    for count in options.simulate:
        local = EngineConfig(name="local", samplers=count)
        trainer = new_trainer(options, local, copy.deepcopy(model))
        assert isinstance(trainer.sampling.pool, ProcessPool)
        trainer.sampling.pool = ReplayingPool(trainer.sampling.pool, sent)
        steps, samples = rates(trainer, options.seconds)
        print(f"| {count} | {samples:.0f} | {steps:.0f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--molecule", default="CH3CH2OH")
    parser.add_argument("--pretraining", type=int, default=150, help="steps at least")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--simulate", type=int, nargs="+", metavar="SAMPLERS")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    simulate(options) if options.simulate else compare(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
