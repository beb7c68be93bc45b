"""What the paper on self-refining training reports, to stand beside what is measured here.

Source: M. Hassan, C. Gabellini, H. Helal, D. Beaini and K. Neklyudov, arXiv 2506.01225, Table 1
and section 5.  PBE/6-31G (uracil: PBE/STO-3G), geometries of MD17, mean absolute errors against
the SCF at the same level, two H100, 200,000 training steps of batch 8.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "arXiv 2506.01225, Table 1 (two H100, 200,000 steps of batch 8)"
#: Of its models, and of their training.
PARAMETERS, STEPS = 8_400_000, 200_000
#: Errors along 30 steps of the self-refined models' own simulations (microhartree).
SIMULATION_RANGE_uEh = (100.0, 1000.0)
SIMULATION_SOURCE = "arXiv 2506.01225, 0.1 to 1 mEh for self-refined models"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of the paper's Table 1, in microhartree.

    Attributes:
        molecule: its name.
        nframes: given frames.
        self_refine: whether the model's own samples were added.
        energy: mean absolute error of the energy.
        hamiltonian: of the elements of F[P].
        orbital_energies: of the occupied orbitals.
        homo: of the highest occupied orbital's energy.
        lumo: of the lowest unoccupied one's.
        gap: of their difference.
    """

    molecule: str
    nframes: int
    self_refine: bool
    energy: float
    hamiltonian: float
    orbital_energies: float
    homo: float
    lumo: float
    gap: float

    @property
    def errors(self) -> tuple[float, ...]:
        """In the order of the paper's columns."""
        orbitals = (self.orbital_energies, self.homo, self.lumo, self.gap)
        return (self.energy, self.hamiltonian, *orbitals)


def _published(molecule: str, nframes: int, self_refine: bool, *errors: float) -> Published:
    names = ("energy", "hamiltonian", "orbital_energies", "homo", "lumo", "gap")
    return Published(
        molecule=molecule,
        nframes=nframes,
        self_refine=self_refine,
        **dict(zip(names, errors, strict=True)),
    )


TABLE_1 = (
    _published("ethanol", 25_000, False, 63.3, 91.0, 413, 490, 1793, 1342),
    _published("ethanol", 2_500, True, 135.9, 117.2, 398, 433, 1568, 1205),
    _published("ethanol", 25_000, True, 83.8, 86.4, 292, 336, 1389, 1091),
    _published("malonaldehyde", 25_000, False, 773, 165, 655, 622, 3042, 2679),
    _published("malonaldehyde", 2_500, True, 7089, 556, 2007, 1834, 7275, 6219),
    _published("malonaldehyde", 25_000, True, 5411, 527, 1735, 1682, 6338, 5284),
    _published("uracil", 25_000, False, 49.2, 47.1, 367, 231, 1082, 1146),
    _published("uracil", 2_500, True, 40.9, 35.6, 221, 150, 625, 660),
    _published("uracil", 25_000, True, 38.3, 33.6, 205, 143, 694, 748),
)


def published(molecule: str) -> list[Published]:
    """The paper's rows for a molecule; none for one that is not in it."""
    return [row for row in TABLE_1 if row.molecule == molecule]
