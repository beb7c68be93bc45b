"""ASE's BFGS that begins with what is known of a molecule before any force is computed."""

from __future__ import annotations

import numpy as np
from ase import units
from ase.optimize import BFGS

from ase_srdft.sampling.lindh_mobility import model_hessian

__all__ = ["ModelHessianBFGS"]

#: Softest curvature (eV/Å²) that is believed: rigid motions have none, and torsions little.
_SOFTEST = 0.5


class ModelHessianBFGS(BFGS):
    """BFGS from the model Hessian of the first geometry instead of one curvature for everything.

    A molecule has stretches that are a thousand times as stiff as its torsions; the model Hessian
    (R. Lindh and others, Chem. Phys. Lett. 241, 423 (1995)) knows them apart, so that relaxing
    mostly takes a quarter to a half of the steps of ASE's ``BFGS``
    (`benchmarks/relaxation_steps.py`).  It is of no use to what is no molecule, as a band of
    images.

    Args and attributes are those of :class:`ase.optimize.BFGS`; ``alpha`` is not used.
    """

    def initialize(self) -> None:
        """Take the model Hessian for the first guess (eV/Å²)."""
        super().initialize()  # type: ignore[no-untyped-call]
        atoms = self.optimizable.atoms
        hessian = model_hessian(atoms.numbers, atoms.positions / units.Bohr)
        curvatures, modes = np.linalg.eigh(hessian * units.Hartree / units.Bohr**2)
        self.H0 = (modes * np.maximum(curvatures, _SOFTEST)) @ modes.T
