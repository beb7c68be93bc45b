"""Sampling beside training against sampling and training in turn.

    python benchmarks/engines.py                    # sync and local, one run, the same settings
    python benchmarks/engines.py --simulate 1 2 4 8 16 32

The first form trains ethanol (PBE/6-31G) for a while so that dynamics is safe, and then lets each
engine train and sample from there for the same time, in turn and twice: training steps and new
samples per minute.  One thread for the trainer, one for each sampler.

The second asks how many samplers one trainer can be fed by.  Samplers are simulated: their chunks
are those of a real sampler, recorded once, and arrive at its measured rate through the same files,
without using any processor; what is measured is the trainer.
"""

from __future__ import annotations

import argparse
import copy
import sys
import threading
import time

import torch
from ase.build import molecule

from ase_srdft.training.chunk import pack
from ase_srdft.training.config import EngineConfig, SamplingConfig, TrainingConfig
from ase_srdft.training.dataset import Dataset
from ase_srdft.training.trainer import Trainer


def new_trainer(options, model=None, **engine):
    """A trainer that samples from its first step on."""
    config = TrainingConfig(
        engine=EngineConfig(**engine),
        sampling=SamplingConfig(walkers=max(4, engine.get("samplers", 1))),
        steps=10**6,
    )
    trainer = Trainer(config, Dataset.of([molecule(options.molecule)]), model)
    trainer.begin()
    if model is not None:
        trainer.counters.sampling = True
        trainer._place_walkers()
    return trainer


def pretrained(options):
    """A model that is safe for dynamics."""
    trainer = new_trainer(options, name="sync")
    while trainer.learner.step < options.pretraining or not trainer.bracket_is_safe():
        trainer.train(0.0)
    return trainer.averaged_model()


def rates(trainer, seconds):
    """Training steps and samples per minute, from the first sample on."""
    begun = None
    for event in trainer.run():
        if event.worker is not None:
            sys.exit(f"a worker died: {event.worker}")
        if begun is None and event.nsamples:
            begun = (time.monotonic(), event.step, event.nsamples)
        if begun is not None and time.monotonic() - begun[0] > seconds:
            break
    minutes = (time.monotonic() - begun[0]) / 60
    return (event.step - begun[1]) / minutes, (event.nsamples - begun[2]) / minutes


def compare(options):
    """Both engines, in turn."""
    model = pretrained(options)
    found = {"sync": [], "local": []}
    print("| engine | training steps per minute | samples per minute |\n| --- | --- | --- |")
    for _ in range(options.repeats):
        for name, results in found.items():
            results.append(
                rates(new_trainer(options, copy.deepcopy(model), name=name), options.seconds)
            )
            print(f"| {name} | {results[-1][0]:.0f} | {results[-1][1]:.0f} |", flush=True)
    sums = {name: [sum(r[i] for r in results) for i in (0, 1)] for name, results in found.items()}
    steps, samples = (sums["local"][i] / sums["sync"][i] for i in (0, 1))
    print(f"\nlocal / sync: training steps {steps:.2f}, samples {samples:.2f}")


class ReplayedProcess:
    """In the place of a sampler process: a thread that sends the same chunk again and again."""

    def __init__(self, exchange, name, state, chunk, interval):
        self.stopped = threading.Event()
        tensors, record = chunk

        def replay():
            number = state.nchunks
            while not self.stopped.wait(interval):
                if len(exchange.waiting(name)) >= 2:
                    continue
                number += 1
                record["state"]["nchunks"], record["state"]["sampler"] = number, state.sampler
                exchange.put(name, number, tensors, record)

        self.thread = threading.Thread(target=replay, daemon=True)
        self.thread.start()

    def trouble(self, silence_seconds):
        return None

    def request_end(self):
        self.stopped.set()

    def end(self):
        self.thread.join()


def simulate(options):
    """The trainer's throughput against the number of samplers."""
    model = pretrained(options)
    trainer = new_trainer(options, copy.deepcopy(model), name="sync")
    producer = trainer._producer(trainer.sampler_states[0])
    producer.chunk(0)
    begun = time.monotonic()
    chunk = pack(producer.chunk(1))
    interval = time.monotonic() - begun
    nbytes = sum(t.numel() * t.element_size() for t in chunk[0].values())
    print(f"a chunk of 16 samples takes a sampler {interval:.2f} s and is {nbytes / 1e6:.0f} MB")
    print("| samplers | samples per minute | training steps per minute |\n| --- | --- | --- |")
    for count in options.simulate:
        trainer = new_trainer(options, copy.deepcopy(model), name="local", samplers=count)
        engine = trainer.engine

        def launch(sampler, engine=engine):
            copied = (chunk[0], copy.deepcopy(chunk[1]))
            return ReplayedProcess(engine._exchange, sampler.name, sampler.state, copied, interval)

        engine._launch = launch
        steps, samples = rates(trainer, options.seconds)
        print(f"| {count} | {samples:.0f} | {steps:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--molecule", default="CH3CH2OH")
    parser.add_argument("--pretraining", type=int, default=150, help="steps at least")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--simulate", type=int, nargs="+", metavar="SAMPLERS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    simulate(options) if options.simulate else compare(options)


if __name__ == "__main__":
    main()
