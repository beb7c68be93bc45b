"""The one molecule that a model was trained on, and a warning where it is asked about an isomer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from ase import Atoms

from ase_srdft.common.connectivity import bonded_groups, same_molecule
from ase_srdft.common.errors import OtherIsomer
from ase_srdft.common.nuclei import Nuclei
from ase_srdft.common.units import ANGSTROM_PER_BOHR

__all__ = ["TrainedIsomer"]


@dataclass(kw_only=True, eq=False)
class TrainedIsomer:
    """Warns once of molecules with the formula of the one that was trained on, and other bonds.

    Attributes:
        model: name or path of the model, as users gave it.
        structure: with the bonds that training kept to (Angstrom).
        warned: whether it has warned.
    """

    model: str
    structure: Atoms
    warned: bool = False

    def compare(self, nuclei: Nuclei) -> None:
        """Look at the bonds of a molecule that the model is asked about.

        Warns:
            OtherIsomer: it is another one; the first time only.
        """
        own = self.structure
        if self.warned or sorted(nuclei.numbers) != sorted(own.numbers):
            return
        asked = Atoms(nuclei.numbers, nuclei.positions * ANGSTROM_PER_BOHR)
        if same_molecule(asked, own):
            return
        self.warned = True
        warnings.warn(
            f"{self.model} was trained on one isomer of {own.get_chemical_formula()} "
            f"({bonded_groups(own)}) and is asked about other bonds ({bonded_groups(asked)}): the "
            "errors on its card do not hold here, and answers take long where they are corrected "
            "to max_error; train a model on this molecule (ase-srdft-train, or "
            "SelfRefiningLangevin as it runs), or ask about the molecule of "
            f"ase_srdft.model_card({self.model!r}).structure",
            OtherIsomer,
            stacklevel=2,
        )
