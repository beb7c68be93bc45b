"""A log of dynamics that improves its own calculator: what it is worth instead of how hot it is."""

from __future__ import annotations

import weakref
from typing import IO, TYPE_CHECKING

from ase.parallel import world
from ase.utils import IOContext

if TYPE_CHECKING:
    from ase_srdft.dynamics.self_refining_langevin import SelfRefiningLangevin

__all__ = ["RefinementLog"]

_HEADER = "    step      energy/eV  start_error/meV   error/meV       path  training steps\n"


class RefinementLog(IOContext):
    """One line for each call: the certificate of the geometry, and how far the training is.

    ``start_error`` is the bracket of the model by itself, ``error`` that of the answer.

    Args:
        dynamics: whose steps these are; it is not kept alive.
        logfile: a file or its name, which is appended to; "-" for standard output.
    """

    def __init__(self, dynamics: SelfRefiningLangevin, logfile: IO[str] | str) -> None:
        self._dynamics = weakref.proxy(dynamics)
        self._file = self.openfile(file=logfile, comm=world, mode="a")
        self._file.write(_HEADER)

    def __call__(self) -> None:
        """Write a line."""
        dynamics = self._dynamics
        energy = dynamics.atoms.get_potential_energy()
        certificate = dynamics.calculator.certificate
        self._file.write(
            f"{dynamics.nsteps:8d} {energy:14.6f} {1e3 * certificate.start_error:16.4f} "
            f"{1e3 * certificate.error:11.6f} {certificate.path:>10} "
            f"{dynamics.background_trainer.nsteps:15d}\n"
        )
        self._file.flush()
