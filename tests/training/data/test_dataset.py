"""What a run starts from: molecules by atoms and bonds, Bohr, a fingerprint of all of it."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr

from ase_srdft.common.errors import BadGeometry, BadInput
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.training.data.dataset import Dataset
from ase_srdft.training.data.isomers import names_of
from tests.tools.small_training import HCN, HNC, peroxide, rattled

WATER, HYDROGEN = molecule("H2O"), molecule("H2")
LEVEL = LevelOfTheory(xc="LDA", basis="sto-3g")


def test_nothing_to_start_from_is_refused():
    with pytest.raises(BadInput, match="no structures: give at least one"):
        Dataset.of([])


def test_structures_and_frames_go_through_the_door():
    box = molecule("H2O", pbc=True, vacuum=5.0)
    close = Atoms("HF", [[0, 0, 0], [0, 0, 0.2]])
    for bad, error in ((box, BadInput), (molecule("O2"), BadInput), (close, BadGeometry)):
        with pytest.raises(error, match=r"^structure 1"):
            Dataset.of([WATER, bad])
        with pytest.raises(error, match=r"^frame 1"):
            Dataset.of([], [WATER, bad])


def test_nuclei_that_were_checked_are_as_good_as_atoms():
    frames = rattled(2)
    data = Dataset.of([nuclei_of(WATER)], [nuclei_of(atoms) for atoms in frames])
    assert data.fingerprint == Dataset.of([WATER], frames).fingerprint


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


# Isomers and conformers


def near(atoms, count):
    """So many frames near a structure, which keep its bonds."""
    frames = [atoms.copy() for _ in range(count)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.01, seed=seed)
    return frames


def test_isomers_with_the_same_list_of_atoms_are_two_molecules():
    data = Dataset.of([HCN, HNC])
    assert data.compositions == ((1, 6, 7), (1, 6, 7))
    np.testing.assert_array_equal(data.references[1], HNC.positions / Bohr)
    assert data.nstructures == (1, 1)
    assert Dataset.of([HNC, HCN]).fingerprint != data.fingerprint != Dataset.of([HCN]).fingerprint


def test_every_isomer_of_a_file_in_any_order():
    third = Atoms("HCN", positions=[[0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.15]])
    data = Dataset.of([HNC, WATER, third, HCN, HNC])
    assert data.compositions == ((1, 6, 7), (8, 1, 1), (1, 6, 7), (1, 6, 7))
    assert data.further == ()


def test_conformers_are_structures_of_one_molecule():
    data = Dataset.of([peroxide(115.0), WATER, peroxide(180.0), peroxide(-115.0)])
    assert data.compositions == ((8, 8, 1, 1), (8, 1, 1))
    assert data.nstructures == (3, 1)
    for found, torsion in zip(data.structures_of(0), (115.0, 180.0, -115.0), strict=True):
        np.testing.assert_array_equal(found, peroxide(torsion).positions / Bohr)
    assert data.fingerprint != Dataset.of([peroxide(115.0), WATER]).fingerprint


def test_the_same_structure_twice_counts_once():
    data = Dataset.of([HCN, HCN.copy(), HNC, HCN])
    assert data.nstructures == (1, 1)
    assert data.fingerprint == Dataset.of([HCN, HNC]).fingerprint


def test_frames_belong_to_the_isomer_whose_bonds_they_have():
    mixed = [frame for pair in zip(near(HNC, 3), near(HCN, 3), strict=True) for frame in pair]
    assert [m for m, _ in Dataset.of([HCN, HNC], mixed).frames] == [1, 0] * 3
    # isomers that only frames have are molecules as well
    data = Dataset.of([HCN], mixed)
    assert [m for m, _ in data.frames] == [1, 0] * 3
    np.testing.assert_array_equal(data.references[1], mixed[0].positions / Bohr)
    assert [m for m, _ in Dataset.of([], mixed).frames] == [0, 1] * 3
    assert data.strays == ()


def test_a_few_frames_with_other_bonds_are_no_molecule():
    frames = [*near(HCN, 20), HNC, *near(HCN, 20)]
    for data in (Dataset.of([HCN], frames), Dataset.of([], frames)):
        assert data.compositions == ((1, 6, 7),)
        assert {m for m, _ in data.frames} == {0}
        assert data.strays == (20,)
    first = Dataset.of([], [HNC, *near(HCN, 40)])
    assert first.strays == (0,)
    np.testing.assert_array_equal(first.references[0], near(HCN, 1)[0].positions / Bohr)


def test_fingerprint_of_one_structure_a_molecule_is_what_it_was():
    """Runs that were begun by an older version go on."""
    digest = hashlib.sha256(repr(((8, 1, 1), (1, 1))).encode())
    for atoms in (WATER, HYDROGEN):
        digest.update(np.ascontiguousarray(atoms.positions / Bohr).tobytes())
    for atoms in rattled(2):
        digest.update(b"\0" + np.ascontiguousarray(atoms.positions / Bohr).tobytes())
    assert Dataset.of([WATER, HYDROGEN], rattled(2)).fingerprint == digest.hexdigest()


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
    molecules = Dataset.of([WATER, HYDROGEN]).molecules([LEVEL], "sap")
    assert [m.numbers for m in molecules] == [(8, 1, 1), (1, 1)]
    assert {(m.level, m.guess) for m in molecules} == {(LEVEL, "sap")}
    with pytest.raises(BadInput, match="H2O with charge 1 has 9 electrons, an open shell"):
        Dataset.of([WATER]).molecules([LevelOfTheory(charge=1)], "sap")
    with pytest.raises(BadInput, match="element with atomic number 54"):
        Dataset.of([Atoms("Xe")]).molecules([LEVEL], "sap")


def test_molecules_have_charges_of_their_own():
    hydroxide = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], charges=[-1, 0])
    neutral = Atoms("OH", hydroxide.positions)
    data = Dataset.of([WATER, hydroxide, hydroxide], [hydroxide])
    assert (data.charges, [m for m, _ in data.frames]) == ((0, -1), [1])
    assert [m.nelectron for m in data.molecules([LEVEL], "sap")] == [10, 10]
    other = Dataset.of([neutral])
    assert other.charges == (0,)
    assert other.molecules([replace(LEVEL, charge=-1)], "sap")[0].nelectron == 10
    assert other.fingerprint != Dataset.of([hydroxide]).fingerprint


def test_molecules_at_several_levels():
    levels = [LEVEL, replace(LEVEL, xc="PBE0"), replace(LEVEL, basis="6-31g")]
    moved = WATER.copy()
    moved.positions[0, 2] += 0.3
    plain = Dataset.of([WATER, HYDROGEN, moved], rattled(4))
    data = plain.at_levels(3)
    molecules = data.molecules(levels, "sap")
    assert [m.numbers for m in molecules] == 3 * [(8, 1, 1)] + 3 * [(1, 1)]
    assert [m.level for m in molecules] == 2 * levels
    assert [m for m, _ in data.frames] == [0, 1, 2, 0]
    assert data.nstructures == (2, 2, 2, 1, 1, 1)
    for level in range(3):
        for found, given in zip(data.structures_of(level), plain.structures_of(0), strict=True):
            np.testing.assert_array_equal(found, given)
    assert names_of(molecules)[1::3] == ["H2O PBE0/sto-3g", "H2 PBE0/sto-3g"]
    assert plain.at_levels(1) is plain
    with pytest.raises(ValueError, match="several levels"):
        data.at_levels(2)
    with pytest.raises(ValueError, match="1 levels"):
        data.molecules(levels[:1], "sap")
