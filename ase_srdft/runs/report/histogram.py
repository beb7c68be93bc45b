"""The histogram of sampled energies, and what a harmonic molecule would give."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from scipy.special import gammainc, gammaincinv

from ase_srdft.common.units import EV_PER_HARTREE, HARTREE_PER_KELVIN
from ase_srdft.runs.report.figures import Plot, why_no_samples
from ase_srdft.runs.report.history import History, Sampling
from ase_srdft.runs.report.svg import Axis, Figure, Mark, number

__all__ = ["expected_counts", "histogram_plot", "vibrations"]

#: Molecules that a histogram tells apart; the rest share a colour.
_MOST_COLOURS = 5
_Points = list[tuple[float, float]]


def vibrations(formula: str) -> int | None:
    """Vibrational degrees of freedom 3N - 6 of a formula (1 of a diatomic); None if not readable.

    >>> vibrations("C2H6O"), vibrations("H2"), vibrations("He"), vibrations("?")
    (21, 1, 0, None)
    """
    if not re.fullmatch(r"(?:[A-Z][a-z]?\d*)+", formula):
        return None
    natoms = sum(int(count or 1) for count in re.findall(r"[A-Z][a-z]?(\d*)", formula))
    return max(3 * natoms - 6, natoms - 1 if natoms < 3 else 0)


def _relative_energies(sampling: Sequence[Sampling]) -> dict[int, np.ndarray]:
    """Energies of each molecule's samples above its own lowest (eV)."""
    own: dict[int, list[float]] = {}
    for record in sampling:
        for molecule, energy in zip(record.molecules, record.energies_hartree, strict=False):
            if math.isfinite(energy):
                own.setdefault(molecule, []).append(energy)
    return {
        molecule: (np.array(energies) - min(energies)) * EV_PER_HARTREE
        for molecule, energies in sorted(own.items())
    }


def expected_counts(
    edges: np.ndarray, nsamples: int, median: float, modes: int, temperature_K: float
) -> _Points:
    """Counts per bin of a harmonic molecule, E ~ Gamma(modes / 2, kT), moved to this median (eV).

    How far the lowest sample is above the minimum is not known, so the zero cannot be compared.
    """
    shape = modes / 2.0
    thermal = HARTREE_PER_KELVIN * temperature_K * EV_PER_HARTREE
    below = thermal * gammaincinv(shape, 0.5) - median
    half = 0.5 * (edges[1] - edges[0])
    x = np.linspace(edges[0], edges[-1], 160)

    def share(energy: np.ndarray) -> np.ndarray:
        return np.asarray(gammainc(shape, np.maximum(energy + below, 0.0) / thermal))

    counts = nsamples * (share(x + half) - share(x - half))
    return list(zip(x.tolist(), counts.tolist(), strict=True))


def histogram_plot(history: History) -> Plot:
    """How often which energy was sampled."""
    heading = "Energies of the sampled geometries"
    energies = _relative_energies(history.sampling)
    nsamples = sum(map(len, energies.values()))
    if nsamples < 2:
        return Plot(heading=heading, caption=why_no_samples(history))
    pooled = np.concatenate(list(energies.values()))
    nbins = int(np.clip(round(1.5 * nsamples ** (1 / 2.5)), 5, 40))
    edges = np.linspace(0.0, max(float(pooled.max()), 1e-6) * 1.0001, nbins + 1)
    molecules = history.start.molecules if history.start else ()
    temperature = history.setting("sampling", "temperature_K")
    modes = vibrations(molecules[0]) if len(molecules) == 1 else None
    expected: _Points = []
    if modes and isinstance(temperature, (int, float)) and temperature > 0:
        expected = expected_counts(
            edges, nsamples, float(np.median(pooled)), modes, float(temperature)
        )
    series = _series(energies, molecules)
    counts = [np.histogram(own, edges)[0] for _, own in series]
    tallest = max(float(np.sum(counts, axis=0).max()), max((y for _, y in expected), default=0.0))
    figure = Figure(
        "histogram",
        "Histogram of the sampled geometries' energies",
        x=Axis(label="energy above the lowest sampled (eV)", low=0.0, high=float(edges[-1])),
        y=Axis(label="geometries", low=0.0, high=tallest * 1.06),
    )
    _draw_stack(figure, edges, [name for name, _ in series], counts)
    figure.line(expected, "expected")
    legend = [(f"bar bar-{i}", f"{name}: {number(len(e))}") for i, (name, e) in enumerate(series)]
    if expected:
        legend.append(("expected", f"harmonic molecule at {number(float(temperature))} K"))
    return Plot(
        heading=heading,
        legend=tuple(legend),
        svg=figure.render(),
        caption=_histogram_caption(modes if expected else None, len(molecules)),
    )


def _series(
    energies: dict[int, np.ndarray], molecules: Sequence[str]
) -> list[tuple[str, np.ndarray]]:
    """Names and energies of what has a colour of its own; late molecules share the last."""
    series = [
        (molecules[index] if 0 <= index < len(molecules) else f"molecule {index + 1}", own)
        for index, own in energies.items()
    ]
    if len(molecules) == 1:
        return [("sampled", np.concatenate([own for _, own in series]))]
    if len(series) <= _MOST_COLOURS + 1:
        return series
    rest = np.concatenate([own for _, own in series[_MOST_COLOURS:]])
    return [*series[:_MOST_COLOURS], ("others", rest)]


def _draw_stack(
    figure: Figure, edges: np.ndarray, names: Sequence[str], counts: Sequence[np.ndarray]
) -> None:
    below = np.zeros(len(edges) - 1)
    for series, (name, count) in enumerate(zip(names, counts, strict=True)):
        for index in np.flatnonzero(count):
            left, right = float(edges[index]), float(edges[index + 1])
            title = (
                f"{name.partition(':')[0]}, {left:.2f} to {right:.2f} eV: {count[index]} geometries"
            )
            mark = Mark(x=left, y=0.0, title=title, style=f"bar bar-{series}")
            figure.bar(left, right, below[index], below[index] + count[index], mark)
        below += count


def _histogram_caption(modes: int | None, nmolecules: int) -> str:
    caption = "Each energy is the model's own at the time of sampling"
    caption += ", above the lowest of its molecule." if nmolecules > 1 else "."
    if modes:
        linear = " (a linear molecule has one more)" if modes in (3, 6) else ""
        caption += (
            f" The curve is the potential energy of a classical harmonic molecule with {modes} "
            f"vibrations{linear}: a gamma distribution of shape {modes}/2 and scale kT, moved to "
            "the same median, so that its width and form are what to compare. Soft modes, several "
            "conformers and the model's early errors make real molecules differ from it."
        )
    return caption
