"""What an answer of the calculator is worth, in ASE's units."""

from __future__ import annotations

from dataclasses import dataclass

from ase_srdft.common.charges import CHARGE_OF_ANSWER
from ase_srdft.common.units import EV_PER_ANGSTROM_PER_ATOMIC_FORCE, EV_PER_HARTREE
from ase_srdft.models.electronic_structure import ElectronicStructure

__all__ = ["PREFIX", "Certificate"]

#: Of the keys in ``atoms.info``.
PREFIX = "srdft_"
#: Where a correction began.
_START = {"model": "model", "damped": "damped model", "guess": "guess"}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Of one geometry.

    Attributes:
        error: width of the bracket around the SCF energy (eV): the energy is no lower than that
            of the SCF, and no higher than this above it.
        force_error: estimate of the largest error of a component of the forces (eV/Å), as
            derivatives of the SCF energy where the state was corrected, otherwise of the energy
            that was returned, whose full derivative they are.
        path: ``model``, ``damped`` or ``guess`` for the state of the model, of half of its
            correction or of its guess as it is; ``corrected``; ``searched`` where the gap is so
            small, or the way so rough, that the lowest solution was looked for from several starts
            (several times as long); ``scf`` where it took PySCF's SCF, which is slow.
        start: of the first three, the one that a correction began from.
        start_error: its bracket (eV): how good the model is by itself.
        builds: Fock matrices on the level's own grid that it took.
        coarse_builds: and on a rough one.
        model: name of the model.
        model_version: of the calculator's model (`SRDFTCalculator.model_version`).
        level: of theory.
        charge: of the molecule (e).
    """

    error: float
    force_error: float
    path: str
    start: str
    start_error: float
    builds: int
    coarse_builds: int
    model: str
    model_version: int
    level: str
    charge: int = 0

    @classmethod
    def of(
        cls, state: ElectronicStructure, model: str, model_version: int, level: str
    ) -> Certificate:
        """That of a state.

        Args:
            state: what was answered.
            model: its name.
            model_version: its version.
            level: of theory.
        """
        width = (state.energy - state.energy_lower) * EV_PER_HARTREE
        record = state.correction
        return cls(
            error=width,
            force_error=0.0
            if record is None
            else record.force_error * EV_PER_ANGSTROM_PER_ATOMIC_FORCE,
            path=state.path,
            start=state.path if record is None else record.start,
            start_error=width if record is None else record.start_width * EV_PER_HARTREE,
            builds=1 if record is None else record.builds,
            coarse_builds=0 if record is None else record.coarse_builds,
            model=model,
            model_version=model_version,
            level=level,
            charge=round(float(state.mulliken_charges.sum())),
        )

    def key_values(self) -> dict[str, float | str]:
        """The parts that travel: in ``atoms.info`` with results, and for ``ase.db``."""
        values: dict[str, float | str] = {
            "error": self.error,
            "force_error": self.force_error,
            "path": self.path,
            "start_error": self.start_error,
            "builds": self.builds,
            "coarse_builds": self.coarse_builds,
            "model": f"{self.model} v{self.model_version}",
            "level": self.level,
        }
        if not self.is_corrected:
            del values["force_error"]
        named = {PREFIX + name: value for name, value in values.items()}
        if self.charge:  # who reads a file of it is not to take the molecule for neutral
            named[CHARGE_OF_ANSWER] = self.charge
        return named

    @property
    def is_corrected(self) -> bool:
        """Whether ``force_error`` is about the SCF's forces, and not about those of this energy."""
        return self.path in ("corrected", "searched", "scf")

    def __str__(self) -> str:
        forces = "the derivative of this energy, not of the SCF's"
        if self.is_corrected:
            forces = f"within {1e3 * self.force_error:.2g} meV/Å"
        return (
            f"{self.level}: energy within {_in_words(self.error)} of the SCF, forces {forces}; "
            f"{self.path} ({self.model} v{self.model_version}, bracket of the {_START[self.start]} "
            f"alone {_in_words(self.start_error)}; Fock matrices: {self.builds} on the level's "
            f"grid, {self.coarse_builds} on a coarse one)"
        )


def _in_words(energy: float) -> str:
    """An energy of so many eV."""
    return f"{energy:.2g} eV" if energy >= 1.0 else f"{1e3 * energy:.2g} meV"
