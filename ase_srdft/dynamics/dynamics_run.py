"""A run of dynamics in a folder, which goes on where it stopped or was killed."""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.md.md import MolecularDynamics

from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.common.atomic_files import locked_directory, writable_directory, write_atomically
from ase_srdft.common.errors import BadInput
from ase_srdft.common.trajectory_files import trim_trajectory
from ase_srdft.dynamics.certificate_logger import CertificateLogger
from ase_srdft.dynamics.dynamics_checkpoint import (
    CHECKPOINT,
    DynamicsCheckpoint,
    read_checkpoint,
    write_checkpoint,
)
from ase_srdft.dynamics.dynamics_config import DynamicsConfig
from ase_srdft.dynamics.dynamics_step import DynamicsStep
from ase_srdft.dynamics.equations import draw_momenta, integrator
from ase_srdft.dynamics.overdamped_langevin import OverdampedLangevin

__all__ = ["LOG", "MODEL", "SETTINGS", "TRAJECTORY", "DynamicsRun", "learned_model"]

#: The model with what it has learned in the run.
MODEL = "model.srdft"
TRAJECTORY, LOG, SETTINGS = "md.traj", "md.log", "config.yaml"
#: Files of a run that another program, or another run, may have left; the last is the command's.
_FILES = (TRAJECTORY, LOG, SETTINGS, MODEL, "summary.html")
#: Share of the time that checkpoints may take.
_SHARE_OF_TIME = 0.02
_PATIENCE_SECONDS = 30.0
#: Positions to begin with are the same if they differ by less (Å).
_SAME_PLACE = 1e-3


