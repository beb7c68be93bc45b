"""Labels of rattled water in STO-3G, made once, quickly, in this process."""

from functools import lru_cache

from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.reference.label_file import LabelOrigin, Labels, frames_fingerprint
from ase_srdft.reference.label_workers import FrameTask, label_frame
from tests.tools.small_training import PLAIN, rattled

LEVEL = LevelOfTheory(**PLAIN["level"])


def plain_frames(nframes, name="H2O"):
    """Atomic numbers and positions (Bohr) of rattled frames."""
    nuclei = [nuclei_of(atoms) for atoms in rattled(nframes, name, stdev=0.05)]
    return [(each.numbers, each.positions) for each in nuclei]


@lru_cache
def label(frame, name="H2O", forces=False):
    """The label of the rattled frame of this number."""
    numbers, positions = plain_frames(frame + 1, name)[frame]
    return label_frame(
        FrameTask(frame=frame, numbers=numbers, positions=positions, level=LEVEL, forces=forces)
    )


def small_labels(nframes):
    """Labels of rattled waters, without forces."""
    origin = LabelOrigin(
        level=LEVEL,
        forces=False,
        nframes=nframes,
        fingerprint=frames_fingerprint(plain_frames(nframes)),
    )
    return Labels(origin=origin, labels=tuple(label(frame) for frame in range(nframes)))
