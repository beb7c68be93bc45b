"""The molecules of a run: their names, drawings of them, and what each has come to."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.io.trajectory import TrajectoryReader
from scipy.spatial.transform import Rotation

from ase_srdft.common.connectivity import bond_matrix
from ase_srdft.common.elements import hill_formula
from ase_srdft.runs.report.drawing import COLOURS, inline_svg
from ase_srdft.runs.report.formula import chemists_formula
from ase_srdft.runs.report.history import History
from ase_srdft.runs.report.words import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

__all__ = ["MoleculeSummary", "draw_molecule", "molecule_svg", "summarise_molecules"]

#: A drawing in points, and the least it shows in Angstrom, for small molecules not to look large.
_WIDTH, _HEIGHT, _LEAST_ANGSTROM = 190.0, 140.0, 3.4
#: Smaller symbols in points are left out.
_LEAST_TEXT = 6.0
_FLAT_ANGSTROM, _TILT_DEGREES = 0.8, (12.0, 35.0)
#: Of red, green and blue, to the eye.
_BRIGHTNESS = np.array([0.3, 0.59, 0.11])


@dataclass(frozen=True, kw_only=True)
class MoleculeSummary:
    """What a run knows of one molecule.

    Attributes:
        name: its formula as chemists write it.
        atoms: its lowest sampled geometry (Angstrom); None without samples.
        nsamples: geometries sampled.
        energy_hartree: of the lowest sample; NaN without samples.
        widths_uEh: brackets of the late samples (microhartree).
    """

    name: str
    atoms: Atoms | None
    nsamples: int
    energy_hartree: float
    widths_uEh: tuple[float, ...]


def summarise_molecules(history: History, directory: Path) -> list[MoleculeSummary]:
    """Each molecule of a run in turn; geometries are read from its ``samples.traj``, if there."""
    lowest = _lowest_samples(history)
    atoms = _read_samples(directory / "samples.traj", {m: i for m, (_, i) in lowest.items()})
    counts = Counter(molecule for record in history.sampling for molecule in record.molecules)
    widths = history.late_widths_uEh()
    summaries = []
    for index, name in enumerate(history.start.molecules if history.start else ()):
        hill, _, isomer = name.partition(" ")  # "CHN (isomer 2)"
        own = atoms.get(index)
        if own is not None and hill_formula(own.numbers.tolist()) != hill:
            own = None
        summaries.append(
            MoleculeSummary(
                name=printable(f"{chemists_formula(hill, own)} {isomer}".rstrip()),
                atoms=own,
                nsamples=counts[index],
                energy_hartree=lowest.get(index, (math.nan, 0))[0],
                widths_uEh=tuple(widths.get(index, ())),
            )
        )
    return summaries


def _lowest_samples(history: History) -> dict[int, tuple[float, int]]:
    """Energy (Hartree) of each molecule's lowest sample, and its place among all samples."""
    lowest: dict[int, tuple[float, int]] = {}
    for record in history.sampling:
        first = record.nsamples - len(record.energies_hartree)
        samples = zip(record.molecules, record.energies_hartree, strict=False)
        for place, (molecule, energy) in enumerate(samples, first):
            if energy < lowest.get(molecule, (math.inf, 0))[0]:
                lowest[molecule] = (energy, place)
    return lowest


def _read_samples(path: Path, places: dict[int, int]) -> dict[int, Atoms]:
    """The frames at these places; none of a file that is missing, torn or shorter."""
    try:
        with TrajectoryReader(path) as reader:
            return {key: reader[place] for key, place in places.items() if 0 <= place < len(reader)}
    except (OSError, ValueError, LookupError):
        return {}


def molecule_svg(number: int, summary: MoleculeSummary) -> str:
    """A molecule as balls and sticks, seen along its shortest axis; empty without a geometry."""
    if (atoms := summary.atoms) is None:
        return ""
    name, description = f"molecule-{number}", f"Drawing of {summary.name}"
    svg, _ = inline_svg(name, description, (_WIDTH, _HEIGHT), lambda f: draw_molecule(f, atoms))
    return svg


def draw_molecule(
    figure: Figure | SubFigure, atoms: Atoms, size: tuple[float, float] = (_WIDTH, _HEIGHT)
) -> None:
    """Balls and sticks, seen along the shortest axis, on all of a figure of this size in points."""
    from matplotlib.patches import Circle

    width, height = size

    x, y, depth = _view(atoms).T
    radii = 0.2 + 0.32 * covalent_radii[atoms.numbers]
    room = 2 * radii.max() + 0.2
    angstrom = min(
        width / max(np.ptp(x) + room, _LEAST_ANGSTROM),
        height / max(np.ptp(y) + room, _LEAST_ANGSTROM),
    )  # in points
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim((x.min() + x.max() + np.array([-1, 1]) * width / angstrom) / 2)
    axes.set_ylim((y.min() + y.max() + np.array([-1, 1]) * height / angstrom) / 2)
    grey, edge = COLOURS["axis"][0], COLOURS["soft"][0]
    for pair in np.argwhere(np.triu(bond_matrix(atoms.numbers, atoms.positions))):
        behind = depth[pair].min()
        axes.plot(x[pair], y[pair], color=grey, linewidth=0.2 * angstrom, zorder=behind)
    for atom, radius in enumerate(radii):
        colour = jmol_colors[atoms.numbers[atom]]
        centre, zorder = (x[atom], y[atom]), depth[atom] + 0.01
        axes.add_patch(Circle(centre, radius, facecolor=colour, edgecolor=edge, zorder=zorder))
        if (size := radius * angstrom) >= _LEAST_TEXT:
            axes.annotate(
                atoms.symbols[atom],
                centre,
                fontsize=min(size, 15.0),
                color="#101418" if colour @ _BRIGHTNESS > 0.5 else "#fefefe",
                ha="center",
                va="center_baseline",
                zorder=zorder,
            )


def _view(atoms: Atoms) -> np.ndarray:
    """Positions (natoms, 3) in Angstrom: longest axis to the right, shortest to the eye.

    Heavy atoms choose the signs of the axes.  A molecule that is not flat is tilted, to show what
    is behind.
    """
    centred = atoms.positions - atoms.positions.mean(axis=0)
    view: np.ndarray = centred @ np.linalg.svd(centred)[2].T
    view *= np.where((view * atoms.numbers[:, None]).sum(axis=0) < -1e-9, -1.0, 1.0)
    if np.ptp(view[:, 2]) > _FLAT_ANGSTROM:
        view = Rotation.from_euler("xy", _TILT_DEGREES, degrees=True).apply(view)
    return view
