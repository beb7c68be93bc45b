"""From tensors to blocks: an orthogonal change of basis, in PySCF's order of orbitals."""

import numpy as np
import pytest
import torch

from ase_srdft.dft.basis.element_basis import element_basis
from ase_srdft.models.fock.block_layout import (
    block_layout,
    elements_by_placement,
    highest_angular_momentum,
    placements,
    rows_by_placement,
)
from tests.tools.molecules import harmonics_rotation, orbital_rotation, rotation_matrix, system

PAIRS = [(1, 1), (1, 8), (8, 1), (6, 8), (17, 6)]


@pytest.mark.parametrize("basis", ["sto-3g", "6-31g", "def2-svp", "def2-tzvp"])
@pytest.mark.parametrize("pair", PAIRS)
def test_assembly_is_orthogonal(pair, basis):
    layout = block_layout(basis, *pair)
    left, right = (element_basis(basis, number).nao for number in pair)
    assert layout.assembly.shape == (left * right, left * right)
    product = layout.assembly @ layout.assembly.T
    np.testing.assert_allclose(product, np.eye(left * right), atol=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_paths_fill_the_assembly(pair):
    layout = block_layout("def2-svp", *pair)
    ncomponents = [2 * angular + 1 for angular, _ in layout.keys]
    assert int(np.dot(ncomponents, layout.npaths)) == len(layout.assembly)
    assert len(set(layout.keys)) == len(layout.keys)
    assert {parity for _, parity in layout.keys} == {0, 1}


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("basis", ["def2-svp", "def2-tzvp"])
def test_each_path_turns_as_its_tensor(basis, pair, improper):
    """U_left B(t) U_right^T = B(D t), with a sign for pseudo-tensors: order of p to f included."""
    matrix = rotation_matrix(1, improper)
    layout = block_layout(basis, *pair)
    left, right = (orbital_rotation(basis, [number], matrix).numpy() for number in pair)
    start = 0
    for (angular, parity), npaths in zip(layout.keys, layout.npaths, strict=True):
        size = (2 * angular + 1) * npaths
        rows = layout.assembly[start : start + size]
        turn = harmonics_rotation(angular, matrix).numpy()
        tensors = np.random.default_rng(angular).standard_normal((2 * angular + 1, npaths))
        block = (tensors.ravel() @ rows).reshape(len(left), len(right))
        turned = ((turn @ tensors).ravel() @ rows).reshape(len(left), len(right))
        sign = -1.0 if improper and parity else 1.0
        assert np.abs(block).max() > 0.1
        np.testing.assert_allclose(left @ block @ right.T, sign * turned, atol=1e-11)
        start += size
    assert start == len(layout.assembly)


@pytest.mark.parametrize(
    ("basis", "lmax"), [("sto-3g", 2), ("6-31g", 2), ("def2-svp", 4), ("def2-tzvp", 6)]
)
def test_highest_angular_momentum(basis, lmax):
    assert highest_angular_momentum(basis, (1, 6)) == lmax


def test_hydrogen_alone_needs_none():
    assert highest_angular_momentum("sto-3g", (1,)) == 0


@pytest.mark.parametrize(("name", "basis"), [("H2CO", "def2-svp"), ("CH3CH2OH", "6-31g")])
def test_placements_cover_the_matrix_once(name, basis):
    molecule, _ = system(name, basis=basis)
    count = np.zeros(molecule.nao**2, dtype=int)
    nblocks = {}
    for diagonal in (True, False):
        for placement in placements(molecule, diagonal):
            np.add.at(count, placement.targets.numpy().ravel(), 1)
            nblocks[diagonal] = nblocks.get(diagonal, 0) + len(placement.sources)
            layout = block_layout(basis, *placement.elements)
            assert placement.targets.shape[1] == layout.assembly.shape[1]
    assert count.tolist() == [1] * molecule.nao**2
    assert nblocks == {True: molecule.natoms, False: molecule.natoms * (molecule.natoms - 1)}


def test_elements_stand_by_placement():
    molecule, _ = system("H2CO")
    matrix = torch.arange(molecule.nao**2)
    there = elements_by_placement(molecule, matrix.device).there(matrix)
    every = [each for diagonal in (True, False) for each in placements(molecule, diagonal)]
    parts = there.split([each.targets.numel() for each in every])
    for each, part in zip(every, parts, strict=True):
        assert torch.equal(part, each.targets.flatten())


@pytest.mark.parametrize("diagonal", [False, True])
def test_rows_stand_by_placement_and_geometry(diagonal):
    molecule, _ = system("H2CO")
    own = placements(molecule, diagonal)
    count = sum(len(each.sources) for each in own)
    order = rows_by_placement(molecule, 3, diagonal, torch.device("cpu"))
    parts = order.there(torch.arange(3 * count)).split([3 * len(each.sources) for each in own])
    for each, part in zip(own, parts, strict=True):
        expected = [count * geometry + int(row) for geometry in range(3) for row in each.sources]
        assert part.tolist() == expected


def test_an_atom_has_no_pairs():
    molecule, _ = system("He")
    assert not placements(molecule, diagonal=False)
    assert len(rows_by_placement(molecule, 2, False, torch.device("cpu")).order) == 0
