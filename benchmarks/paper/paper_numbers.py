"""What the paper on self-refining training reports, to stand beside what is measured here.

Source: M. Hassan, C. Gabellini, H. Helal, D. Beaini and K. Neklyudov, arXiv 2506.01225, Table 1
and section 5.  PBE/6-31G (uracil: PBE/STO-3G), geometries of MD17, mean absolute errors against
the SCF at the same level, two H100, 200,000 training steps of batch 8.
"""

from __future__ import annotations

SOURCE = "arXiv 2506.01225, Table 1 (two H100, 200,000 steps of batch 8)"
#: Of its models, and of their training.
PARAMETERS, STEPS = 8_400_000, 200_000
#: Errors along 30 steps of the self-refined models' own simulations (microhartree).
SIMULATION_RANGE_uEh = (100.0, 1000.0)
SIMULATION_SOURCE = "arXiv 2506.01225, 0.1 to 1 mEh for self-refined models"
#: Molecule, given frames, whether it samples; mean absolute errors of the energy, the elements of
#: F[P], the occupied orbitals' energies, HOMO, LUMO and their gap (microhartree).
TABLE_1 = (
    ("ethanol", 25_000, False, (63.3, 91.0, 413.0, 490.0, 1793.0, 1342.0)),
    ("ethanol", 2_500, True, (135.9, 117.2, 398.0, 433.0, 1568.0, 1205.0)),
    ("ethanol", 25_000, True, (83.8, 86.4, 292.0, 336.0, 1389.0, 1091.0)),
    ("malonaldehyde", 25_000, False, (773.0, 165.0, 655.0, 622.0, 3042.0, 2679.0)),
    ("malonaldehyde", 2_500, True, (7089.0, 556.0, 2007.0, 1834.0, 7275.0, 6219.0)),
    ("malonaldehyde", 25_000, True, (5411.0, 527.0, 1735.0, 1682.0, 6338.0, 5284.0)),
    ("uracil", 25_000, False, (49.2, 47.1, 367.0, 231.0, 1082.0, 1146.0)),
    ("uracil", 2_500, True, (40.9, 35.6, 221.0, 150.0, 625.0, 660.0)),
    ("uracil", 25_000, True, (38.3, 33.6, 205.0, 143.0, 694.0, 748.0)),
)
