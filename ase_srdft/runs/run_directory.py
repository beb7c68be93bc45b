"""What a training run leaves behind: model, samples, metrics, settings, checkpoint, report."""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory

from ase_srdft.common.atomic_files import (
    locked_directory,
    remove_file,
    writable_directory,
    write_atomically,
)
from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.common.source_commit import source_commit
from ase_srdft.common.trajectory_files import trim_trajectory
from ase_srdft.common.units import (
    ANGSTROM_PER_BOHR,
    EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
    EV_PER_HARTREE,
    MICROHARTREE,
)
from ase_srdft.dft.kernels.library import description
from ase_srdft.models.model_file import load_model, save_model
from ase_srdft.runs.checkpoint import Checkpoints, load_checkpoint
from ase_srdft.runs.metrics_records import (
    end_record,
    event_record,
    finite,
    hamiltonian_record,
    sampling_record,
    validation_record,
)
from ase_srdft.runs.report.page import write_report
from ase_srdft.runs.training_record import microhartree, training_record
from ase_srdft.sampling.sample import Sample
from ase_srdft.training.events import Event
from ase_srdft.training.trainer import Trainer
from ase_srdft.version import __version__

__all__ = ["RunDirectory"]

_LOG_EVERY = 20
#: For a run that has been told to end, or has lost its supervisor, to do so.
_PATIENCE_SECONDS = 30.0


