"""What a run starts from: molecules by composition, Bohr, a fingerprint of all of it."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr

from ase_srdft.dft.level import LevelOfTheory
from ase_srdft.errors import BadInput
from ase_srdft.training.dataset import Dataset
from tests.small_training import rattled

WATER, HYDROGEN = molecule("H2O"), molecule("H2")
LEVEL = LevelOfTheory(xc="LDA", basis="sto-3g")


def test_nothing_to_start_from_is_refused():
    with pytest.raises(BadInput, match="no structures: give at least one"):
        Dataset.of([])


def test_one_molecule_for_each_composition_in_order():
    frames = [*rattled(2), HYDROGEN, *rattled(1, "NH3")]
    data = Dataset.of([HYDROGEN, WATER, WATER], frames)
    assert data.compositions == ((1, 1), (8, 1, 1), (7, 1, 1, 1))
    assert data.elements == (1, 7, 8)
    assert [index for index, _ in data.frames] == [1, 1, 0, 2]


def test_positions_in_bohr():
    data = Dataset.of([WATER], rattled(3))
    assert abs(WATER.positions).max() > 0.5
    np.testing.assert_array_equal(data.references[0], WATER.positions / Bohr)
    for (_, positions), atoms in zip(data.frames, rattled(3), strict=True):
        np.testing.assert_array_equal(positions, atoms.positions / Bohr)


def test_reference_is_the_first_structure_else_the_first_frame():
    first, second = rattled(2)
    np.testing.assert_array_equal(
        Dataset.of([WATER, first], [second]).references[0], WATER.positions / Bohr
    )
    np.testing.assert_array_equal(
        Dataset.of([], [first, second]).references[0], first.positions / Bohr
    )


def test_order_of_atoms_makes_another_molecule():
    turned = Atoms("H2O", WATER.positions[[1, 2, 0]])
    assert Dataset.of([WATER, turned]).compositions == ((8, 1, 1), (1, 1, 8))


def test_fingerprint():
    data = Dataset.of([WATER, HYDROGEN], rattled(3))
    assert len(data.fingerprint) == 64
    assert data.fingerprint == Dataset.of([WATER, HYDROGEN], rattled(3)).fingerprint
    moved = molecule("H2O")
    moved.positions[1, 2] += 1e-10
    others = [
        Dataset.of([moved, HYDROGEN], rattled(3)),
        Dataset.of([HYDROGEN, WATER], rattled(3)),
        Dataset.of([WATER], rattled(3)),
        Dataset.of([WATER, HYDROGEN], rattled(2)),
        Dataset.of([WATER, HYDROGEN], rattled(3)[::-1]),
        Dataset.of([WATER, HYDROGEN], [*rattled(2), moved]),
    ]
    prints = {data.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 1 + len(others)


def test_molecules_at_a_level():
    molecules = Dataset.of([WATER, HYDROGEN]).molecules(LEVEL, "sap")
    assert [m.numbers for m in molecules] == [(8, 1, 1), (1, 1)]
    assert {(m.level, m.guess) for m in molecules} == {(LEVEL, "sap")}
    with pytest.raises(BadInput, match="H2O with charge 1 has 9 electrons, an open shell"):
        Dataset.of([WATER]).molecules(LevelOfTheory(charge=1), "sap")
    with pytest.raises(BadInput, match="element with atomic number 54"):
        Dataset.of([Atoms("Xe")]).molecules(LEVEL, "sap")