class DynamicsRun:
    """Moves atoms, and writes the files of one run.

    ``md.traj``, with velocities and what each answer is worth; ``md.log``
    (`ase_srdft.dynamics.certificate_logger.CertificateLogger`); ``config.yaml``;
    ``checkpoint.json``, all that the next step depends on; and ``model.srdft`` if the calculator
    learns.  After a checkpoint the files are cut back to it, so that a run that was interrupted
    leaves the same frames as one that was not: to the bit, unless the calculator learns.  A longer
    time than that of the run goes on with it.

    Args:
        path: of the folder; made if need be.
        atoms: with an `SRDFTCalculator`; where there is a checkpoint, they are put there.
        config: settings.
        settings: all others, for ``config.yaml``.
        identity: what must be the same for the run to go on, besides the structure and ``config``
            (but for its time), by names.

    Attributes:
        stop_requested: set it to end the run after the step in hand.
        resumed: whether it goes on from a checkpoint.
        step: that it is at.
        elapsed_s: that all sessions took so far.
        paths: how many answers came about by which path.
        drew_momenta: whether this session gave the atoms momenta to begin with.

    Raises:
        BadInput: a folder that cannot be written, or that holds another run, or files of one
            without its checkpoint, or one that is at work.
        DamagedFile: its checkpoint or its trajectory is damaged.
    """

    def __init__(
        self,
        path: Path,
        atoms: Atoms,
        config: DynamicsConfig,
        settings: dict[str, Any],
        identity: dict[str, Any],
    ) -> None:
        assert isinstance(atoms.calc, SRDFTCalculator)
        self.path, self.atoms, self.config = writable_directory(path), atoms, config
        self.stop_requested, self.calculator = False, atoms.calc
        self._lock = weakref.finalize(self, os.close, locked_directory(path, _PATIENCE_SECONDS))
        self._settings = settings
        self._identity = _plain(identity | asdict(config))
        del self._identity["time_ps"]
        self._saved = self.calculator.model_version
        try:
            checkpoint = read_checkpoint(path)
            self.resumed = checkpoint is not None
            self._begin() if checkpoint is None else self._go_on_from(checkpoint)
        except BaseException:
            self.close()
            raise

    @property
    def finished(self) -> bool:
        """Whether the time is over."""
        return self.step >= self.config.nsteps

    @property
    def level(self) -> str:
        """The level of theory of its answers."""
        return str(self.calculator.todict()["level"])

    def _begin(self) -> None:
        for name in _FILES:
            if (self.path / name).exists():
                raise BadInput(
                    f"{self.path} holds {name}, but no {CHECKPOINT} to go on from: choose another "
                    "folder, or move it away"
                )
        self._start = self.atoms.get_positions()
        self._rng = np.random.default_rng(self.config.seed)
        self.step, self.elapsed_s, self.paths = 0, 0.0, Counter[str]()
        self._log_bytes, self._nframes, self._learned = 0, 0, False
        self.drew_momenta = draw_momenta(self.atoms, self.config, self._rng)
        self._noise: np.ndarray | None = None
        if self.config.dynamics == "overdamped":
            self._noise = self._rng.standard_normal((len(self.atoms), 3))
        self._write(self._log_bytes)
        self._write_settings()

    def _go_on_from(self, last: DynamicsCheckpoint) -> None:
        self._check_same(last)
        self._start, self._learned = np.array(last.start), last.learned
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = last.random
        self.step, self.elapsed_s, self.paths = last.step, last.elapsed_s, Counter(last.paths)
        self._log_bytes, self.drew_momenta = last.log_bytes, False
        self._noise = None if last.noise is None else np.array(last.noise)
        self.atoms.set_positions(last.positions, apply_constraint=False)
        self.atoms.set_momenta(last.momenta, apply_constraint=False)
        self._nframes = 1 + self.step // self.config.interval if self.step else 0
        if last.nframes is not None:
            self._nframes = last.nframes
        trim_trajectory(self.path / TRAJECTORY, self._nframes)
        if not (self.path / TRAJECTORY).exists():  # moved away, or not begun
            self._nframes = 0
        log = self.path / LOG
        if log.exists() and log.stat().st_size > self._log_bytes:
            os.truncate(log, self._log_bytes)
        if self.step <= self.config.nsteps:  # else it stays the longer run that it is
            self._write_settings()

    def _check_same(self, last: DynamicsCheckpoint) -> None:
        start, numbers = np.array(last.start), self.atoms.numbers.tolist()
        same = last.numbers == numbers and np.allclose(
            start, self.atoms.positions, rtol=0.0, atol=_SAME_PLACE
        )
        if not same:
            raise BadInput(f"{self.path} holds a run of another structure: choose another folder")
        differing = [
            f"{name} was {last.settings.get(name)!r} and is {value!r}"
            for name, value in self._identity.items()
            if last.settings.get(name) != value
        ]
        if differing:
            raise BadInput(
                f"{self.path} holds a run with other settings ({'; '.join(differing)}): use the "
                "same or choose another folder"
            )

    def _write_settings(self) -> None:
        settings = self._settings | {"dynamics": asdict(self.config)}
        write_atomically(self.path / SETTINGS, yaml.safe_dump(_plain(settings), sort_keys=False))

    def run(self) -> Iterator[DynamicsStep]:
        """Move on to the end, or until it is asked to stop; yields each step from the present one.

        Raises:
            ase.calculators.calculator.CalculationFailed: a geometry without an answer.
            OSError: a file cannot be written.
        """
        if self.finished:
            return
        log = self.path / LOG
        header = not (log.exists() and log.stat().st_size)
        with self._integrator() as dynamics:
            logger = dynamics.closelater(CertificateLogger(dynamics, self.atoms, log, header))
            dynamics.attach(logger, self.config.interval)
            yield from self._steps(dynamics)

    def _integrator(self) -> MolecularDynamics:
        """The equations of motion where the run is; some draw numbers when they are made."""
        random = self._rng.bit_generator.state
        dynamics = integrator(self.atoms, self.config, self._rng, str(self.path / TRAJECTORY))
        self._rng.bit_generator.state = random
        dynamics.nsteps = self.step
        if isinstance(dynamics, OverdampedLangevin):
            assert self._noise is not None
            dynamics.noise = self._noise
        return dynamics

    def _steps(self, dynamics: MolecularDynamics) -> Iterator[DynamicsStep]:
        began, before, next_time = time.monotonic(), self.elapsed_s, 0.0
        self.atoms.get_forces()  # where a run goes on, ASE asks for them later than we do
        for _ in dynamics.irun(self.config.nsteps - self.step):
            is_new = dynamics.nsteps > self.step or not self.step
            self.step, self._noise = dynamics.nsteps, getattr(dynamics, "noise", None)
            now = time.monotonic()
            self.elapsed_s = before + now - began
            event = self._event()
            self.paths[event.certificate.path] += is_new
            self._nframes += is_new and self.step % self.config.interval == 0
            if now >= next_time or self.finished:
                self._checkpoint()
                ended = time.monotonic()
                next_time = ended + (ended - now) / _SHARE_OF_TIME
            yield event
            if self.stop_requested:
                self._checkpoint()
                return

    def _event(self) -> DynamicsStep:
        moves = self.config.dynamics != "overdamped"
        return DynamicsStep(
            step=self.step,
            time_ps=self.config.time_of(self.step),
            temperature_K=float(self.atoms.get_temperature()) if moves else math.nan,
            energy_eV=float(self.atoms.get_potential_energy()),
            certificate=self.calculator.certificate,
        )

    def _checkpoint(self) -> None:
        """Make frames, log and model durable, and then the checkpoint that tells of them."""
        for name in (TRAJECTORY, LOG):
            # a trajectory that was moved away begins again with the next frame
            with suppress(FileNotFoundError), open(self.path / name, "rb") as file:
                os.fsync(file.fileno())
        self.save_model()
        log = self.path / LOG
        self._write(log.stat().st_size if log.exists() else 0)

    def _write(self, log_bytes: int) -> None:
        write_checkpoint(
            self.path,
            DynamicsCheckpoint(
                settings=self._identity,
                numbers=self.atoms.numbers.tolist(),
                start=self._start.tolist(),
                step=self.step,
                positions=self.atoms.positions.tolist(),
                momenta=self.atoms.get_momenta().tolist(),
                noise=None if self._noise is None else self._noise.tolist(),
                random=dict(self._rng.bit_generator.state),
                log_bytes=log_bytes if self.step else 0,
                elapsed_s=self.elapsed_s,
                paths=dict(self.paths) if self.step else {},
                learned=self._learned,
                nframes=self._nframes if self.step else 0,
            ),
        )

    def save_model(self) -> None:
        """Write the model, if it learns and has changed since."""
        version = self.calculator.model_version
        if self.calculator.parameters["learn"] in (False, "pause") or version == self._saved:
            return
        self.calculator.save(self.path / MODEL)
        self._saved, self._learned = version, True

    def close(self) -> None:
        """End the trainer, and let other processes work in the folder; twice is once."""
        self.calculator.close()
        self._lock()


def learned_model(path: Path) -> Path | None:
    """The file of the model that a run in this folder has learned; None if there is none.

    Raises:
        DamagedFile: its checkpoint cannot be read.
    """
    last = read_checkpoint(path)
    return path / MODEL if last is not None and last.learned else None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON and YAML keep them."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
