"""Peak memory of a sampler's process: walkers moved, and the message made and written.

    python benchmarks/sampler_memory.py --molecule aspirin --memory-gb 1
    python benchmarks/sampler_memory.py --molecule aspirin --memory-gb inf

The second has room for the integrals of all samples.  The model has fresh weights.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _common import as_numpy, benchmark_parser
from throughput import memory_MB
from throughput_bench import ThroughputBench, parsed_level
from throughput_record import KERNELS

from ase_srdft.parallel.allocator import keep_freed_memory
from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.workers.resumable_sampler import SamplerBlueprint, starting_checkpoint
from ase_srdft.sampling.workers.sampler_message import to_message
from ase_srdft.training.config import TrainingConfig

#: Room for everything.
_ALL = 2**62


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a sampler does, and print what it takes."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--molecule", default="aspirin")
    parser.add_argument("--level", default="PBE/6-31g", metavar="XC/BASIS")
    parser.add_argument("--family", default="fock")
    parser.add_argument("--walkers", type=int, default=4)
    parser.add_argument("--messages", type=int, default=1)
    parser.add_argument("--memory-gb", type=float, default=4.0, help="of the run")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    bounded = options.memory_gb < float("inf")
    carried = TrainingConfig(memory_gb=options.memory_gb).carried_bytes if bounded else _ALL
    level = parsed_level(options.level)
    bench = ThroughputBench(options.molecule, level, 1, 1e-9, [KERNELS], [options.family])
    own, molecules = bench.models[options.family], [bench.molecules[options.family]]
    settings = SamplingConfig(walkers=options.walkers)
    at = as_numpy(bench.positions)
    placed = [(walker, 0, at) for walker in range(options.walkers)]
    start = starting_checkpoint(0, placed, [at], np.random.SeedSequence(0))
    model, sampler = SamplerBlueprint.of(own, molecules, settings, True, carried).build(
        start, "cpu"
    )
    model.load_state_dict(own.state_dict())
    print(f"{memory_MB('VmRSS'):.0f} MB before")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.messages):
            message = sampler.advance(0)
            geometries = [s.geometry for s in message.batch.samples if s.geometry is not None]
            size = sum(geometry.nbytes for geometry in geometries) / 1e6
            moved = memory_MB("VmHWM")
            Mailbox(Path(folder)).put("sampler", number, *to_message(message))
            print(
                f"{len(message.batch.samples)} samples, {size:.0f} MB of integrals with "
                f"{len(geometries)} of them: peak {moved:.0f} MB when moved, "
                f"{memory_MB('VmHWM'):.0f} MB when sent"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
