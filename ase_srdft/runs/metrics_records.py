"""What ``metrics.jsonl`` says of what happens in a run: one record a line, for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ase_srdft.common.units import MICROHARTREE
from ase_srdft.runs.training_record import microhartree
from ase_srdft.sampling.sample import SampleBatch
from ase_srdft.training.events import Event, Validation
from ase_srdft.training.trainer import Trainer

__all__ = [
    "end_record",
    "event_record",
    "finite",
    "hamiltonian_record",
    "sampling_record",
    "validation_record",
]


def validation_record(validation: Validation) -> dict[str, Any]:
    """What ``metrics.jsonl`` says of a validation."""
    record: dict[str, Any] = {
        "energy_hartree": validation.energy,
        "bracket_width_uEh": validation.bracket_width * MICROHARTREE,
        "bracket_width_max_uEh": microhartree(validation.largest_width),
        "best": validation.best,
        "best_bracket_width_uEh": microhartree(validation.best_width),
        "best_bracket_width_max_uEh": microhartree(validation.best_largest_width),
        "nvalidation": validation.ngeometries,
        "nsampled": validation.nsampled,
        "nframes": validation.nframes,
    }
    if len(validation.widths_of_molecules) > 1:
        record["molecule_widths_uEh"] = [microhartree(w) for w in validation.widths_of_molecules]
        record["worst"] = _worst_record(validation.worst)
    if validation.of_levels:
        record["levels"] = [
            {
                "level": each.level,
                "nvalidation": each.ngeometries,
                "bracket_width_uEh": microhartree(each.bracket_width),
                "bracket_width_max_uEh": microhartree(each.largest_width),
            }
            for each in validation.of_levels
        ]
    return record | hamiltonian_record([validation.hamiltonian_error])


def end_record(trainer: Trainer, reason: str) -> dict[str, Any]:
    """What ``metrics.jsonl`` says of the end of a session."""
    counters = trainer.counters
    record: dict[str, Any] = {
        "kind": "end",
        "step": trainer.updater.step,
        "elapsed_s": trainer.elapsed,
        "reason": reason,
        "best_bracket_width_uEh": microhartree(counters.best_width),
        "best_bracket_width_max_uEh": microhartree(counters.best_largest_width),
        "nvalidation": len(trainer.held_out),
        "nsampled": counters.validated_nsampled,
        "nframes": trainer.held_out.nframes,
    }
    if worst := trainer.worst_molecules:
        record["worst"] = _worst_record(worst)
    names = ("target_error_uEh", "target_worst_error_uEh")
    targets = {name: getattr(trainer.config, name) for name in names}
    if asked := {name: target for name, target in targets.items() if target is not None}:
        record |= asked | {"target_reached": trainer.target_is_reached}
    return record


def _worst_record(worst: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Molecules by name and the mean width of each."""
    return [{"molecule": name, "bracket_width_uEh": microhartree(width)} for name, width in worst]


def event_record(kind: str, event: Event) -> dict[str, Any]:
    """What every event's line begins with."""
    return {"kind": kind, "step": event.step, "elapsed_s": round(event.elapsed, 3)}


def finite(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None


def hamiltonian_record(errors: Sequence[float | None]) -> dict[str, Any]:
    """Mean error of the predicted Fock matrices; nothing without labels."""
    known = [error for error in errors if error is not None]
    if not known:
        return {}
    return {"hamiltonian_mae_uEh": MICROHARTREE * sum(known) / len(known)}


def sampling_record(event: Event, sampling: SampleBatch) -> dict[str, Any]:
    """What it says of a round of dynamics."""
    temperature = sampling.temperature_K
    return event_record("sampling", event) | {
        "nsamples": event.nsamples,
        "energies_hartree": [sample.energy for sample in sampling.samples],
        "molecules": [sample.molecule for sample in sampling.samples],
        "bracket_width_uEh": [s.bracket_width * MICROHARTREE for s in sampling.samples],
        "sampler": sampling.sampler,
        "staleness": sampling.staleness,
        "acceptance": sampling.acceptance,
        "temperature_K": temperature if math.isfinite(temperature) else None,
        "resets": dict(sampling.resets),
    }
