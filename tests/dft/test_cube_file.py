"""Cube files: the box, and what ASE reads of them."""

import io

import numpy as np
import pytest
from ase.io.cube import read_cube
from ase.units import Bohr

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.cube_file import CubeGrid, cube_text

POSITIONS = np.array([[0.0, 0.0, 0.1], [1.5, -0.3, 0.0]])


def test_the_box_is_around_the_nuclei():
    grid = CubeGrid.around(POSITIONS, 0.4, 2.0)
    points = grid.points()
    assert points.shape == (np.prod(grid.shape), 3)
    assert (points.min(axis=0) <= POSITIONS.min(axis=0) - 2.0).all()
    assert (points.max(axis=0) >= POSITIONS.max(axis=0) + 2.0).all()
    assert (points.max(axis=0) < POSITIONS.max(axis=0) + 2.4).all()
    middle = 0.5 * (POSITIONS.min(axis=0) + POSITIONS.max(axis=0))
    np.testing.assert_allclose(points.mean(axis=0), middle)
    np.testing.assert_allclose(points[1] - points[0], [0.0, 0.0, 0.4])


def test_ase_reads_what_is_written():
    grid = CubeGrid.around(POSITIONS, 0.9, 1.0)
    values = np.linalg.norm(grid.points() - POSITIONS[0], axis=1) * 1e-7
    text = cube_text(("one", "two"), (8, 1), POSITIONS, grid, values)
    assert max(map(len, text.splitlines())) <= 80
    found = read_cube(io.StringIO(text))
    np.testing.assert_allclose(found["data"].ravel(), values, rtol=1e-5)
    np.testing.assert_allclose(found["atoms"].positions, POSITIONS * Bohr, atol=1e-6)
    np.testing.assert_allclose(found["origin"], grid.origin * Bohr, atol=1e-6)
    np.testing.assert_allclose(np.diag(found["spacing"]), 0.9 * Bohr, atol=1e-6)
    assert found["atoms"].numbers.tolist() == [8, 1]


@pytest.mark.parametrize(
    ("spacing", "margin", "words"),
    [
        (0.0, 1.0, "spacing"),
        (-0.1, 1.0, "spacing"),
        (np.nan, 1.0, "spacing"),
        (0.2, -1.0, "margin"),
        (0.2, np.inf, "margin"),
        (1e-3, 9.0, "points"),
    ],
)
def test_a_box_that_is_none_is_refused(spacing, margin, words):
    with pytest.raises(BadInput, match=words):
        CubeGrid.around(POSITIONS, spacing, margin)
