"""A log of dynamics that says what each energy is worth."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.md import MDLogger

__all__ = ["CertificateLogger"]

_MEV_PER_EV = 1e3


class CertificateLogger(MDLogger):
    """ASE's log of dynamics, with columns from the calculator's certificate.

    Besides the time, the energies and the temperature of `ase.md.MDLogger`: the width of the
    bracket around the SCF energy (meV), that of the state it was corrected from, the estimate of
    the forces' error (meV/Å), and the path (`ase_srdft.calculator.certificate.Certificate`).

    Example::

        dynamics.attach(CertificateLogger(dynamics, atoms, "-"), interval=10)

    Args:
        dynamics: any of ASE's, or an optimiser.
        atoms: with an :class:`ase_srdft.SRDFTCalculator`.
        logfile: name of a file, an open one, or "-" for the terminal.
        header: whether to write one.
        **kwargs: of `ase.md.MDLogger`: ``peratom``, ``mode``.
    """

    def __init__(
        self,
        dynamics: Any,
        atoms: Atoms,
        logfile: Any,
        header: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(dynamics, atoms, logfile, header=False, **kwargs)
        self._columns = self.fmt.rstrip("\n")
        if header:
            words = ("Bracket[meV]", "Start[meV]", "Force[meV/A]")
            titles = " ".join(f"{word:>12}" for word in words)
            self.logfile.write(f"{self.hdr} {titles}  Path\n")

    def __call__(self) -> None:
        """Write a line."""
        certificate = self.atoms.calc.certificate
        of_forces = certificate.force_error if certificate.is_corrected else float("nan")
        errors = (certificate.error, certificate.start_error, of_forces)
        numbers = " ".join(f"{_MEV_PER_EV * error:12.3g}" for error in errors)
        # ASE fills in its own columns; nothing here has a percent sign
        self.fmt = f"{self._columns} {numbers}  {certificate.path}\n"
        super().__call__()  # type: ignore[no-untyped-call]