class RunDirectory:
    """Writes the files of one run.

    ``model.srdft`` (the best model so far), ``samples.traj`` (eV, eV/Angstrom), ``metrics.jsonl``,
    ``config.yaml``, ``report.html`` and the checkpoint.  Frames of the trajectory tell in
    ``atoms.info`` their ``charge``, ``walker``, ``walker_step`` and ``weights_version``, and as
    `ase_srdft.SRDFTCalculator` does ``srdft_level`` (without the grid: sampling is on the coarse
    one), ``srdft_model``, the model's family and the version of its weights, and ``srdft_error``,
    the width of the bracket (eV).

    Args:
        path: created if need be.
        trainer: whose events are recorded; put where the directory's checkpoint left off.
        checkpoints: of this directory, those that the trainer asks before it publishes weights;
            None where nothing leaves its process (engine ``sync``).

    Raises:
        BadInput: the directory cannot be written, holds another run, or one that is at work; or
            no checkpoints are given where weights go to other processes.
        DamagedFile: its checkpoint is damaged.
    """

    def __init__(
        self, path: Path, trainer: Trainer, checkpoints: Checkpoints | None = None
    ) -> None:
        engine = trainer.config.engine.name
        if checkpoints is None and engine != "sync":
            raise BadInput(
                f"engine {engine!r} without checkpoints: give the same Checkpoints here and, as "
                "may_publish=checkpoints.save_if_due, to the Trainer"
            )
        self.checkpoints = checkpoints or Checkpoints(path)
        self.path = writable_directory(path)
        self._lock = weakref.finalize(self, os.close, locked_directory(path, _PATIENCE_SECONDS))
        self.trainer = trainer
        self._recent: list[Event] = []
        self._interval_started = time.monotonic()
        self._saved_width = math.nan
        try:
            self.resumed = load_checkpoint(path, trainer)
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        settings = yaml.safe_dump(self.trainer.config.to_plain(), sort_keys=False)
        if not self.resumed:
            self._refuse_files_of_others(settings)
        self._trim()
        # a run that goes on may have other limits
        write_atomically(self.path / "config.yaml", settings)
        self._log(self._start_record())
        if self.resumed:
            self._saved_width = self._width_of_saved_model()
        self.checkpoint()

    def _width_of_saved_model(self) -> float:
        """The best width, where the file has those weights (a kill may have come in between)."""
        best = self.trainer.counters.best_width
        try:
            training = load_model(self.path / "model.srdft").training
        except (BadInput, DamagedFile):
            return math.nan
        return best if training.get("bracket_width_uEh") == microhartree(best) else math.nan

    def record(self, event: Event) -> None:
        """Write down what happened."""
        if event.training is not None:
            self._recent.append(event)
            if event.training.rolled_back:
                width = finite(event.training.bracket_width * MICROHARTREE)
                record = event_record("turned_back", event) | {"bracket_width_uEh": width}
                self._log(record | hamiltonian_record([event.training.hamiltonian_error]))
            if event.step % _LOG_EVERY == 0:
                self._log_training()
            if event.step % self.trainer.config.train_steps_per_round == 0:
                self.checkpoints.save_if_due(self.trainer)
        elif event.sampling is not None:
            self._log(sampling_record(event, event.sampling))
            self._append_samples(event.sampling.samples)
        elif event.validation is not None:
            self._log(event_record("validation", event) | validation_record(event.validation))
            if event.validation.best:
                self._save_model()
        elif event.worker is not None:
            self._log(event_record("worker", event) | asdict(event.worker))

    def checkpoint(self) -> None:
        """Make everything durable.

        Raises:
            OSError: it cannot be written; the last one is still there.
        """
        self.checkpoints.save(self.trainer)

    def finish(self, reason: str) -> None:
        """The run ends here: checkpoint, model and report."""
        self._log_training()
        self.checkpoint()
        width = self.trainer.counters.best_width
        validated = math.isfinite(width)
        # unvalidated weights have no width to tell whether an earlier session saved the same
        is_saved = validated and width == self._saved_width
        if not is_saved or not (self.path / "model.srdft").exists():
            self._save_model(validated)
        self._log(end_record(self.trainer, reason))
        write_report(self.path)
        self.close()

    def close(self) -> None:
        """Let other processes work in the directory; twice is once."""
        self._lock()

    def _start_record(self) -> dict[str, Any]:
        trainer = self.trainer
        parameters = trainer.updater.model.parameters()
        return {
            "kind": "start",
            "step": trainer.updater.step,
            "elapsed_s": trainer.counters.elapsed,
            "molecules": trainer.names,
            "nstructures": trainer.dataset.nstructures,
            "notes": trainer.notes,
            "level": ", ".join(map(str, trainer.config.all_levels)),
            "nparameters": sum(p.numel() for p in parameters),
            "nframes": len(trainer.buffer.frames),
            "nvalidation": len(trainer.held_out),
            "computing": description(),
            "threads": trainer.config.threads,
            "version": __version__,
            "commit": source_commit(),
        }

    def _save_model(self, validated: bool = True) -> None:
        """The best model so far, or that of now where none was validated yet."""
        trainer = self.trainer
        model = trainer.best_model() if validated else trainer.averaged_model()
        save_model(self.path / "model.srdft", model, training_record(trainer))
        self._saved_width = trainer.counters.best_width

    def _log(self, record: dict[str, Any]) -> None:
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _log_training(self) -> None:
        """Averages over the steps since the last time."""
        events = [event for event in self._recent if event.training is not None]
        if not events:
            return
        now = time.monotonic()
        records = [event.training for event in events if event.training is not None]
        count = len(records)
        self._log(
            event_record("training", events[-1])
            | {
                "energy_hartree": finite(sum(r.energy for r in records) / count),
                "bracket_width_uEh": finite(
                    MICROHARTREE * sum(r.bracket_width for r in records) / count
                ),
                "gradient_norm": sum(r.gradient_norm for r in records) / count,
                "learning_rate": records[-1].learning_rate,
                "nsamples": events[-1].nsamples,
                "steps_per_s": count / max(now - self._interval_started, 1e-9),
            }
            | hamiltonian_record([record.hamiltonian_error for record in records])
        )
        self._recent, self._interval_started = [], now

    def _append_samples(self, samples: list[Sample]) -> None:
        with Trajectory(self.path / "samples.traj", "a") as trajectory:
            for sample in samples:
                trajectory.write(self._atoms(sample))

    def _atoms(self, sample: Sample) -> Atoms:
        atoms = Atoms(
            self.trainer.molecules[sample.molecule].numbers,
            positions=sample.positions * ANGSTROM_PER_BOHR,
        )
        energy = sample.energy * EV_PER_HARTREE
        level = self.trainer.molecules[sample.molecule].level
        atoms.info = {
            "charge": level.charge,
            "srdft_level": f"{level.xc}/{level.basis}",
            "srdft_model": f"{self.trainer.config.model} v{sample.weights_version}",
            "srdft_error": sample.bracket_width * EV_PER_HARTREE,
            "walker": sample.walker,
            "walker_step": sample.step,
            "weights_version": sample.weights_version,
        }
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=energy,
            free_energy=energy,
            forces=sample.forces * EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
        )
        return atoms

    def _refuse_files_of_others(self, settings: str) -> None:
        """Without a checkpoint, only what an unfinished start of this run left may be lost."""
        config = self.path / "config.yaml"
        started = config.is_file() and config.read_bytes() == settings.encode()
        ours = ("config.yaml", "metrics.jsonl", "samples.traj", "model.srdft", "report.html")
        for name in ours[2 * started :]:
            if (self.path / name).exists():
                raise BadInput(
                    f"{self.path} holds {name}, but no checkpoint to go on from: choose another "
                    "directory, or move it away"
                )

    def _trim(self) -> None:
        """Files of samples and metrics cut back to what the checkpoint knows of."""
        metrics = self.path / "metrics.jsonl"
        samples = self.path / "samples.traj"
        if not self.resumed:
            remove_file(metrics)
            remove_file(samples)
            return
        if metrics.exists():
            lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines()
            step, nsamples = self.trainer.updater.step, self.trainer.counters.nsamples
            kept = [line for line in lines if _up_to(line, step, nsamples)]
            write_atomically(metrics, "".join(line + "\n" for line in kept))
        trim_trajectory(samples, self.trainer.counters.nsamples)


def _up_to(line: str, step: int, nsamples: int) -> bool:
    """Whether a line of the metrics is whole and was written before a checkpoint."""
    try:
        record = json.loads(line)
        known = record.get("step", 0) <= step and record.get("nsamples", 0) <= nsamples
    except (json.JSONDecodeError, AttributeError, TypeError):
        return False
    return bool(known and record.get("kind") != "end")
