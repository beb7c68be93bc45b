"""Labels as frames of extended xyz, under the names by which trainers of potentials know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_srdft.common.atomic_files import replace_atomically
from ase_srdft.common.errors import BadInput
from ase_srdft.common.units import (
    ANGSTROM_PER_BOHR,
    EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
    EV_PER_HARTREE,
)
from ase_srdft.reference.label_file import Label, Labels

__all__ = ["BOTH", "LabelKeys", "write_label_frames"]

#: What ASE calls its own results.
_ASE = ("energy", "forces")


@dataclass(frozen=True, kw_only=True)
class LabelKeys:
    """Names of a frame's energy (eV) and forces (eV/Å).

    ``energy`` and ``forces`` are what ASE reads as results of a calculator.

    Attributes:
        energy: in the comment line.
        forces: of the columns.
    """

    energy: str
    forces: str

    def __post_init__(self) -> None:
        for key in (self.energy, self.forces):
            if not key.isidentifier() or key in ("pos", "species"):
                raise BadInput(
                    f"{key!r} is no name of numbers in extended xyz: use letters, digits and _"
                )
        if (self.energy in _ASE) != (self.forces in _ASE) or self.energy == self.forces:
            raise BadInput(
                f"energy under {self.energy!r} and forces under {self.forces!r}: use 'energy' and "
                "'forces', or two other names"
            )

    @property
    def are_results(self) -> bool:
        """Whether ASE reads them as results."""
        return (self.energy, self.forces) == _ASE


#: Under ASE's names, which NequIP reads and scripts for schnetpack, and under MACE's.
BOTH = (
    LabelKeys(energy="energy", forces="forces"),
    LabelKeys(energy="REF_energy", forces="REF_forces"),
)


def write_label_frames(path: Path, labels: Labels, keys: Sequence[LabelKeys] = BOTH) -> None:
    """Write the labels, in the order of their frames, in one go.

    Each frame tells in ``info`` its ``charge`` and ``srdft_level``, and that it is of
    ``srdft_path`` ``scf``.

    Args:
        path: of the file.
        labels: to write.
        keys: one or more pairs of names, all of which are written.

    Raises:
        BadInput: there is no label.
        OSError: it cannot be written.
    """
    if not labels.labels:
        raise BadInput(f"no frame has a label: {path} would hold nothing")
    frames = [_frame(label, labels, keys) for label in labels.labels]
    replace_atomically(path, lambda beside: write(beside, frames, format="extxyz"))


def _frame(label: Label, labels: Labels, keys: Sequence[LabelKeys]) -> Atoms:
    level = labels.origin.level
    atoms = Atoms(label.numbers, positions=label.positions * ANGSTROM_PER_BOHR)
    atoms.info = {"charge": level.charge, "srdft_level": str(level), "srdft_path": "scf"}
    energy, results = label.energy * EV_PER_HARTREE, {}
    forces = None if label.forces is None else label.forces * EV_PER_ANGSTROM_PER_ATOMIC_FORCE
    for pair in keys:
        if pair.are_results:
            results = {"energy": energy} | ({} if forces is None else {"forces": forces})
            continue
        atoms.info[pair.energy] = energy
        if forces is not None:
            atoms.new_array(pair.forces, forces)
    atoms.calc = SinglePointCalculator(atoms, **results) if results else None
    return atoms
