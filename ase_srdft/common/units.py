"""Conversion between the units inside (Hartree, Bohr) and those of ASE (eV, Angstrom).

The numbers are ASE's own (``ase.units``, CODATA 2014), so that a value that crosses the border
and comes back is the one ASE started from.  PySCF is always handed Bohr: its own radius of Bohr
differs from ASE's in the ninth digit.
"""

from __future__ import annotations

from ase.units import Bohr, Hartree, _amu, _e, _hbar, _me, fs, kB

__all__ = [
    "ANGSTROM_PER_BOHR",
    "ASE_TIME_PER_FS",
    "ELECTRON_MASSES_PER_DALTON",
    "EV_PER_ANGSTROM_PER_ATOMIC_FORCE",
    "EV_PER_HARTREE",
    "E_ANGSTROM_PER_ATOMIC_DIPOLE",
    "FS_PER_ATOMIC_TIME",
    "HARTREE_PER_KELVIN",
    "MICROHARTREE",
]

ANGSTROM_PER_BOHR: float = Bohr
EV_PER_HARTREE: float = Hartree
EV_PER_ANGSTROM_PER_ATOMIC_FORCE: float = Hartree / Bohr
HARTREE_PER_KELVIN: float = kB / Hartree
ASE_TIME_PER_FS: float = fs
#: hbar / Hartree in femtoseconds; ASE's ``_hbar`` is in J s.
FS_PER_ATOMIC_TIME: float = 1.0e15 * _hbar / (Hartree * _e)
#: Atomic mass units to electron masses.
ELECTRON_MASSES_PER_DALTON: float = _amu / _me
#: e·Bohr to e·Angstrom, ASE's unit of the dipole moment.
E_ANGSTROM_PER_ATOMIC_DIPOLE: float = Bohr
#: Hartree to microhartree, the unit of accuracy tables.
MICROHARTREE: float = 1.0e6
