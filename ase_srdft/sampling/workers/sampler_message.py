"""What samplers hand to the trainer: samples, and all that decides how their walkers go on.

A message carries the checkpoint of its sampler after it.  Whoever holds the last message can
start that sampler again, here or elsewhere, without losing or repeating a sample: checkpoints,
restarts of dead workers and the end of a run rest on this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ase_srdft.common.named_arrays import bundled, unbundled, under
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.prepared_geometry import concatenate, from_tensors, select, to_tensors
from ase_srdft.sampling.sample import Sample, SampleBatch

__all__ = [
    "SamplerCheckpoint",
    "SamplerMessage",
    "checkpoint_from_message",
    "checkpoint_to_message",
    "from_message",
    "to_message",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplerCheckpoint:
    """A sampler between two messages.

    Attributes:
        sampler: which one of the run.
        nmessages: that it has sent so far.
        version: of the weights it used last (their training step); -1 before the first message.
        arrays: its walkers: `Sampler.to_arrays`, or where they start (`starting_checkpoint`).
        rng: state of its bit generator.
    """

    sampler: int
    nmessages: int
    version: int
    arrays: dict[str, np.ndarray]
    rng: dict[str, Any]

    def to_plain(self) -> dict[str, Any]:
        """All but the arrays, as plain values; ``nchunks`` is what checkpoints on disk say."""
        own = {name: getattr(self, name) for name in ("sampler", "version", "rng")}
        return {**own, "nchunks": self.nmessages}

    @classmethod
    def from_plain(
        cls, plain: Mapping[str, Any], arrays: dict[str, np.ndarray]
    ) -> SamplerCheckpoint:
        """What :meth:`to_plain` gave, with the arrays."""
        own = {name: plain[name] for name in ("sampler", "version", "rng")}
        return cls(**own, nmessages=plain["nchunks"], arrays=arrays)


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplerMessage:
    """Samples of one sampler, all with the same weights.

    Attributes:
        batch: what the sampler gave.
        checkpoint: where that left it; ``checkpoint.nmessages`` counts this message.
    """

    batch: SampleBatch
    checkpoint: SamplerCheckpoint


_Packed = tuple[dict[str, Tensor], dict[str, Any]]
#: The numbers of a sample that are plain values.
_PLAIN = ("molecule", "walker", "step", "weights_version", "energy", "bracket_width")


def checkpoint_to_message(checkpoint: SamplerCheckpoint) -> _Packed:
    """As named tensors and plain values."""
    arrays = bundled(checkpoint.arrays)
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    return tensors, checkpoint.to_plain()


def checkpoint_from_message(
    tensors: Mapping[str, Tensor], plain: dict[str, Any]
) -> SamplerCheckpoint:
    """What `checkpoint_to_message` was given."""
    arrays = unbundled({name: tensor.numpy() for name, tensor in tensors.items()})
    return SamplerCheckpoint.from_plain(plain, arrays)


def to_message(message: SamplerMessage) -> _Packed:
    """As named tensors (on the CPU) and plain values, to be sent to another process."""
    tensors, checkpoint = checkpoint_to_message(message.checkpoint)
    tensors = {f"checkpoint.{name}": tensor for name, tensor in tensors.items()}
    result = message.batch
    grid_levels = []
    groups = _consecutive(result.samples)
    for index, samples in enumerate(groups):
        own = [sample.geometry for sample in samples if sample.geometry is not None]
        joined = concatenate(own) if own else None
        grid_levels.append(joined.grid.template.level if joined else None)
        named = to_tensors(joined) if joined else {}
        tensors |= {f"geometry.{index}.{name}": t.cpu() for name, t in named.items()}
        positions = np.stack([sample.positions for sample in samples])
        tensors[f"positions.{index}"] = torch.as_tensor(positions)
        tensors[f"forces.{index}"] = torch.as_tensor(np.stack([s.forces for s in samples]))
    plain = {
        "checkpoint": checkpoint,
        "grid_levels": grid_levels,
        "samples": [[{n: getattr(s, n) for n in _PLAIN} for s in group] for group in groups],
        "acceptance": result.acceptance,
        "temperature_K": result.temperature_K,
        "resets": dict(result.resets),
    }
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, plain


def from_message(
    tensors: Mapping[str, Tensor],
    plain: dict[str, Any],
    molecules: Sequence[Molecule],
    device: torch.device,
) -> SamplerMessage:
    """What `to_message` was given, the geometries on a device.

    Raises:
        KeyError, TypeError, ValueError, IndexError: something is missing or does not fit.
    """
    samples: list[Sample] = []
    for index, group in enumerate(plain["samples"]):
        own = {n: t.to(device) for n, t in under(f"geometry.{index}.", tensors).items()}
        level = plain["grid_levels"][index]
        molecule = molecules[group[0]["molecule"]]
        geometry = None if level is None else from_tensors(molecule, own, level)
        positions = tensors[f"positions.{index}"].numpy()
        forces = tensors[f"forces.{index}"].numpy()
        samples += [
            Sample(
                **values,
                positions=positions[place],
                forces=forces[place],
                geometry=geometry and select(geometry, slice(place, place + 1)),
            )
            for place, values in enumerate(group)
        ]
    result = SampleBatch(
        samples=samples,
        acceptance=plain["acceptance"],
        temperature_K=plain["temperature_K"],
        resets=Counter(plain["resets"]),
    )
    return SamplerMessage(
        batch=result,
        checkpoint=checkpoint_from_message(
            under("checkpoint.", tensors), dict(plain["checkpoint"])
        ),
    )


def _consecutive(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Consecutive samples of the same molecule, all with their integrals or all without."""

    def kind(sample: Sample) -> tuple[int, bool]:
        return sample.molecule, sample.geometry is None

    return [list(group) for _, group in groupby(samples, kind)]
