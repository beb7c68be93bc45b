"""Cube files: a function of space on a regular grid, as Gaussian writes it and viewers read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ase_srdft.common.errors import BadInput

__all__ = ["CubeGrid", "cube_text"]

#: Points of a file of some 270 MB.
_MOST_POINTS = 20_000_000
_PER_LINE = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class CubeGrid:
    """Points of a box around a molecule, equally far apart along x, y and z.

    Attributes:
        origin: the corner with the smallest coordinates (Bohr).
        spacing: between neighbours (Bohr).
        shape: number of points along x, y and z.
    """

    origin: Float[np.ndarray, "3"]
    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def around(
        cls, positions: Float[np.ndarray, "natoms 3"], spacing: float, margin: float
    ) -> CubeGrid:
        """The smallest box that reaches so far beyond every nucleus, its middle that of theirs.

        Args:
            positions: nuclei (Bohr).
            spacing: between neighbouring points (Bohr).
            margin: from the outermost nuclei to the faces of the box (Bohr), at least.

        Raises:
            BadInput: a length that is none, or more points than a file can sensibly hold.
        """
        if not 0.0 < spacing < np.inf:
            raise BadInput(f"spacing {spacing}: use a length above zero")
        if not 0.0 <= margin < np.inf:
            raise BadInput(f"margin {margin}: use a length of at least zero")
        low, high = positions.min(axis=0) - margin, positions.max(axis=0) + margin
        intervals = np.maximum(np.ceil((high - low) / spacing - 1e-9), 1.0)
        if np.prod(intervals + 1.0) > _MOST_POINTS:
            raise BadInput(
                f"a cube of {np.prod(intervals + 1.0):.3g} points, more than {_MOST_POINTS:.3g}: "
                "use a larger spacing, or a smaller margin"
            )
        nx, ny, nz = (int(count) + 1 for count in intervals)
        origin = 0.5 * (low + high) - 0.5 * spacing * intervals
        return cls(origin=origin, spacing=spacing, shape=(nx, ny, nz))

    def points(self) -> Float[np.ndarray, "npoints 3"]:
        """All of them (Bohr), z running fastest and x slowest."""
        indices = np.indices(self.shape).reshape(3, -1).T
        points: np.ndarray = self.origin + self.spacing * indices
        return points


def cube_text(
    title: tuple[str, str],
    numbers: tuple[int, ...],
    positions: Float[np.ndarray, "natoms 3"],
    grid: CubeGrid,
    values: Float[np.ndarray, " npoints"],
) -> str:
    """A cube file: two lines of words, the box (Bohr), the nuclei (Bohr), the values.

    Args:
        title: one line each.
        numbers: atomic numbers.
        positions: nuclei (Bohr).
        grid: where the values are.
        values: in the order of ``grid.points()``.
    """
    lines = [*title, f"{len(numbers):5d}{_numbers(grid.origin)}"]
    steps = grid.spacing * np.eye(3)
    lines += [f"{n:5d}{_numbers(step)}" for n, step in zip(grid.shape, steps, strict=True)]
    lines += [
        f"{number:5d}{float(number):12.6f}{_numbers(position)}"
        for number, position in zip(numbers, positions, strict=True)
    ]
    rows = values.reshape(-1, grid.shape[2])
    lines += [_row(row) for row in rows]
    return "\n".join(lines) + "\n"


def _numbers(vector: np.ndarray) -> str:
    return "".join(f"{number:12.6f}" for number in vector)


def _row(values: np.ndarray) -> str:
    """The values along z, six on a line."""
    words = [f"{value:13.5e}" for value in values]
    return "\n".join("".join(words[i : i + _PER_LINE]) for i in range(0, len(words), _PER_LINE))
